//! nf_tables (linux/netfilter/nf_tables.h) and connection tracking, over netlink: no `nft`, no
//! `iptables`. This crate covers tables, chains, rules, sets with their elements, and flowtables:
//! writing, reading and comparing them, and committing transactions. It knows no owner, no table
//! name and no plan: its callers decide which rules a host needs.
//!
//! Changes are collected in a [`Batch`] and committed as one transaction: all or nothing. Keep one
//! [`Nft`] for the life of the process, and drop it late. When a netfilter socket is closed, the
//! kernel waits until the memory of deleted objects is freed (nft_rcv_nl_event,
//! net/netfilter/nf_tables_api.c): an RCU grace period of 4 to 16 ms after a deletion or a failed
//! batch, also another process's. So dropping an [`Nft`] leaves the close to a kernel worker.
//!
//! Every commit creates a new *generation* of the network namespace's rules. [`Nft::transact`]
//! reads, decides, and commits only if nobody else committed in between.

mod batch;
mod commit;
pub mod conntrack;
mod element;
mod expr;
mod expr_wire;
mod field;
mod flowtable;
pub mod fuzz;
mod object;
mod protocol;
mod read;
mod rule;
mod same;
mod set_names;
mod table_info;
#[cfg(test)]
mod tests;
mod uapi;
mod udata;
mod value;
mod verdict;

use std::cell::Cell;
use std::os::fd::AsFd;

use netlink::socket::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use sys::{BackgroundClose, Error, NetNs, Result};

pub use batch::Batch;
pub use commit::is_stale;
pub use element::{Element, Target};
pub use expr::{Compare, Expr, LookupResult, Nat, Reg};
pub use field::{
    Ct, Field, Header, LOCAL, Meta, ORIGINAL, REPLY, STATE_ESTABLISHED, STATE_INVALID, STATE_NEW,
    STATE_RELATED, STATE_UNTRACKED, STATUS_DNAT, STATUS_SNAT,
};
pub use object::{Base, Chain, Data, Family, Flowtable, Hook, Kind, Policy, Set, Table};
pub use protocol::Protocol;
pub use read::{ChainInfo, RuleInfo};
pub use rule::{IPV4, IPV6, Rule};
pub use same::same;
pub use table_info::TableInfo;
pub use udata::COMMENT_MAX;
pub use value::{Type, Value};
pub use verdict::Verdict;

use crate::conntrack::Conntrack;

/// A netfilter socket. It stays in the network namespace it was opened in, even if the thread
/// moves.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    /// The size that the send buffer was raised to, in bytes; 0 is the system's default.
    send_buffer: Cell<usize>,
    committed: Cell<Committed>,
    /// Dropped after the socket.
    close: BackgroundClose,
}

/// What the transactions of a socket did, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Committed {
    Nothing,
    Additions,
    /// They deleted something, or failed: the kernel has something to free.
    Deletions,
}

impl Nft {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The socket cannot be created: the kernel lacks netfilter netlink.
    pub fn open() -> Result<Self> {
        Socket::open(NETLINK_NETFILTER)
            .map(|socket| Self {
                socket,
                send_buffer: Cell::new(0),
                committed: Cell::new(Committed::Nothing),
                close: BackgroundClose::default(),
            })
            .map_err(|error| Error::new("open", "a netfilter netlink socket", error))
    }

    /// Opens a socket in `netns`, from any namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the socket cannot be created.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns.enter(Self::open)?
    }

    /// Connection tracking over the same socket.
    pub fn conntrack(&self) -> Conntrack<'_> {
        Conntrack::new(&self.socket)
    }
}

impl Drop for Nft {
    /// A socket that only read may have to wait for the previous plugin's deletions. One that only
    /// added belongs to an ADD, which rarely follows a deletion: the worker is not worth its cost.
    fn drop(&mut self) {
        if self.committed.get() != Committed::Additions {
            self.close = BackgroundClose::of(self.socket.as_fd());
        }
    }
}
