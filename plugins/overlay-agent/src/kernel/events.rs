//! What the kernel reports by itself: entries, links, addresses and packet rules that changed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use libc::{RTM_DELLINK, RTM_DELNEIGH, RTM_NEWLINK, RTM_NEWNEIGH};
use netlink::attr::Attrs;
use netlink::message::{Message, Messages};
use netlink::socket::Socket;
use nix::sys::socket::{setsockopt, sockopt};
use sys::{Error, Result};

use super::entry::{self, Described};

/// linux/netlink.h.
const NETLINK_ROUTE: isize = 0;
const NETLINK_NETFILTER: isize = 12;
/// linux/rtnetlink.h: the bits of RTNLGRP_LINK (1), RTNLGRP_NEIGH (3), RTNLGRP_IPV4_IFADDR (5) and
/// RTNLGRP_IPV6_IFADDR (9).
const ROUTE_GROUPS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 8;
/// linux/netfilter/nfnetlink.h: the bit of NFNLGRP_NFTABLES (7).
const RULES_GROUP: u32 = 1 << 6;
/// Received events that may wait, in bytes: thousands. More are lost, which the kernel reports, and
/// everything is compared.
const WAITING: usize = 4 << 20;
/// Datagrams read at a time: nobody who makes the kernel report without end holds up the agent.
const READ_AT_ONCE: usize = 4096;

/// linux/if_link.h.
const IFLA_IFNAME: u16 = 3;
/// Length of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Length of `struct nfgenmsg`: family, version, resource id.
const RULES_HEADER: usize = 4;
/// linux/netfilter/nfnetlink.h: the subsystem is the high byte of the type.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// linux/netfilter/nf_tables.h, `enum nf_tables_msg_types`: what is gone. An element that is gone
/// (14) counts in the sets that the agent fills.
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_DELSET: u16 = 11;
const NFT_MSG_DELSETELEM: u16 = 14;
/// The table's name, in every one of these messages.
const TABLE: u16 = 1;
/// Of an element: the set's name.
const NFTA_SET_ELEM_LIST_SET: u16 = 2;

/// Something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An entry was set, or is gone.
    Entry {
        /// The link's index.
        index: u32,
        /// The entry.
        entry: Described,
        /// Whether it is there now.
        exists: bool,
    },
    /// A link changed, or is gone.
    Link {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// Whether it is there now.
        exists: bool,
    },
    /// An address of this host was added, changed or deleted.
    Address,
    /// Rules of a table are gone, or elements of a set.
    Rules {
        /// The table's name.
        table: String,
        /// The set, if elements of it are gone.
        set: Option<String>,
    },
    /// Events were lost: anything may have changed.
    Lost,
}

/// Receives events.
#[derive(Debug)]
pub(super) struct Listener(Socket);

impl Listener {
    /// Reports entries, links and addresses of the calling thread's network namespace.
    pub fn of_routes() -> Result<Self> {
        Self::open(NETLINK_ROUTE, ROUTE_GROUPS)
    }

    /// Reports its packet rules.
    pub fn of_rules() -> Result<Self> {
        Self::open(NETLINK_NETFILTER, RULES_GROUP)
    }

    fn open(protocol: isize, groups: u32) -> Result<Self> {
        let refused = |error: io::Error| Error::new("open", "a socket for the kernel's events", error);
        let socket = Socket::listen(protocol, groups).map_err(refused)?;
        // Beyond the host's limit if we may (CAP_NET_ADMIN); a smaller buffer loses events earlier.
        if setsockopt(&socket, sockopt::RcvBufForce, &WAITING).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &WAITING);
        }
        Ok(Self(socket))
    }

    /// Reads what waits, up to a limit; the descriptor stays readable while more does.
    ///
    /// # Errors
    /// The socket failed.
    pub fn read(&self, mut each: impl FnMut(Event)) -> Result<()> {
        let mut buffer = Vec::new();
        for _ in 0..READ_AT_ONCE {
            match self.0.receive(&mut buffer) {
                Ok(()) => {
                    for message in Messages::new(&buffer) {
                        match message {
                            Ok(message) => meaning(&message).into_iter().for_each(&mut each),
                            Err(_) => each(Event::Lost),
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => each(Event::Lost),
                Err(error) => return Err(Error::new("read", "the kernel's events", error)),
            }
        }
        Ok(())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a message reports, if it is of interest.
fn meaning(message: &Message<'_>) -> Option<Event> {
    let (subsystem, kind) = (message.kind >> 8, message.kind & 0xff);
    if subsystem == NFNL_SUBSYS_NFTABLES {
        return rules(kind, message.payload);
    }
    match message.kind {
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let (index, entry) = entry::read(message.payload).ok()??;
            Some(Event::Entry { index, entry, exists: message.kind == RTM_NEWNEIGH })
        }
        RTM_NEWLINK | RTM_DELLINK => {
            // The family: a bridge reports its port's role, also that the port left it.
            let is_of_bridge = message.payload.first() != Some(&0);
            let index = message.payload.get(4..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))?;
            let mut attrs = Attrs::after(message.payload, LINK_HEADER).ok()?.flatten();
            let name = attrs.find(|attr| attr.kind == IFLA_IFNAME).map(|attr| attr.string())?;
            Some(Event::Link { index, name, exists: message.kind == RTM_NEWLINK || is_of_bridge })
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Event::Address),
        _ => None,
    }
}

fn rules(kind: u16, payload: &[u8]) -> Option<Event> {
    let named = |wanted: u16| {
        let attrs = Attrs::after(payload, RULES_HEADER).ok()?;
        attrs.flatten().find(|attr| attr.kind == wanted).map(|attr| attr.string())
    };
    match kind {
        NFT_MSG_DELTABLE | NFT_MSG_DELCHAIN | NFT_MSG_DELRULE | NFT_MSG_DELSET => {
            Some(Event::Rules { table: named(TABLE)?, set: None })
        }
        NFT_MSG_DELSETELEM => {
            Some(Event::Rules { table: named(TABLE)?, set: Some(named(NFTA_SET_ELEM_LIST_SET)?) })
        }
        _ => None,
    }
}
