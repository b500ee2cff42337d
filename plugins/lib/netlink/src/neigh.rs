//! Neighbour entries (ARP, NDP).

use std::net::IpAddr;

use sys::Result;

use crate::addr::family;
use crate::attr::Malformed;
use crate::message::{NLM_F_CREATE, NLM_F_REPLACE, Request};
use crate::{Mac, Netlink};

/// linux/rtnetlink.h, message types.
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
/// linux/neighbour.h, attributes of an entry.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_IFINDEX: u16 = 8;
/// linux/socket.h: the entry is of a bridge.
const AF_BRIDGE: u8 = 7;
/// linux/neighbour.h, state and flags of a bridge's entry: it does not age; it is the master's; another port does not
/// take it over.
const NUD_NOARP: u16 = 0x40;
const NTF_MASTER: u8 = 0x04;
const NTF_STICKY: u8 = 0x40;

/// State of an entry that we set (linux/neighbour.h, `NUD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Confirmed now, ages like any other.
    Reachable,
    /// Believed until used.
    Stale,
    /// Never aged, never replaced by what the link says.
    Permanent,
}

impl NeighbourState {
    fn bits(self) -> u16 {
        match self {
            Self::Reachable => 0x02,
            Self::Stale => 0x04,
            Self::Permanent => 0x80,
        }
    }
}

/// Index and state of a description.
fn read(payload: &[u8]) -> Result<(u32, u16), Malformed> {
    let index = payload.get(4..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_ne_bytes(*bytes));
    let state = payload.get(8..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_ne_bytes(*bytes));
    index.zip(state).ok_or(Malformed("a neighbour is too short"))
}

/// `struct ndmsg` (linux/neighbour.h): u8 family, 3 bytes pad, i32 index, u16 state, u8 flags, u8 type.
fn header(index: u32, ip: IpAddr, state: u16) -> Vec<u8> {
    [&[family(ip), 0, 0, 0][..], &index.to_ne_bytes(), &state.to_ne_bytes(), &[0, 0]].concat()
}

impl Netlink {
    /// Sets a neighbour entry, replacing what was there.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set_neighbour(&self, index: u32, ip: IpAddr, mac: Mac, state: NeighbourState) -> Result<()> {
        let fixed = header(index, ip, state.bits());
        let mut request = Request::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &fixed);
        request.attrs.ip(NDA_DST, ip);
        request.attrs.bytes(NDA_LLADDR, &mac.0);
        self.change("set neighbour", request, || format!("{ip} lladdr {mac} on {}", self.link_label(index)))
    }

    /// Makes it known to the bridge of a port, for good and in all VLANs of that port, that a MAC address is behind it.
    ///
    /// # Errors
    /// What the kernel said; the link is no port of a bridge.
    pub fn set_forwarding_entry(&self, port: u32, mac: Mac) -> Result<()> {
        let [low, high] = NUD_NOARP.to_ne_bytes();
        let fixed =
            [&[AF_BRIDGE, 0, 0, 0][..], &port.to_ne_bytes(), &[low, high, NTF_MASTER | NTF_STICKY, 0]];
        let mut request = Request::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &fixed.concat());
        request.attrs.bytes(NDA_LLADDR, &mac.0);
        self.change("set bridge entry", request, || format!("{mac} on {}", self.link_label(port)))
    }

    /// Whether a link has neighbour entries that somebody set for good.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn has_permanent_neighbours(&self, index: u32) -> Result<bool> {
        let mut request = Request::new(RTM_GETNEIGH, 0, &[0; 12]);
        request.attrs.u32(NDA_IFINDEX, index);
        let listed = self.socket.dump(request, |payload, found| {
            let (of, state) = read(payload)?;
            // The kernel filters, but does not have to.
            if of == index && state & NeighbourState::Permanent.bits() != 0 {
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
    /// `is_not_found` when there is none.
    pub fn delete_neighbour(&self, index: u32, ip: IpAddr) -> Result<()> {
        let mut request = Request::new(RTM_DELNEIGH, 0, &header(index, ip, 0));
        request.attrs.ip(NDA_DST, ip);
        // Absence is what most callers want to see: its name is not worth another question to the kernel.
        self.change("delete neighbour", request, || format!("{ip} on interface {index}"))
    }
}
