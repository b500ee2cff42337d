//! Links: reading, changing and deleting them; one file for each kind of link that is created.
//!
//! rtnetlink's builders make the requests. Two attributes are added as raw bytes, because the
//! builders cannot write them as the kernel expects: an alias without a terminating NUL, and the
//! alternative name in a lookup.

mod bridge;
mod dummy;
mod ifb;
mod ipvlan;
mod macvlan;
mod move_link;
mod parameters;
mod probe;
pub(crate) mod read;
mod stacked;
mod tun;
mod veth;
pub(crate) mod vlan;
mod vlan_link;
mod vrf;
mod vxlan;

use std::fmt;

use libc::{RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK};
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use sys::Result;

use crate::message::{Refusal, Request, with};
use crate::{Mac, Netlink};

pub use bridge::{BridgeInfo, BridgePort, NewBridge, PortChange, PortState};
pub use dummy::Dummy;
pub use ipvlan::{Ipvlan, IpvlanFlag, IpvlanMode};
pub use macvlan::{Macvlan, MacvlanInfo, MacvlanMode};
pub use move_link::LinkMove;
pub use parameters::Parameter;
pub use stacked::Stacked;
pub use tun::TunInfo;
pub use veth::{Veth, VethPeer};
pub use vlan::PortVlans;
pub use vlan_link::{PriorityMap, Vlan, VlanFlags, VlanProtocol};
pub use vrf::Vrf;
pub use vxlan::{NewVxlan, VxlanInfo};

/// linux/if_link.h, attributes of a link.
pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_MASTER: u16 = 10;
pub(crate) const IFLA_TXQLEN: u16 = 13;
pub(crate) const IFLA_OPERSTATE: u16 = 16;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_IFALIAS: u16 = 20;
pub(crate) const IFLA_AF_SPEC: u16 = 26;
pub(crate) const IFLA_GROUP: u16 = 27;
pub(crate) const IFLA_PROMISCUITY: u16 = 30;
pub(crate) const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_NEW_IFINDEX: u16 = 49;
const IFLA_ALT_IFNAME: u16 = 53;
pub(crate) const IFLA_PERM_ADDRESS: u16 = 54;

/// linux/if_link.h, attributes inside IFLA_LINKINFO.
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
pub(crate) const IFLA_INFO_SLAVE_KIND: u16 = 4;
pub(crate) const IFLA_INFO_SLAVE_DATA: u16 = 5;

/// linux/if.h: the longest interface name, in bytes (IFNAMSIZ - 1).
const NAME_MAX: usize = 15;
/// linux/if.h: the longest alternative name, in bytes (ALTIFNAMSIZ - 1).
const ALTERNATIVE_NAME_MAX: usize = 127;
/// linux/if.h.
pub(crate) const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_PROMISC: u32 = 0x100;
const IFF_ALLMULTI: u32 = 0x200;
const IFF_LOWER_UP: u32 = 0x1_0000;

/// A network interface, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Ethernet address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// The Ethernet address that the hardware has (IFLA_PERM_ADDRESS, since Linux 5.6): nobody can
    /// change it.
    pub permanent_mac: Option<Mac>,
    /// MTU, in bytes.
    pub mtu: u32,
    /// `IFF_*` of linux/if.h.
    pub flags: u32,
    /// The number of users that want it promiscuous, packet sockets included (IFLA_PROMISCUITY).
    pub promiscuity: u32,
    /// The most packets that wait to be sent (IFLA_TXQLEN).
    pub queue_length: u32,
    /// RFC 2863 operational state.
    pub oper_state: OperState,
    /// Index of the bridge (or other device) that it is a port of.
    pub master: Option<u32>,
    /// Driver: `veth`, `bridge`, `macvlan`; `None` for hardware.
    pub kind: Option<String>,
    /// Index of the veth peer or the parent device (IFLA_LINK), in the namespace of
    /// `peer_netns_id`.
    pub peer_index: Option<u32>,
    /// This namespace's id for the peer's namespace (IFLA_LINK_NETNSID); `None` is this one.
    pub peer_netns_id: Option<i32>,
    /// Free text (`ip link set alias`).
    pub alias: Option<String>,
    /// Its group (`ip link set group`); 0 is the default group.
    pub group: u32,
    /// Whether the kernel generates a link-local IPv6 address when it is up
    /// (IFLA_INET6_ADDR_GEN_MODE).
    pub makes_link_local: bool,
    /// Its attributes as a bridge port.
    pub port: Option<BridgePort>,
    /// Its attributes as a bridge.
    pub bridge: Option<BridgeInfo>,
    /// Its attributes as a macvlan.
    pub macvlan: Option<MacvlanInfo>,
    /// Its attributes as an ipvlan.
    pub ipvlan: Option<Ipvlan>,
    /// Its attributes as a VLAN of its parent.
    pub vlan: Option<Vlan>,
    /// Its attributes as a TUN or TAP device.
    pub tun: Option<TunInfo>,
    /// Its routing table as a VRF device.
    pub vrf_table: Option<u32>,
    /// Its attributes as a VXLAN device.
    pub vxlan: Option<VxlanInfo>,
}

/// RFC 2863 operational state (linux/if.h, `IF_OPER_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperState {
    /// The driver does not report a state (loopback, some tunnels).
    Unknown,
    /// The device is gone.
    NotPresent,
    /// Not up, or no carrier.
    Down,
    /// The lower device is down (a veth with a peer that is down).
    LowerLayerDown,
    /// In a test mode.
    Testing,
    /// Waiting for an external event (802.1X).
    Dormant,
    /// Can carry packets.
    Up,
    /// A state of a newer kernel.
    Other(u8),
}

/// Changes to a link; `None` keeps a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChange<'a> {
    /// Set it up or down.
    pub up: Option<bool>,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// MTU, in bytes.
    pub mtu: Option<u32>,
    /// Free text, at most 255 bytes; empty removes it.
    pub alias: Option<&'a str>,
    /// The administrative promiscuity flag.
    pub promiscuous: Option<bool>,
    /// The administrative flag to receive every multicast frame.
    pub all_multicast: Option<bool>,
    /// The most packets that wait to be sent.
    pub queue_length: Option<u32>,
    /// Index of the device it becomes a port of; 0 releases it.
    pub master: Option<u32>,
    /// New name.
    pub name: Option<&'a str>,
    /// Its group; see [`Netlink::delete_link_group`].
    pub group: Option<u32>,
}

impl Link {
    /// Administratively up (IFF_UP).
    pub fn up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// A loopback link (IFF_LOOPBACK).
    pub fn loopback(&self) -> bool {
        self.flags & IFF_LOOPBACK != 0
    }

    /// Up, and the lower device carries packets (IFF_LOWER_UP).
    pub fn carrier(&self) -> bool {
        self.flags & IFF_LOWER_UP != 0
    }

    /// The promiscuity flag is set (IFF_PROMISC); see also `promiscuity`.
    pub fn promiscuous(&self) -> bool {
        self.flags & IFF_PROMISC != 0
    }

    /// An administrator has made it receive every multicast frame (IFF_ALLMULTI).
    pub fn all_multicast(&self) -> bool {
        self.flags & IFF_ALLMULTI != 0
    }
}

impl From<u8> for OperState {
    fn from(state: u8) -> Self {
        match state {
            0 => Self::Unknown,
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::NotPresent => "not-present",
            Self::Down => "down",
            Self::LowerLayerDown => "lower-layer-down",
            Self::Testing => "testing",
            Self::Dormant => "dormant",
            Self::Up => "up",
            Self::Other(state) => return write!(f, "state {state}"),
        })
    }
}

fn change_request(index: u32, change: &LinkChange<'_>) -> Request {
    let link = LinkUnspec::new_with_index(index);
    let link = with(link, change.up, |link, up| if up { link.up() } else { link.down() });
    let link = with(link, change.promiscuous, LinkMessageBuilder::promiscuous);
    let link = with(link, change.all_multicast, LinkMessageBuilder::allmulticast);
    let link = with(link, change.queue_length, LinkMessageBuilder::txqueuelen);
    let link = with(link, change.mac, |link, mac| link.address(mac.0.to_vec()));
    let link = with(link, change.mtu, LinkMessageBuilder::mtu);
    // The kernel stores the bytes as they are, and the builder would append a NUL.
    let link = with(link, change.alias, |link, alias| {
        link.append_extra_attribute(raw(IFLA_IFALIAS, alias.as_bytes()))
    });
    let link = with(link, change.master, LinkMessageBuilder::controller);
    let link = with(link, change.name, LinkMessageBuilder::name);
    let link = with(link, change.group, LinkMessageBuilder::link_group);
    Request::of(RTM_NEWLINK, 0, &link.build()).named(change.name.unwrap_or_default())
}

/// An attribute with these bytes.
fn raw(kind: u16, bytes: &[u8]) -> LinkAttribute {
    LinkAttribute::Other(DefaultNla::new(kind, bytes.to_vec()))
}

impl Netlink {
    /// Returns the link of that name (or alternative name); `None` if it does not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn link_by_name(&self, name: &str) -> Result<Option<Link>> {
        // The kernel refuses impossible names.
        if name.is_empty() || name.len() > ALTERNATIVE_NAME_MAX || name.contains('\0') {
            return Ok(None);
        }
        // Only IFLA_ALT_IFNAME takes longer names; IFLA_IFNAME finds both kinds.
        let attribute = if name.len() > NAME_MAX {
            raw(IFLA_ALT_IFNAME, &[name.as_bytes(), &[0]].concat())
        } else {
            LinkAttribute::IfName(name.to_owned())
        };
        let link = lookup_request(0).append_extra_attribute(attribute);
        self.find_link(link).map_err(|refusal| refusal.on("look up link", quoted(name)))
    }

    /// Returns the link of that index; `None` if it does not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        // With index 0, the kernel would require a name.
        if index == 0 {
            return Ok(None);
        }
        self.find_link(lookup_request(index))
            .map_err(|refusal| refusal.on("look up link", format!("{index}")))
    }

    fn find_link(&self, link: LinkMessageBuilder<LinkUnspec>) -> Result<Option<Link>, Refusal> {
        let request = Request::of(RTM_GETLINK, 0, &link.build());
        match self.socket.get(request, |payload| Ok(read::link(payload)?)) {
            Ok(link) => Ok(Some(link)),
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Lists all links.
    ///
    /// # Errors
    /// The kernel refused, or links changed during every attempt for ten seconds.
    pub fn links(&self) -> Result<Vec<Link>> {
        self.list_links(lookup_request(0), || "links".into())
    }

    /// Lists all links of the namespace that has this number here ([`Netlink::netns_ids`]).
    ///
    /// # Errors
    /// As for [`Netlink::links`]; also when that namespace is gone.
    pub fn links_in(&self, netns_id: i32) -> Result<Vec<Link>> {
        let attribute = raw(IFLA_TARGET_NETNSID, &netns_id.to_ne_bytes());
        let request = lookup_request(0).append_extra_attribute(attribute);
        self.list_links(request, || format!("links of namespace {netns_id}"))
    }

    fn list_links(
        &self,
        request: LinkMessageBuilder<LinkUnspec>,
        label: impl FnOnce() -> String,
    ) -> Result<Vec<Link>> {
        self.socket
            .dump(Request::of(RTM_GETLINK, 0, &request.build()), |payload, links| {
                links.push(read::link(payload)?);
                Ok(())
            })
            .map_err(|refusal| refusal.on("list", label()))
    }

    /// Changes a link, in one request.
    ///
    /// # Errors
    /// The kernel refused; changes before the refused one are made, in the order of the fields
    /// (MAC, MTU, group, name, alias, flags, master, queue length).
    pub fn set_link(&self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        // RTM_NEWLINK without CREATE: RTM_SETLINK would acknowledge attributes that it ignores.
        self.change("change link", change_request(index, change), || self.link_label(index))
    }

    /// Makes the kernel announce every address of a link that is up, by setting the Ethernet
    /// address that it already has: with a gratuitous ARP for each IPv4 address if
    /// `net/ipv4/conf/<link>/arp_notify` is 1, with an unsolicited Neighbour Advertisement for each
    /// IPv6 address if `net/ipv6/conf/<link>/ndisc_notify` is 1.
    ///
    /// A packet socket could do the same, but closing it waits 10 ms for an RCU grace period.
    ///
    /// # Errors
    /// The kernel refused; ipvlan links do not let their address be set (`is_not_supported`).
    pub fn announce(&self, index: u32, mac: Mac) -> Result<()> {
        let change = LinkChange { mac: Some(mac), ..LinkChange::default() };
        self.change("announce addresses of", change_request(index, &change), || self.link_label(index))
    }

    /// Deletes a link; deleting a veth also deletes its peer.
    ///
    /// # Errors
    /// The kernel refused; `is_not_found` when the link does not exist.
    pub fn delete_link(&self, index: u32) -> Result<()> {
        let request = Request::of(RTM_DELLINK, 0, &LinkUnspec::new_with_index(index).build());
        self.change("delete link", request, || self.link_label(index))
    }

    /// Deletes all links of a group of this namespace, with their veth peers: all or none, in the
    /// time of a few.
    ///
    /// # Errors
    /// The kernel refused: group 0 is everybody's, and hardware cannot be deleted; `is_not_found`
    /// when the group has no link.
    pub fn delete_link_group(&self, group: u32) -> Result<()> {
        let links = LinkUnspec::new_with_index(0).link_group(group);
        let request = Request::of(RTM_DELLINK, 0, &links.build());
        self.change("delete links of group", request, || group.to_string())
    }
}

/// A request for a link's description, without counters.
fn lookup_request(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]))
}

/// Quotes a name for an error message, on one line.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.escape_debug())
}
