//! Links: read, changed, deleted.

use std::fmt;

use super::{BridgeInfo, BridgePort, Netlink};
use crate::{Mac, Result};

/// A network interface, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Its Ethernet address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// `IFF_*` of linux/if.h.
    pub flags: u32,
    /// How many want it promiscuous: packet sockets count too (IFLA_PROMISCUITY).
    pub promiscuity: u32,
    /// RFC 2863 operational state.
    pub oper_state: OperState,
    /// Index of the bridge (or other device) it is a port of.
    pub master: Option<u32>,
    /// Driver: `veth`, `bridge`, `macvlan`; none for hardware.
    pub kind: Option<String>,
    /// Index of the veth peer or the parent device (IFLA_LINK), in the namespace that `peer_netns_id` names.
    pub peer_index: Option<u32>,
    /// The id by which this namespace knows the peer's namespace (IFLA_LINK_NETNSID); none: this one.
    pub peer_netns_id: Option<i32>,
    /// Free text (`ip link set alias`).
    pub alias: Option<String>,
    /// What it is as a port of a bridge.
    pub port: Option<BridgePort>,
    /// What it is as a bridge.
    pub bridge: Option<BridgeInfo>,
}

/// RFC 2863 operational state (linux/if.h, `IF_OPER_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperState {
    /// The driver does not say (loopback, some tunnels).
    Unknown,
    /// The device is gone.
    NotPresent,
    /// Not up, or no carrier.
    Down,
    /// The device below is down (a veth whose peer is down).
    LowerLayerDown,
    /// In a test.
    Testing,
    /// Waiting for something outside (802.1X).
    Dormant,
    /// Can carry packets.
    Up,
    /// Of a newer kernel.
    Other(u8),
}

/// What to change on a link; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChange<'a> {
    /// Set up or down.
    pub up: Option<bool>,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: Option<u32>,
    /// Free text, at most 255 bytes; empty removes it.
    pub alias: Option<&'a str>,
    /// The administrative promiscuity flag.
    pub promiscuous: Option<bool>,
    /// Index of the device to become a port of; 0 releases it.
    pub master: Option<u32>,
    /// New name.
    pub name: Option<&'a str>,
}

impl Link {
    /// Administratively up (IFF_UP).
    pub fn up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// Somebody set the promiscuity flag (IFF_PROMISC); see also `promiscuity`.
    pub fn promiscuous(&self) -> bool {
        self.flags & libc::IFF_PROMISC as u32 != 0
    }
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl Netlink {
    /// The link of that name; `None` if there is none.
    ///
    /// # Errors
    /// The kernel refused, or the name cannot be one (empty, over 15 bytes).
    pub fn link_by_name(&self, name: &str) -> Result<Option<Link>> {
        unimplemented!()
    }

    /// The link of that index; `None` if there is none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        unimplemented!()
    }

    /// All links.
    ///
    /// # Errors
    /// The kernel refused, or links changed during each of five attempts to list them.
    pub fn links(&self) -> Result<Vec<Link>> {
        unimplemented!()
    }

    /// Changes a link, in one request.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set_link(&self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        unimplemented!()
    }

    /// Deletes a link; a veth takes its peer along.
    ///
    /// # Errors
    /// What the kernel said; `is_not_found` when it is gone.
    pub fn delete_link(&self, index: u32) -> Result<()> {
        unimplemented!()
    }
}
