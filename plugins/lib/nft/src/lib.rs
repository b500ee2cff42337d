//! nf_tables (linux/netfilter/nf_tables.h) and connection tracking, over netlink: no `nft`, no
//! `iptables`. It knows tables, chains, rules, sets and their elements, how each is written, read
//! and compared, and how a transaction is committed. It knows no owner, no table of its own and no
//! plan: which rules a host needs is its caller's affair.
//!
//! Changes are gathered in a [`Batch`] and committed as one transaction: all or nothing. Keep one
//! [`Nft`] for the life of the process, and let it go last: when it is dropped after deletions, the
//! kernel waits for an RCU grace period (8 to 16 ms, measured; so long a failed batch takes too),
//! unless by [`Nft::close_in_background`].
//!
//! Every commit makes a new *generation* of the network namespace's rules. [`Nft::transact`] looks,
//! decides, and commits what it decided only if nobody committed anything in between.

mod batch;
mod commit;
pub mod conntrack;
mod element;
mod expr;
mod expr_wire;
mod field;
pub mod fuzz;
mod object;
mod protocol;
mod read;
mod rule;
mod same;
#[cfg(test)]
mod tests;
mod uapi;
mod udata;
mod value;
mod verdict;

use std::cell::Cell;

use netlink::socket::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use sys::{Error, NetNs, Result};

pub use batch::Batch;
pub use commit::is_stale;
pub use element::{Element, Target};
pub use expr::{Compare, Expr, Found, Nat, Reg};
pub use field::{
    Ct, Field, Header, LOCAL, Meta, STATE_ESTABLISHED, STATE_INVALID, STATE_NEW, STATE_RELATED, STATUS_DNAT,
    STATUS_SNAT,
};
pub use object::{Base, Chain, Data, Family, Hook, Kind, Policy, Set, Table};
pub use protocol::Protocol;
pub use read::{ChainInfo, RuleInfo, TableInfo};
pub use rule::{IPV4, IPV6, Rule};
pub use same::same;
pub use udata::COMMENT_MAX;
pub use value::{Type, Value};
pub use verdict::Verdict;

use crate::conntrack::Conntrack;

/// A netfilter socket. It belongs to the network namespace it was opened in, wherever the thread
/// goes later.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    /// As large as the send buffer was made, in bytes; 0 is the system's default.
    send_buffer: Cell<usize>,
}

impl Nft {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The socket could not be made: the kernel is without netfilter netlink.
    pub fn open() -> Result<Self> {
        Socket::open(NETLINK_NETFILTER)
            .map(|socket| Self { socket, send_buffer: Cell::new(0) })
            .map_err(|error| Error::new("open", "a netfilter netlink socket", error))
    }

    /// Opens a socket in `netns`, from where the thread is.
    ///
    /// # Errors
    /// The namespace could not be entered, or the socket could not be made.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns.enter(Self::open)?
    }

    /// Closes the socket without waiting. Whoever closes a netfilter socket waits for the memory of
    /// what was deleted to be free (nft_rcv_nl_event, net/netfilter/nf_tables_api.c): a grace
    /// period of 4 to 16 ms, after all has been said and done. Here a worker of the kernel's does,
    /// unless the kernel lends us none: then we wait.
    pub fn close_in_background(self) {
        sys::close_in_background(self.socket);
    }

    /// Connection tracking by the same socket. (Any netfilter socket waits for what was deleted
    /// when it is closed.)
    pub fn conntrack(&self) -> Conntrack<'_> {
        Conntrack::new(&self.socket)
    }
}
