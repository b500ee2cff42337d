//! Neighbour entries (ARP, NDP).
//!
//! The requests are rtnetlink messages; rtnetlink's own builder would need its asynchronous
//! connection.

use std::net::IpAddr;

use libc::{RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{self, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use sys::Result;

use crate::addr::family;
use crate::attr::Malformed;
use crate::message::{NLM_F_CREATE, NLM_F_REPLACE, Request};
use crate::{Mac, Netlink};

/// State of an entry to set (linux/neighbour.h, `NUD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Confirmed now; ages normally.
    Reachable,
    /// Used until it is needed, then confirmed.
    Stale,
    /// Does not age, and is not replaced by received packets.
    Permanent,
}

impl NeighbourState {
    fn wire(self) -> neighbour::NeighbourState {
        match self {
            Self::Reachable => neighbour::NeighbourState::Reachable,
            Self::Stale => neighbour::NeighbourState::Stale,
            Self::Permanent => neighbour::NeighbourState::Permanent,
        }
    }
}

/// Reads the index and state of a description.
fn read(payload: &[u8]) -> Result<(u32, u16), Malformed> {
    let index = payload.get(4..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_ne_bytes(*bytes));
    let state = payload.get(8..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_ne_bytes(*bytes));
    index.zip(state).ok_or(Malformed("a neighbour is too short"))
}

fn message(index: u32, ip: IpAddr, state: neighbour::NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip).into();
    message.header.ifindex = index;
    message.header.state = state;
    message.attributes.push(NeighbourAttribute::Destination(ip.into()));
    message
}

fn forwarding_entry(port: u32, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    // The entry does not age, belongs to the master, and other ports do not take it over.
    message.header.state = neighbour::NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}

impl Netlink {
    /// Sets a neighbour entry, replacing what was there.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_neighbour(&self, index: u32, ip: IpAddr, mac: Mac, state: NeighbourState) -> Result<()> {
        let mut entry = message(index, ip, state.wire());
        entry.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        let request = Request::of(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &entry);
        self.change("set neighbour", request, || format!("{ip} lladdr {mac} on {}", self.link_label(index)))
    }

    /// Adds a permanent entry to the forwarding table of a port's bridge, in all VLANs of the port:
    /// the MAC address is behind the port.
    ///
    /// # Errors
    /// The kernel refused; the link is not a port of a bridge.
    pub fn set_forwarding_entry(&self, port: u32, mac: Mac) -> Result<()> {
        let entry = forwarding_entry(port, mac);
        let request = Request::of(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &entry);
        self.change("set bridge entry", request, || format!("{mac} on {}", self.link_label(port)))
    }

    /// Whether a link has permanent neighbour entries.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn has_permanent_neighbours(&self, index: u32) -> Result<bool> {
        let mut link = NeighbourMessage::default();
        link.attributes.push(NeighbourAttribute::IfIndex(index));
        let listed = self.socket.dump(Request::of(RTM_GETNEIGH, 0, &link), |payload, found| {
            let (of, state) = read(payload)?;
            // The kernel filters, but older ones do not.
            if of == index && state & u16::from(neighbour::NeighbourState::Permanent) != 0 {
                found.push(state);
            }
            Ok(())
        });
        let found = listed.map_err(|refusal| refusal.on("list", "neighbours"))?;
        Ok(!found.is_empty())
    }

    /// Removes a neighbour entry.
    ///
    /// # Errors
    /// `is_not_found` when the entry does not exist.
    pub fn delete_neighbour(&self, index: u32, ip: IpAddr) -> Result<()> {
        let entry = message(index, ip, neighbour::NeighbourState::None);
        let request = Request::of(RTM_DELNEIGH, 0, &entry);
        // Most callers expect that it is absent: looking up the link's name is not worth a request.
        self.change("delete neighbour", request, || format!("{ip} on interface {index}"))
    }
}
