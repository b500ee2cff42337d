//! The values of records in etcd: JSON objects with `"v":1`. Unknown fields are ignored.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// What all hosts of the cluster agree on. Written by the first agent, if absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`crate::VERSION`]
    pub v: u32,
    /// The cluster's id: hex digits drawn once.
    pub cluster: String,
    /// The lowest protocol that all hosts speak.
    pub protocol: u32,
    /// The UDP port of VXLAN.
    pub port: u16,
    /// The UDP port of VXLAN inside WireGuard.
    #[serde(rename = "encryptedPort")]
    pub encrypted_port: u16,
}

/// A host. Written by its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// [`crate::VERSION`]
    pub v: u32,
    /// Its name, for people.
    pub name: String,
    /// The sources of its VXLAN packets, at most one of a family.
    pub addresses: Vec<IpAddr>,
    /// The MTU of the link with these addresses, in bytes.
    pub mtu: u32,
    /// The agent's release.
    pub agent: String,
    /// The newest protocol that its agent speaks.
    pub protocol: u32,
}

/// A host's agent runs. Under a lease of `hostTtlS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// [`crate::VERSION`]
    pub v: u32,
    /// The boot id of the host, with the network namespace of its agent: two agents of one identity
    /// differ in it.
    pub boot: String,
}

/// A host whose lease has expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silent {
    /// [`crate::VERSION`]
    pub v: u32,
    /// When, in UTC, for people.
    pub since: String,
}

/// Keeps the addresses of a silent host, under a lease of `reclaimAfterS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grace {
    /// [`crate::VERSION`]
    pub v: u32,
}

/// A network. Written by the agent of the first ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    /// [`crate::VERSION`]
    pub v: u32,
    /// The VXLAN id; absent for a network that has addresses of the cluster alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// One or two subnets, of different families.
    #[serde(with = "crate::prefix")]
    pub subnets: Vec<IpNetwork>,
    /// A gateway for each of them, in their order.
    pub gateways: Vec<IpAddr>,
    /// Addresses in a block: a power of two, 4 to 1024.
    #[serde(rename = "blockSize")]
    pub block_size: u32,
    /// The MTU of the containers' links, in bytes; absent without a VXLAN id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether packets between hosts are encrypted.
    #[serde(default)]
    pub encrypted: bool,
    /// Whether broadcast and multicast reach all hosts.
    #[serde(default)]
    pub multicast: bool,
    /// Whether nothing outside is reached.
    #[serde(default)]
    pub internal: bool,
}

/// The network of a VXLAN id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vni {
    /// [`crate::VERSION`]
    pub v: u32,
    /// Its name.
    pub network: String,
}

/// The owner of a block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// [`crate::VERSION`]
    pub v: u32,
    /// The host's id.
    pub host: String,
}

/// An address that its block's owner has lent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// [`crate::VERSION`]
    pub v: u32,
    /// The id of the block's owner.
    pub from: String,
    /// The id of the host that has it now.
    pub to: String,
}

/// The addresses of a host in a network: sources of what the host itself sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// [`crate::VERSION`]
    pub v: u32,
    /// At most one of a family.
    pub ips: Vec<IpAddr>,
    /// The MAC of the network's bridge on that host, as the kernel prints it.
    pub mac: String,
}

/// The first subnet is meant where none is named.
fn is_first(subnet: &usize) -> bool {
    *subnet == 0
}

/// A host asks for an address of another host's block. Under a lease of 10 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// [`crate::VERSION`]
    pub v: u32,
    /// The id of the host that is asked, if any address will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Of which subnet of the network, if any address of it will do.
    #[serde(default, skip_serializing_if = "is_first")]
    pub subnet: usize,
    /// Why the owner refused: whose it is. Written by the owner; absent while the question is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// An attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// [`crate::VERSION`]
    pub v: u32,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its MAC, as the kernel prints it.
    pub mac: String,
    /// Its names and aliases, in lower case; the first is the canonical one.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whether services avoid it.
    #[serde(default)]
    pub drained: bool,
}
