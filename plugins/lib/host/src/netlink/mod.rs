//! rtnetlink, synchronous: one request, one answer, bounded in time.

mod addr;
mod bridge;
mod event;
mod link;
mod neigh;
mod route;
mod veth;
mod vlan;

pub use addr::{Address, NewAddress};
pub use bridge::{BridgeInfo, BridgePort, NewBridge, PortChange, PortState};
pub use link::{Link, LinkChange, OperState};
pub use neigh::NeighbourState;
pub use route::Route;
pub use veth::{Veth, VethPeer};
pub use vlan::PortVlans;

use crate::{NetNs, Result};

/// An rtnetlink socket. It belongs to the network namespace it was opened in, wherever the thread goes later.
#[derive(Debug)]
pub struct Netlink {}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The socket could not be made.
    pub fn open() -> Result<Self> {
        unimplemented!()
    }

    /// Opens a socket in `netns`, from where the thread is.
    ///
    /// # Errors
    /// The namespace could not be entered, or the socket could not be made.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns.enter(Self::open)?
    }
}
