//! Forwarding tables of VXLAN devices and bridges, and permanent neighbour entries.

use std::net::IpAddr;

use libc::{RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use sys::Result;

use crate::addr::{AF_INET, AF_INET6};
use crate::attr::{Attrs, Malformed};
use crate::message::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, Request};
use crate::{Mac, Netlink};

/// linux/socket.h: descriptions of entries of a forwarding table.
pub(crate) const AF_BRIDGE: u8 = 7;
/// Length of `struct ndmsg` (linux/neighbour.h): u8 family, three bytes of padding, i32 index, u16
/// state, u8 flags, u8 type.
const HEADER: usize = 12;
/// linux/neighbour.h, attributes of an entry.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_MASTER: u16 = 9;
/// linux/neighbour.h, flags and states of an entry.
const NTF_SELF: u8 = 0x02;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// An entry of a VXLAN device: the host that an Ethernet address is behind. The zero address stands
/// for broadcast, multicast and unknown addresses, and may have several receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VxlanEntry {
    /// The Ethernet address.
    pub mac: Mac,
    /// The host that its frames are sent to.
    pub host: IpAddr,
    /// It does not age; otherwise it was learned, or somebody added it so.
    pub permanent: bool,
}

/// An entry of a bridge for one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForwardingEntry {
    /// The Ethernet address behind the port.
    pub mac: Mac,
    /// It does not age, and learning does not change it.
    pub fixed: bool,
}

/// A neighbour entry that does not age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbour {
    /// The IP address.
    pub ip: IpAddr,
    /// Its Ethernet address; `None`: it has none.
    pub mac: Option<Mac>,
}

/// A description as the kernel gives it.
pub(crate) struct Entry {
    pub family: u8,
    pub index: u32,
    pub state: u16,
    pub flags: u8,
    pub mac: Option<Mac>,
    pub ip: Option<IpAddr>,
    pub master: Option<u32>,
}

/// Reads the payload of an RTM_NEWNEIGH or RTM_DELNEIGH.
pub(crate) fn read(payload: &[u8]) -> Result<Entry, Malformed> {
    let header = payload.first_chunk::<HEADER>().ok_or(Malformed("a neighbour is too short"))?;
    let &[family, _, _, _, a, b, c, d, low, high, flags, _] = header;
    let mut entry = Entry {
        family,
        index: u32::from_ne_bytes([a, b, c, d]),
        state: u16::from_ne_bytes([low, high]),
        flags,
        mac: None,
        ip: None,
        master: None,
    };
    for attr in Attrs::after(payload, HEADER)? {
        let attr = attr?;
        match attr.kind {
            NDA_DST => entry.ip = attr.ip().ok(),
            NDA_LLADDR => entry.mac = attr.mac(),
            NDA_MASTER => entry.master = Some(attr.u32()?),
            _ => {}
        }
    }
    Ok(entry)
}

fn vxlan_message(index: u32, entry: &VxlanEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()));
    message.attributes.push(NeighbourAttribute::Destination(entry.host.into()));
    message
}

impl Netlink {
    /// Sets the host that an address is behind, in a VXLAN device's own table, for good: it
    /// replaces an earlier entry, a learned one too. The zero address gets one more receiver.
    ///
    /// # Errors
    /// The kernel refused: the table is full, or the host's address is not of the device's family.
    pub fn set_vxlan_entry(&self, index: u32, mac: Mac, host: IpAddr) -> Result<()> {
        let entry = VxlanEntry { mac, host, permanent: true };
        // Several receivers exist only for the zero address, and the kernel refuses to replace them.
        let manner = if mac.is_zero() { NLM_F_APPEND } else { NLM_F_REPLACE };
        let request = Request::of(RTM_NEWNEIGH, NLM_F_CREATE | manner, &vxlan_message(index, &entry));
        self.change("set forwarding entry", request, || {
            format!("{mac} dst {host} on {}", self.link_label(index))
        })
    }

    /// Removes an entry from a VXLAN device's own table.
    ///
    /// # Errors
    /// `is_not_found` when the entry does not exist.
    pub fn delete_vxlan_entry(&self, index: u32, mac: Mac, host: IpAddr) -> Result<()> {
        let entry = VxlanEntry { mac, host, permanent: true };
        let request = Request::of(RTM_DELNEIGH, 0, &vxlan_message(index, &entry));
        self.change("delete forwarding entry", request, || format!("{mac} dst {host} on interface {index}"))
    }

    /// Lists the entries of a VXLAN device's own table that have a receiver.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn vxlan_entries(&self, index: u32) -> Result<Vec<VxlanEntry>> {
        self.table_of(index, |entry| {
            if entry.flags & NTF_SELF == 0 {
                return None;
            }
            let permanent = entry.state & (NUD_PERMANENT | NUD_NOARP) != 0;
            Some(VxlanEntry { mac: entry.mac?, host: entry.ip?, permanent })
        })
    }

    /// Lists the entries of a bridge for one of its ports.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forwarding_entries(&self, port: u32) -> Result<Vec<ForwardingEntry>> {
        self.table_of(port, |entry| {
            if entry.flags & NTF_SELF != 0 || entry.master.is_none() {
                return None;
            }
            Some(ForwardingEntry { mac: entry.mac?, fixed: entry.state & (NUD_NOARP | NUD_PERMANENT) != 0 })
        })
    }

    fn table_of<T>(&self, index: u32, take: impl Fn(Entry) -> Option<T>) -> Result<Vec<T>> {
        let mut link = NeighbourMessage::default();
        link.header.family = AddressFamily::Bridge;
        link.header.ifindex = index;
        let listed = self.socket.dump(Request::of(RTM_GETNEIGH, 0, &link), |payload, found| {
            // The kernel filters, but older ones do not.
            found.extend(Some(read(payload)?).filter(|entry| entry.index == index).and_then(&take));
            Ok(())
        });
        match listed {
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(Vec::new()),
            other => other.map_err(|refusal| refusal.on("list", format!("forwarding entries of {index}"))),
        }
    }

    /// Lists the permanent neighbour entries of a link, of both families.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn permanent_neighbours(&self, index: u32) -> Result<Vec<Neighbour>> {
        let mut link = NeighbourMessage::default();
        link.attributes.push(NeighbourAttribute::IfIndex(index));
        let listed = self.socket.dump(Request::of(RTM_GETNEIGH, 0, &link), |payload, found| {
            let entry = read(payload)?;
            let is_ip = entry.family == AF_INET || entry.family == AF_INET6;
            if is_ip && entry.index == index && entry.state & NUD_PERMANENT != 0 {
                found.extend(entry.ip.map(|ip| Neighbour { ip, mac: entry.mac }));
            }
            Ok(())
        });
        match listed {
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(Vec::new()),
            other => other.map_err(|refusal| refusal.on("list", format!("neighbours of {index}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn an_entry_is_read_back_from_its_request() {
        for host in ["192.0.2.1", "2001:db8::1"] {
            let host: IpAddr = host.parse().unwrap();
            let entry = VxlanEntry { mac: Mac([2, 0x6d, 10, 9, 0, 66]), host, permanent: true };
            let request = Request::of(RTM_NEWNEIGH, 0, &vxlan_message(7, &entry));
            let bytes = request.finish(1).unwrap();
            let read = read(bytes.get(16..).unwrap()).unwrap();
            assert_eq!((read.family, read.index, read.flags), (AF_BRIDGE, 7, NTF_SELF));
            assert_eq!((read.mac, read.ip, read.state), (Some(entry.mac), Some(host), NUD_PERMANENT));
        }
    }
}
