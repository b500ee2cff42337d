//! The files of a host, and their paths.
//!
//! ```text
//! /var/lib/moor/overlay/                 0700; stays until the host leaves
//!   host.json                            [`Identity`]
//!   net/<network>.json                   [`crate::record::Net`]: a copy, so that ADD works without etcd
//!   net/<network>/blocks.json            [`Blocks`]; written by the agent
//!   net/<network>/limits.json            [`LimitsFile`]; written by plugins, for the agent
//! /run/moor/overlay/<network namespace>/ 0700
//!   lock                                 held by a plugin while it starts the agent
//!   agent.lock                           held by the agent for its life; begins with its process id
//!   control.sock                         see [`crate::control`]
//!   contact                              when etcd was heard of last, in seconds since boot
//!   lease                                [`LeaseFile`]: the agent's lease of etcd, for its successor
//!   att/<network>/<container>@<ifname>.json   [`Attachment`]; written by `overlay`
//! ```
//!
//! Every file appears whole, by rename. Names of networks and containers are CNI's, and at most
//! [`crate::key::NAME_MAX`] bytes long, so they are parts of paths as they are.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::block::Limits;

/// The state that stays.
pub const STATE: &str = "/var/lib/moor/overlay";
/// The state of this boot; below it a directory for each network namespace.
pub const RUN: &str = "/run/moor/overlay";
/// The configuration of the host.
pub const SETTINGS: &str = "/etc/moor/cluster.json";

/// The file of the last contact with etcd.
pub const CONTACT: &str = "contact";

/// `host.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`crate::VERSION`]
    pub v: u32,
    /// 64 random bits, as 16 hex digits.
    pub id: String,
}

/// `blocks.json`: the addresses of a network that this host may give.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// [`crate::VERSION`]
    pub v: u32,
    /// The first address of each block of this host.
    pub blocks: Vec<IpAddr>,
    /// Addresses in these blocks that other hosts have: not given.
    #[serde(default)]
    pub lent: Vec<IpAddr>,
    /// Addresses of other hosts' blocks that this host has.
    #[serde(default)]
    pub borrowed: Vec<IpAddr>,
    /// The host's own overlay addresses, at most one of a family: not given.
    pub own: Vec<IpAddr>,
    /// No address is given: the host was cut off for longer than half of `reclaimAfterS`.
    #[serde(default)]
    pub closed: bool,
}

/// `limits.json`: what the network's configuration on this host keeps back. Without it nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsFile {
    /// [`crate::VERSION`]
    pub v: u32,
    /// What the agent does not claim blocks for.
    pub limits: Limits,
}

/// The namespace of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its path at the time of ADD.
    pub path: String,
    /// Its inode. Another one at the path is not entered.
    pub inode: u64,
}

/// The record of an attachment on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// [`crate::VERSION`]
    pub v: u32,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its MAC, as the kernel prints it.
    pub mac: String,
    /// Its names and aliases; the first is the canonical one.
    pub names: Vec<String>,
    /// Its namespace.
    pub netns: Namespace,
    /// The host's end of its pair.
    pub veth: String,
}

/// `lease`: lets a successor of the agent keep the host alive without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseFile {
    /// [`crate::VERSION`]
    pub v: u32,
    /// etcd's id of the lease.
    pub lease: i64,
    /// The id of etcd's cluster.
    pub cluster: String,
}

/// The attachments of one remote host, for the responder of `dns`:
/// `<directory of dns>/net/<network>/remote/<host>.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteNames {
    /// [`crate::VERSION`]
    pub v: u32,
    /// The host's name, for people.
    pub host: String,
    /// Whether the host is silent: its addresses are left out while a name has others.
    pub silent: bool,
    /// Its attachments.
    pub attachments: Vec<RemoteAttachment>,
}

/// An attachment of a remote host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteAttachment {
    /// Its names and aliases, in lower case; the first is the canonical one.
    pub names: Vec<String>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}
