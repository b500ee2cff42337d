//! Links: read, changed, deleted; one file for each kind of link that is made.

mod bridge;
mod dummy;
mod ipvlan;
mod macvlan;
mod probe;
pub(crate) mod read;
mod stacked;
mod veth;
pub(crate) mod vlan;
mod vlan_link;

use std::fmt;

use sys::Result;

use crate::message::{Refusal, Request};
use crate::{Mac, Netlink};

pub use bridge::{BridgeInfo, BridgePort, NewBridge, PortChange, PortState};
pub use ipvlan::{Ipvlan, IpvlanFlag, IpvlanMode};
pub use macvlan::{Macvlan, MacvlanInfo, MacvlanMode};
pub use stacked::Stacked;
pub use veth::{Veth, VethPeer};
pub use vlan::PortVlans;
pub use vlan_link::VlanInfo;

/// linux/rtnetlink.h, message types.
pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_SETLINK: u16 = 19;

/// linux/if_link.h, attributes of a link.
pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_MASTER: u16 = 10;
pub(crate) const IFLA_OPERSTATE: u16 = 16;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_IFALIAS: u16 = 20;
pub(crate) const IFLA_AF_SPEC: u16 = 26;
pub(crate) const IFLA_GROUP: u16 = 27;
pub(crate) const IFLA_NET_NS_FD: u16 = 28;
pub(crate) const IFLA_EXT_MASK: u16 = 29;
pub(crate) const IFLA_PROMISCUITY: u16 = 30;
pub(crate) const IFLA_NUM_TX_QUEUES: u16 = 31;
pub(crate) const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_ALT_IFNAME: u16 = 53;

/// linux/if_link.h, attributes inside IFLA_LINKINFO.
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
pub(crate) const IFLA_INFO_SLAVE_KIND: u16 = 4;
pub(crate) const IFLA_INFO_SLAVE_DATA: u16 = 5;

/// linux/rtnetlink.h: leave the counters out of the description.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// linux/if.h: the longest interface name, in bytes (IFNAMSIZ - 1).
const NAME_MAX: usize = 15;
/// linux/if.h: the longest alternative name, in bytes (ALTIFNAMSIZ - 1).
const ALTERNATIVE_NAME_MAX: usize = 127;
/// linux/if.h.
pub(crate) const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_PROMISC: u32 = 0x100;
const IFF_LOWER_UP: u32 = 0x1_0000;

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
    /// The group it is in (`ip link set group`); 0 is everybody's.
    pub group: u32,
    /// The kernel makes a link-local IPv6 address for it when it is up (IFLA_INET6_ADDR_GEN_MODE).
    pub makes_link_local: bool,
    /// What it is as a port of a bridge.
    pub port: Option<BridgePort>,
    /// What it is as a bridge.
    pub bridge: Option<BridgeInfo>,
    /// What it is as a macvlan.
    pub macvlan: Option<MacvlanInfo>,
    /// What it is as an ipvlan.
    pub ipvlan: Option<Ipvlan>,
    /// What it is as a VLAN of its parent.
    pub vlan: Option<VlanInfo>,
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
        self.flags & IFF_UP != 0
    }

    /// A loopback link (IFF_LOOPBACK).
    pub fn loopback(&self) -> bool {
        self.flags & IFF_LOOPBACK != 0
    }

    /// Up, and what is below it carries packets (IFF_LOWER_UP).
    pub fn carrier(&self) -> bool {
        self.flags & IFF_LOWER_UP != 0
    }

    /// Somebody set the promiscuity flag (IFF_PROMISC); see also `promiscuity`.
    pub fn promiscuous(&self) -> bool {
        self.flags & IFF_PROMISC != 0
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

/// `struct ifinfomsg` (linux/rtnetlink.h); of `flags`, the bits in `change` count.
pub(crate) fn header(family: u8, index: u32, flags: u32, change: u32) -> Vec<u8> {
    [&[family, 0, 0, 0][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &change.to_ne_bytes()].concat()
}

/// Flags and change mask for what is to be set or cleared.
fn flag_bits(bits: &[(u32, Option<bool>)]) -> (u32, u32) {
    bits.iter().fold((0, 0), |(flags, change), &(bit, wanted)| match wanted {
        Some(true) => (flags | bit, change | bit),
        Some(false) => (flags, change | bit),
        None => (flags, change),
    })
}

fn change_request(index: u32, change: &LinkChange<'_>) -> Request {
    let (flags, mask) = flag_bits(&[(IFF_UP, change.up), (IFF_PROMISC, change.promiscuous)]);
    let mut request = Request::new(RTM_NEWLINK, 0, &header(0, index, flags, mask));
    let attrs = &mut request.attrs;
    if let Some(mac) = change.mac {
        attrs.bytes(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = change.mtu {
        attrs.u32(IFLA_MTU, mtu);
    }
    if let Some(alias) = change.alias {
        // The kernel keeps the bytes as they come: no NUL at the end.
        attrs.bytes(IFLA_IFALIAS, alias.as_bytes());
    }
    if let Some(master) = change.master {
        attrs.u32(IFLA_MASTER, master);
    }
    if let Some(name) = change.name {
        attrs.string(IFLA_IFNAME, name);
    }
    request
}

impl Netlink {
    /// The link of that name (or alternative name); `None` if there is none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn link_by_name(&self, name: &str) -> Result<Option<Link>> {
        // The kernel refuses to look for what cannot be there.
        if name.is_empty() || name.len() > ALTERNATIVE_NAME_MAX || name.contains('\0') {
            return Ok(None);
        }
        let mut request = question(0);
        // Only the second takes the longer ones; the first takes either.
        let attribute = if name.len() > NAME_MAX { IFLA_ALT_IFNAME } else { IFLA_IFNAME };
        request.attrs.string(attribute, name);
        self.find_link(request).map_err(|refusal| refusal.on("look up link", quoted(name)))
    }

    /// The link of that index; `None` if there is none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        // Zero is no index: the kernel would ask for a name.
        if index == 0 {
            return Ok(None);
        }
        self.find_link(question(index)).map_err(|refusal| refusal.on("look up link", format!("{index}")))
    }

    fn find_link(&self, request: Request) -> Result<Option<Link>, Refusal> {
        match self.socket.get(request, |payload| Ok(read::link(payload)?)) {
            Ok(link) => Ok(Some(link)),
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// All links.
    ///
    /// # Errors
    /// The kernel refused, or links changed whenever they were listed, for ten seconds.
    pub fn links(&self) -> Result<Vec<Link>> {
        self.socket
            .dump(question(0), |payload, links| {
                links.push(read::link(payload)?);
                Ok(())
            })
            .map_err(|refusal| refusal.on("list", "links"))
    }

    /// Changes a link, in one request.
    ///
    /// # Errors
    /// What the kernel said; what was refused comes after what was done, in the order of the fields
    /// (MAC, MTU, name, alias, flags, master).
    pub fn set_link(&self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        // RTM_NEWLINK without CREATE, and never RTM_SETLINK: that acknowledges what it ignores.
        self.change("change link", change_request(index, change), || self.link_label(index))
    }

    /// Has the kernel announce every address of a link that is up, by setting the Ethernet address that it has: a
    /// gratuitous ARP for each IPv4 address if `net/ipv4/conf/<link>/arp_notify` is 1, an unsolicited Neighbour
    /// Advertisement for each IPv6 address if `net/ipv6/conf/<link>/ndisc_notify` is 1.
    ///
    /// A packet socket of our own would do the same, and wait 10 ms for an RCU grace period at its close.
    ///
    /// # Errors
    /// What the kernel said; ipvlan links cannot have their address set (`is_not_supported`).
    pub fn announce(&self, index: u32, mac: Mac) -> Result<()> {
        let change = LinkChange { mac: Some(mac), ..LinkChange::default() };
        self.change("announce addresses of", change_request(index, &change), || self.link_label(index))
    }

    /// Deletes a link; a veth takes its peer along.
    ///
    /// # Errors
    /// What the kernel said; `is_not_found` when it is gone.
    pub fn delete_link(&self, index: u32) -> Result<()> {
        let request = Request::new(RTM_DELLINK, 0, &header(0, index, 0, 0));
        self.change("delete link", request, || self.link_label(index))
    }
}

fn question(index: u32) -> Request {
    let mut request = Request::new(RTM_GETLINK, 0, &header(0, index, 0, 0));
    request.attrs.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    request
}

/// A name for an error message: as given, on one line.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.escape_debug())
}
