//! Bridges and their ports.

use std::fmt;

use libc::RTM_NEWLINK;
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder};
use sys::Result;

use super::{Link, lookup_request, quoted};
use crate::attr::{Attrs, Malformed};
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request, with};
use crate::{Mac, Netlink};

/// linux/if_link.h, attributes of a bridge.
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
/// `struct br_boolopt_multi` (linux/if_bridge.h): u32 values, u32 mask of the valid ones.
const IFLA_BR_MULTI_BOOLOPT: u16 = 46;
/// linux/if_bridge.h, BR_BOOLOPT_NO_LL_LEARN as a bit.
const NO_LINK_LOCAL_LEARN: u32 = 1;
/// linux/if_link.h, attributes of a bridge port. MODE is the hairpin flag.
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_ISOLATED: u16 = 33;

/// Attributes of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeInfo {
    /// The bridge filters by VLAN (IFLA_BR_VLAN_FILTERING).
    pub vlan_filtering: bool,
    /// The bridge does not learn from frames to link-local groups (BR_BOOLOPT_NO_LL_LEARN), which
    /// are not forwarded and so bypass its packet filters.
    pub no_link_local_learn: bool,
    /// The bridge sends multicast frames only where it heard of receivers (IFLA_BR_MCAST_SNOOPING).
    pub multicast_snooping: bool,
}

/// Attributes of a bridge port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgePort {
    /// Spanning tree state.
    pub state: PortState,
    /// Frames may leave by the port they arrived on (IFLA_BRPORT_MODE).
    pub hairpin: bool,
    /// The port exchanges frames only with ports that are not isolated (IFLA_BRPORT_ISOLATED).
    pub isolated: bool,
    /// The bridge learns the addresses behind the port from frames (IFLA_BRPORT_LEARNING).
    pub learning: bool,
    /// The bridge sends frames to addresses that it does not know to the port, too
    /// (IFLA_BRPORT_UNICAST_FLOOD).
    pub flood: bool,
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
    /// A state of a newer kernel.
    Other(u8),
}

/// A bridge to create.
#[derive(Clone, Copy, Debug)]
pub struct NewBridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address, which then stays; `None` follows its ports.
    pub mac: Option<Mac>,
    /// Its MTU, in bytes; `None` follows its ports.
    pub mtu: Option<u32>,
    /// Filter by VLAN.
    pub vlan_filtering: bool,
    /// Set it up.
    pub up: bool,
}

/// Changes to a port; `None` keeps a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortChange {
    /// Frames may leave by the port they arrived on.
    pub hairpin: Option<bool>,
    /// Exchange frames only with ports that are not isolated.
    pub isolated: Option<bool>,
    /// Learn the addresses behind the port.
    pub learning: Option<bool>,
    /// Send frames to unknown addresses to the port.
    pub flood: Option<bool>,
}

impl PortState {
    /// Whether spanning tree keeps the port from forwarding. Without spanning tree, every enabled
    /// port forwards.
    pub fn is_held_by_spanning_tree(self) -> bool {
        matches!(self, Self::Listening | Self::Learning | Self::Blocking)
    }
}

impl From<u8> for PortState {
    fn from(state: u8) -> Self {
        match state {
            0 => Self::Disabled,
            1 => Self::Listening,
            2 => Self::Learning,
            3 => Self::Forwarding,
            4 => Self::Blocking,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Listening => "listening",
            Self::Learning => "learning",
            Self::Forwarding => "forwarding",
            Self::Blocking => "blocking",
            Self::Other(state) => return write!(f, "state {state}"),
        })
    }
}

impl BridgeInfo {
    /// Reads the IFLA_INFO_DATA of a bridge. A kernel omits attributes that it lacks.
    pub(crate) fn read(attrs: Attrs<'_>) -> Result<Self, Malformed> {
        let mut info = Self { vlan_filtering: false, no_link_local_learn: false, multicast_snooping: false };
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFLA_BR_VLAN_FILTERING => info.vlan_filtering = attr.u8()? != 0,
                IFLA_BR_MCAST_SNOOPING => info.multicast_snooping = attr.u8()? != 0,
                IFLA_BR_MULTI_BOOLOPT => {
                    let values = attr.payload.first_chunk().copied().map(u32::from_ne_bytes);
                    info.no_link_local_learn = values.unwrap_or(0) & NO_LINK_LOCAL_LEARN != 0;
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

impl BridgePort {
    /// Reads the IFLA_INFO_SLAVE_DATA of a bridge port.
    pub(crate) fn read(attrs: Attrs<'_>) -> Result<Self, Malformed> {
        let mut port =
            Self { state: PortState::Disabled, hairpin: false, isolated: false, learning: true, flood: true };
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFLA_BRPORT_STATE => port.state = attr.u8()?.into(),
                IFLA_BRPORT_MODE => port.hairpin = attr.u8()? != 0,
                IFLA_BRPORT_LEARNING => port.learning = attr.u8()? != 0,
                IFLA_BRPORT_UNICAST_FLOOD => port.flood = attr.u8()? != 0,
                IFLA_BRPORT_ISOLATED => port.isolated = attr.u8()? != 0,
                _ => {}
            }
        }
        Ok(port)
    }
}

impl PortChange {
    fn request(&self, index: u32) -> Request {
        let port = with(LinkBridgePort::new(index), self.hairpin, LinkMessageBuilder::hairpin);
        let port = with(port, self.learning, LinkMessageBuilder::<LinkBridgePort>::learning);
        let port = with(port, self.flood, LinkMessageBuilder::<LinkBridgePort>::flood);
        let port = with(port, self.isolated, LinkMessageBuilder::isolated);
        // RTM_NEWLINK without CREATE: the kernel acknowledges RTM_SETLINK but ignores these
        // attributes.
        Request::of(RTM_NEWLINK, 0, &port.build())
    }
}

impl NewBridge<'_> {
    fn request(&self, group: Option<u32>) -> Request {
        let bridge = LinkMessageBuilder::<LinkBridge>::new(self.name).no_linklocal_learn(true);
        let bridge = with(bridge, self.mac, |bridge, mac| bridge.address(mac.0.to_vec()));
        let bridge = with(bridge, self.mtu, LinkMessageBuilder::mtu);
        let bridge = with(bridge, self.vlan_filtering.then_some(true), LinkMessageBuilder::vlan_filtering);
        let bridge = with(bridge, group, |bridge, group| bridge.link_group(group).mcast_snooping(false));
        let bridge = if self.up { bridge.up() } else { bridge };
        Request::of(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &bridge.build()).named(self.name)
    }
}

impl Netlink {
    /// Creates a bridge.
    ///
    /// # Errors
    /// `is_exists` when the name is taken (by a bridge or another link); `is_not_supported` when
    /// VLAN filtering was requested and the kernel lacks it. Nothing was created.
    pub fn create_bridge(&self, bridge: &NewBridge<'_>) -> Result<()> {
        self.change("create bridge", bridge.request(None), || quoted(bridge.name))
    }

    /// Creates a bridge in a group of links ([`Netlink::delete_link_group`]), which sends multicast
    /// frames to all of its ports, whoever listens.
    ///
    /// # Errors
    /// As for [`Netlink::create_bridge`].
    pub fn create_bridge_in_group(&self, bridge: &NewBridge<'_>, group: u32) -> Result<()> {
        self.change("create bridge", bridge.request(Some(group)), || quoted(bridge.name))
    }

    /// Changes attributes of a bridge port.
    ///
    /// # Errors
    /// The kernel refused; the link is not a port of a bridge.
    pub fn set_bridge_port(&self, index: u32, change: &PortChange) -> Result<()> {
        self.change("set bridge port", change.request(index), || self.link_label(index))
    }

    /// Lists the ports of a bridge.
    ///
    /// # Errors
    /// As for [`Netlink::links`].
    pub fn ports(&self, bridge: u32) -> Result<Vec<Link>> {
        let request = lookup_request(0).controller(bridge);
        let mut ports = self.list_links(request, || format!("ports of {bridge}"))?;
        // The kernel filters, but older ones do not.
        ports.retain(|port| port.master == Some(bridge));
        Ok(ports)
    }
}
