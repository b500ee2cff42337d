//! Netlink, synchronous: one request, one answer, bounded in time. It knows messages, attributes and sockets for every
//! family, and the requests and replies of rtnetlink: links, addresses, routes, neighbours, and waiting for their events.
//! It knows no packet filter, no owner and no plan: what a link is for is its caller's affair.

mod addr;
pub mod attr;
mod bridge;
mod dummy;
mod event;
mod ipvlan;
mod link;
mod link_read;
mod mac;
mod macvlan;
pub mod message;
mod neigh;
mod not_ready;
mod nsid;
mod probe;
mod qdisc;
mod route;
mod route_read;
pub mod socket;
mod stacked;
mod towards;
mod veth;
mod vlan;
mod vlan_link;

pub use addr::{Address, NewAddress};
pub use bridge::{BridgeInfo, BridgePort, NewBridge, PortChange, PortState};
pub use ipvlan::{Ipvlan, IpvlanFlag, IpvlanMode};
pub use link::{Link, LinkChange, OperState};
pub use mac::{Mac, ParseMacError};
pub use macvlan::{Macvlan, MacvlanInfo, MacvlanMode};
pub use neigh::NeighbourState;
pub use not_ready::NotReady;
pub use route::Route;
pub use stacked::Stacked;
pub use towards::Towards;
pub use veth::{Veth, VethPeer};
pub use vlan::PortVlans;
pub use vlan_link::VlanInfo;

use message::Request;
use netlink_sys::protocols::NETLINK_ROUTE;
use socket::Socket;
use sys::{Error, NetNs, Result};

/// An rtnetlink socket. It belongs to the network namespace it was opened in, wherever the thread goes later.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The socket could not be made.
    pub fn open() -> Result<Self> {
        Socket::open(NETLINK_ROUTE)
            .map(|socket| Self { socket })
            .map_err(|error| Error::new("open", "a route netlink socket", error))
    }

    /// Opens a socket in `netns`, from where the thread is.
    ///
    /// # Errors
    /// The namespace could not be entered, or the socket could not be made.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns.enter(Self::open)?
    }

    /// Asks for a change; `object` is only made when the kernel refuses.
    fn change(&self, op: &'static str, request: Request, object: impl FnOnce() -> String) -> Result<()> {
        self.socket.change(request).map_err(|refusal| refusal.on(op, object()))
    }

    /// A link for an error message: by its name, if it still has one.
    fn link_label(&self, index: u32) -> String {
        match self.link_by_index(index) {
            Ok(Some(link)) => format!("\"{}\"", link.name.escape_debug()),
            _ => format!("interface {index}"),
        }
    }
}

/// Every reader of messages, for the fuzzer.
pub fn read_any(payload: &[u8]) {
    let _ = (link_read::link(payload), addr::read(payload), vlan::read(payload, 1), nsid::read(payload));
    for family in [libc::AF_INET, libc::AF_INET6] {
        let _ = u8::try_from(family).map(|family| route_read::routes(family, payload));
    }
}

/// A name for an error message: as given, on one line.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.escape_debug())
}
