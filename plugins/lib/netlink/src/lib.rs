//! Synchronous netlink: one request, one answer, bounded in time. This crate covers messages,
//! attributes and sockets for every family, and the requests and replies of rtnetlink: links,
//! addresses, routes, neighbours, traffic control, and waiting for their events. It knows no packet
//! filter, no owner and no plan: its callers decide what a link is for.
//!
//! Requests are messages of the package rtnetlink, made by its builders where it has suitable ones.
//! Replies are read here: a reader that skips unknown attributes works with any kernel.

mod addr;
pub mod attr;
mod connection;
mod event;
mod fdb;
pub mod fuzz;
mod link;
pub mod message;
mod neigh;
mod not_ready;
mod nsid;
mod route;
mod rule;
mod saved;
pub mod socket;
mod tc;
mod watch;

pub use addr::{Address, NewAddress};
pub use connection::Netlink;
pub use fdb::{ForwardingEntry, Neighbour, VxlanEntry};
pub use link::{
    BridgeInfo, BridgePort, Dummy, Ipvlan, IpvlanFlag, IpvlanMode, Link, LinkChange, LinkMove, Macvlan,
    MacvlanInfo, MacvlanMode, NewBridge, NewVxlan, OperState, Parameter, PortChange, PortState, PortVlans,
    PriorityMap, Stacked, TunInfo, Veth, VethPeer, Vlan, VlanFlags, VlanProtocol, Vrf, VxlanInfo,
};
pub use neigh::NeighbourState;
pub use not_ready::NotReady;
pub use route::{Route, RouteLookup, WholeRoute};
pub use rule::PolicyRule;
pub use saved::Saved;
pub use sys::{Mac, ParseMacError};
pub use tc::{Classes, Discipline, FairQueue, Filter, Handle, Key, Qdisc, RateClass, Rule, TokenBucket};
pub use watch::{Change, Watch};
