//! What ADD answers, in the newest shape.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::{Error, Version};

/// The answer of ADD, in the shape of 1.0.0 and 1.1.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// The links that were made or are used, host side first.
    pub interfaces: Vec<Interface>,
    /// The addresses.
    pub ips: Vec<IpConfig>,
    /// The routes of the container.
    pub routes: Vec<Route>,
    /// The resolver configuration.
    pub dns: Dns,
}

/// A link of the result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The link's name; always printed.
    pub name: String,
    /// Its MAC address, as text.
    pub mac: Option<String>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// The namespace path, for a link in a container.
    pub sandbox: Option<String>,
    /// The vhost-user socket.
    pub socket_path: Option<String>,
    /// The PCI id of a device.
    pub pci_id: Option<String>,
}

/// An address of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// Index into [`AddResult::interfaces`].
    pub interface: Option<usize>,
    /// The address with its host bits and prefix length.
    pub address: IpNetwork,
    /// The gateway.
    pub gateway: Option<IpAddr>,
}

/// A route of the result. Unset and zero differ for `table` and `scope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination, host bits kept.
    pub dst: IpNetwork,
    /// The next hop.
    pub gw: Option<IpAddr>,
    /// RTAX_MTU in bytes; 0 is unset.
    pub mtu: u32,
    /// RTAX_ADVMSS in bytes; 0 is unset.
    pub advmss: u32,
    /// The metric; 0 is unset.
    pub priority: u32,
    /// The routing table.
    pub table: Option<u32>,
    /// rtm_scope.
    pub scope: Option<u8>,
}

/// The resolver configuration of the result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Server addresses, as text.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: String,
    /// Search domains.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl AddResult {
    /// Whether this result can be said in that version; the error is the one the reference prints.
    pub fn convertible_to(&self, _version: Version) -> Result<(), Error> {
        unimplemented!()
    }
}
