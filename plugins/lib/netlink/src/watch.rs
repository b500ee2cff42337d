//! Events about links and neighbours, for a process that lives long: what others changed.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use libc::{RTM_DELLINK, RTM_DELNEIGH, RTM_NEWLINK, RTM_NEWNEIGH};
use netlink_sys::protocols::NETLINK_ROUTE;
use sys::{Error, Result};

use crate::Mac;
use crate::fdb::{self, AF_BRIDGE};
use crate::link;
use crate::message::{Message, Messages};
use crate::socket::Socket;

/// linux/rtnetlink.h: the bits of the multicast groups RTNLGRP_LINK (1) and RTNLGRP_NEIGH (3).
const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_NEIGH: u32 = 0x4;
/// linux/socket.h: the description is of the link itself, not of its role in a bridge.
const AF_UNSPEC: u8 = 0;

/// Something that the kernel reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link was made or changed.
    Link {
        /// Its index.
        index: u32,
    },
    /// A link is gone.
    LinkGone {
        /// Its index.
        index: u32,
    },
    /// An entry of a forwarding table was added or replaced: of a VXLAN device, or of a bridge for
    /// its port.
    Entry {
        /// The index of the device or the port.
        index: u32,
        /// The Ethernet address.
        mac: Option<Mac>,
    },
    /// An entry of a forwarding table is gone.
    EntryGone {
        /// The index of the device or the port.
        index: u32,
        /// The Ethernet address.
        mac: Option<Mac>,
    },
    /// A neighbour entry was added or changed.
    Neighbour {
        /// The index of the link.
        index: u32,
        /// The IP address.
        ip: Option<IpAddr>,
    },
    /// A neighbour entry is gone.
    NeighbourGone {
        /// The index of the link.
        index: u32,
        /// The IP address.
        ip: Option<IpAddr>,
    },
    /// Events were lost: anything may have changed.
    Lost,
}

/// A socket that receives these events.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// The socket cannot be created.
    pub fn open() -> Result<Self> {
        Socket::listen(NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_NEIGH)
            .map(|socket| Self { socket })
            .map_err(|error| Error::new("open", "an event socket", error))
    }

    /// Reads all pending events; empty if there are none. It does not wait.
    ///
    /// # Errors
    /// The socket failed.
    pub fn pending(&self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut buffer = Vec::new();
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(()) => changes.extend(Messages::new(&buffer).filter_map(|message| match message {
                    Ok(message) => change(&message),
                    Err(_) => Some(Change::Lost),
                })),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changes.push(Change::Lost),
                Err(error) => return Err(Error::new("read", "events of the kernel", error)),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn change(message: &Message<'_>) -> Option<Change> {
    match message.kind {
        RTM_NEWLINK | RTM_DELLINK => {
            // A bridge reports its ports by messages of its own family, also when one leaves it.
            let is_of_link = message.payload.first() == Some(&AF_UNSPEC);
            let Ok(index) = link::read::index(message.payload) else { return Some(Change::Lost) };
            Some(match message.kind == RTM_DELLINK && is_of_link {
                true => Change::LinkGone { index },
                false => Change::Link { index },
            })
        }
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let Ok(entry) = fdb::read(message.payload) else { return Some(Change::Lost) };
            let index = entry.index;
            Some(match (entry.family == AF_BRIDGE, message.kind == RTM_DELNEIGH) {
                (true, false) => Change::Entry { index, mac: entry.mac },
                (true, true) => Change::EntryGone { index, mac: entry.mac },
                (false, false) => Change::Neighbour { index, ip: entry.ip },
                (false, true) => Change::NeighbourGone { index, ip: entry.ip },
            })
        }
        _ => None,
    }
}
