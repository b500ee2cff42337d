//! Bridges and their ports.

use std::fmt;

use super::Netlink;
use crate::{Mac, Result};

/// What a link is as a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeInfo {
    /// Frames are sorted by VLAN (IFLA_BR_VLAN_FILTERING).
    pub vlan_filtering: bool,
}

/// What a link is as a port of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgePort {
    /// Spanning tree state.
    pub state: PortState,
    /// Frames may leave by the port they came in (IFLA_BRPORT_MODE).
    pub hairpin: bool,
    /// Talks only to ports that are not isolated (IFLA_BRPORT_ISOLATED).
    pub isolated: bool,
}

/// Spanning tree state of a port (linux/if_bridge.h, `BR_STATE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// The link is down.
    Disabled,
    /// Spanning tree: listens.
    Listening,
    /// Spanning tree: learns addresses.
    Learning,
    /// Carries packets.
    Forwarding,
    /// Spanning tree: blocked.
    Blocking,
    /// Of a newer kernel.
    Other(u8),
}

/// A bridge to make.
#[derive(Clone, Copy, Debug)]
pub struct NewBridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; one that is given stays, none: it follows its ports.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes; none: follows its ports.
    pub mtu: Option<u32>,
    /// Sort frames by VLAN.
    pub vlan_filtering: bool,
    /// Set up.
    pub up: bool,
}

/// What to change on a port; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortChange {
    /// Frames may leave by the port they came in.
    pub hairpin: Option<bool>,
    /// Talks only to ports that are not isolated.
    pub isolated: Option<bool>,
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl Netlink {
    /// Makes a bridge.
    ///
    /// # Errors
    /// `is_exists` when the name is taken (by a bridge or by something else); `is_not_supported` when VLAN filtering
    /// was asked for and the kernel has none. Nothing was made.
    pub fn create_bridge(&self, bridge: &NewBridge<'_>) -> Result<()> {
        unimplemented!()
    }

    /// Changes what a link is as a bridge port.
    ///
    /// # Errors
    /// What the kernel said; the link is not a port of a bridge.
    pub fn set_bridge_port(&self, index: u32, change: &PortChange) -> Result<()> {
        unimplemented!()
    }
}
