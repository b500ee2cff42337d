//! Entries of a VXLAN device, as requests to the kernel and as its listings.
//!
//! The messages are written here: the request for one entry is a dozen lines, and thousands of them
//! go in one system call.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use libc::{AF_BRIDGE, AF_INET, AF_INET6, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH};
use netlink::Mac;
use netlink::attr::{Attrs, Malformed};
use netlink::message::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, Refusal, Request};
use netlink::socket::Socket;

/// linux/neighbour.h, attributes.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_IFINDEX: u16 = 8;
/// A filter of listings: neighbours of this link.
const NDA_FILTER_IFINDEX: u16 = NDA_IFINDEX;
/// The entry is in the device's own table, not in that of its bridge.
const NTF_SELF: u8 = 0x02;
/// The entry does not age, and no packet replaces it.
const NUD_PERMANENT: u16 = 0x80;
/// The same, as `bridge fdb add ... static` writes it.
const NUD_NOARP: u16 = 0x40;
/// Length of `struct ndmsg`: u8 family, 3 bytes of padding, i32 index, u16 state, u8 flags, u8 type.
const HEADER: usize = 12;

/// The destination of frames to every host: what a VXLAN device does with broadcast and multicast.
const ZERO: Mac = Mac([0; 6]);

/// What the VXLAN device of a network must hold for the containers of other hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The host that each MAC address is on, by its VXLAN source.
    pub forwarding: BTreeMap<Mac, IpAddr>,
    /// The hosts that broadcast and multicast frames go to, a copy each. Empty: none leaves.
    pub flood: BTreeSet<IpAddr>,
    /// The MAC address of each address: the device answers ARP and neighbour solicitations by them.
    pub neighbours: BTreeMap<IpAddr, Mac>,
}

/// One change of the kernel's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Deletes whatever the device has for a MAC address.
    DropForwarding(Mac),
    /// Sends frames to a MAC address to this host, wherever they went before.
    SetForwarding(Mac, IpAddr),
    /// Stops copies of broadcasts to a host.
    DropFlood(IpAddr),
    /// Sends a copy of broadcasts to a host.
    AddFlood(IpAddr),
    /// Deletes a neighbour.
    DropNeighbour(IpAddr),
    /// Sets a neighbour, whatever it was before.
    SetNeighbour(IpAddr, Mac),
}

/// What a listing or an event says of a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// The VXLAN source of the host that frames go to.
    pub host: Option<IpAddr>,
    /// It does not age, and has port, id and link of the device.
    pub is_plain: bool,
}

/// What a listing or an event says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// It does not age.
    pub is_permanent: bool,
}

/// One entry, as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Described {
    /// An entry of the device's own forwarding table.
    Forwarding(Mac, Remote),
    /// A neighbour.
    Neighbour(IpAddr, Neighbour),
}

/// The entries that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// By MAC address, in the kernel's order.
    pub forwarding: BTreeMap<Mac, Vec<Remote>>,
    /// By address.
    pub neighbours: BTreeMap<IpAddr, Neighbour>,
}

impl Entries {
    /// Whether the kernel has what an event describes as it must be: an entry that is set
    /// (`exists`), or one that is gone.
    pub(super) fn agrees(&self, event: Described, exists: bool) -> bool {
        match event {
            Described::Forwarding(mac, remote) => {
                let wanted = match remote.host {
                    Some(host) if mac == ZERO => self.flood.contains(&host),
                    Some(host) if exists => self.forwarding.get(&mac) == Some(&host),
                    _ => self.forwarding.contains_key(&mac),
                };
                wanted == exists && (remote.is_plain || !exists)
            }
            Described::Neighbour(ip, neighbour) => match self.neighbours.get(&ip) {
                Some(mac) => exists && neighbour.is_permanent && neighbour.mac == Some(*mac),
                None => !exists || !neighbour.is_permanent,
            },
        }
    }
}

/// The head of a message about entries of a link.
fn head(family: i32, index: u32, state: u16, flags: u8) -> [u8; HEADER] {
    let mut head = [0; HEADER];
    let fields = [
        (0, &[u8::try_from(family).unwrap_or_default()][..]),
        (4, &index.to_ne_bytes()),
        (8, &state.to_ne_bytes()),
        (10, &[flags]),
    ];
    for (at, bytes) in fields {
        for (to, from) in head.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
    head
}

fn family(ip: &IpAddr) -> i32 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

impl Change {
    /// Whether the entry that it deletes may be gone already.
    pub(super) fn is_deletion(self) -> bool {
        matches!(self, Self::DropForwarding(_) | Self::DropFlood(_) | Self::DropNeighbour(_))
    }

    /// The request for the device with this index.
    pub(super) fn request(self, index: u32) -> Request {
        let forwarding = |kind, flags, mac: Mac, host: Option<IpAddr>| {
            let mut request = Request::new(kind, flags, &head(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF));
            request.attrs.bytes(NDA_LLADDR, &mac.0);
            if let Some(host) = host {
                request.attrs.ip(NDA_DST, host);
            }
            request
        };
        // Never an exclusive create: an entry that somebody else made must not be in the way.
        match self {
            Self::DropForwarding(mac) => forwarding(RTM_DELNEIGH, 0, mac, None),
            Self::SetForwarding(mac, host) => {
                forwarding(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, mac, Some(host))
            }
            Self::DropFlood(host) => forwarding(RTM_DELNEIGH, 0, ZERO, Some(host)),
            Self::AddFlood(host) => forwarding(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, ZERO, Some(host)),
            Self::DropNeighbour(ip) => {
                let mut request = Request::new(RTM_DELNEIGH, 0, &head(family(&ip), index, 0, 0));
                request.attrs.ip(NDA_DST, ip);
                request
            }
            Self::SetNeighbour(ip, mac) => {
                let head = head(family(&ip), index, NUD_PERMANENT, 0);
                let mut request = Request::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &head);
                request.attrs.ip(NDA_DST, ip);
                request.attrs.bytes(NDA_LLADDR, &mac.0);
                request
            }
        }
    }
}

impl Change {
    /// What was tried, in an error message.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::DropForwarding(_) | Self::DropFlood(_) => "delete forwarding entry",
            Self::SetForwarding(..) | Self::AddFlood(_) => "set forwarding entry",
            Self::DropNeighbour(_) => "delete neighbour",
            Self::SetNeighbour(..) => "set neighbour",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DropForwarding(mac) => mac.fmt(f),
            Self::SetForwarding(mac, host) => write!(f, "{mac} dst {host}"),
            Self::DropFlood(host) | Self::AddFlood(host) => write!(f, "broadcast dst {host}"),
            Self::DropNeighbour(ip) => ip.fmt(f),
            Self::SetNeighbour(ip, mac) => write!(f, "{ip} lladdr {mac}"),
        }
    }
}

/// Reads a description of an entry: the link's index with it. `None` if it is another family's, or
/// of a table that is not the device's own.
pub(super) fn read(payload: &[u8]) -> Result<Option<(u32, Described)>, Malformed> {
    let short = || Malformed("an entry is too short");
    let header: &[u8; HEADER] = payload.first_chunk().ok_or_else(short)?;
    let [family, _, _, _, a, b, c, d, state_low, state_high, flags, _] = *header;
    let index = u32::from_ne_bytes([a, b, c, d]);
    let state = u16::from_ne_bytes([state_low, state_high]);
    let (mut host, mut link_address, mut is_elsewhere) = (None, None, false);
    for attr in Attrs::after(payload, HEADER)? {
        let attr = attr?;
        match attr.kind {
            NDA_DST => host = attr.ip().ok(),
            NDA_LLADDR => link_address = attr.mac(),
            NDA_PORT | NDA_VNI | NDA_IFINDEX => is_elsewhere = true,
            _ => {}
        }
    }
    let is_permanent = state & (NUD_PERMANENT | NUD_NOARP) != 0;
    let described = match i32::from(family) {
        AF_BRIDGE if flags & NTF_SELF != 0 => link_address
            .map(|mac| Described::Forwarding(mac, Remote { host, is_plain: is_permanent && !is_elsewhere })),
        AF_INET | AF_INET6 => {
            let is_permanent = state & NUD_PERMANENT != 0;
            host.map(|ip| Described::Neighbour(ip, Neighbour { mac: link_address, is_permanent }))
        }
        _ => None,
    };
    Ok(described.map(|described| (index, described)))
}

/// Lists the entries of the device with this index.
///
/// # Errors
/// The kernel refused, or there is no such link.
pub(super) fn list(socket: &Socket, index: u32) -> Result<Found, Refusal> {
    let mut found = Found::default();
    for family in [AF_BRIDGE, AF_INET, AF_INET6] {
        // Forwarding tables are filtered by the header, neighbours by an attribute.
        let at = if family == AF_BRIDGE { index } else { 0 };
        let mut request = Request::new(RTM_GETNEIGH, 0, &head(family, at, 0, 0));
        if family != AF_BRIDGE {
            request.attrs.u32(NDA_FILTER_IFINDEX, index);
        }
        let listed = socket.dump(request, |payload, listed| {
            // The kernel filters, but older ones do not.
            listed.extend(read(payload)?.filter(|(of, _)| *of == index).map(|(_, described)| described));
            Ok(())
        })?;
        for described in listed {
            match described {
                Described::Forwarding(mac, remote) => found.forwarding.entry(mac).or_default().push(remote),
                Described::Neighbour(ip, neighbour) => {
                    found.neighbours.insert(ip, neighbour);
                }
            }
        }
    }
    Ok(found)
}
