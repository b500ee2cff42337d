//! Waiting for the kernel: by its events, never by sleeping, and never past a deadline.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use super::socket::Socket;
use super::{Address, BridgePort, Link, Netlink, OperState, PortState};
use crate::{Error, NetNs, Result, wait};

/// linux/rtnetlink.h: the bits of the multicast groups RTNLGRP_LINK (1) and RTNLGRP_IPV6_IFADDR (9).
const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;

/// What one look has shown.
enum Seen<T> {
    /// What was waited for.
    Ready(T),
    /// Not yet; the error to give if it stays so.
    NotYet(Error),
}

impl Netlink {
    /// Waits until the link is up and, if it is a bridge port, forwards; gives it as it then is.
    ///
    /// # Errors
    /// [`Error::PortState`] at the deadline; `is_not_found` when the link goes away.
    pub fn wait_for_port_forwarding(&self, index: u32, deadline: Instant) -> Result<Link> {
        self.wait(RTMGRP_LINK, deadline, || {
            let link = self.link_by_index(index)?.ok_or_else(|| {
                Error::new("wait for bridge port", format!("interface {index}"), Errno::ENODEV)
            })?;
            Ok(match obstacle(&link) {
                None => Seen::Ready(link),
                Some(state) => Seen::NotYet(Error::PortState { link: link.name, state }),
            })
        })
    }

    /// Waits until no address of the link is tentative; gives them.
    ///
    /// # Errors
    /// [`Error::DuplicateAddress`] as soon as one has failed; [`Error::TentativeAddress`] at the deadline.
    pub fn wait_for_addresses(&self, index: u32, deadline: Instant) -> Result<Vec<Address>> {
        self.wait(RTMGRP_IPV6_IFADDR, deadline, || {
            let addresses = self.addresses(Some(index))?;
            // A failed one is tentative too: look for it first.
            if let Some(failed) = addresses.iter().find(|address| address.dad_failed()) {
                return Err(Error::DuplicateAddress {
                    link: self.link_label(index),
                    address: failed.net,
                    holder: None,
                });
            }
            Ok(match addresses.iter().find(|address| address.tentative()) {
                None => Seen::Ready(addresses),
                Some(address) => Seen::NotYet(Error::TentativeAddress {
                    link: self.link_label(index),
                    address: address.net,
                }),
            })
        })
    }

    /// Looks; if that does not do, subscribes, looks again (something may have happened in between), and then after
    /// every event of `group`.
    fn wait<T>(&self, group: u32, deadline: Instant, mut look: impl FnMut() -> Result<Seen<T>>) -> Result<T> {
        if let Seen::Ready(value) = look()? {
            return Ok(value);
        }
        let events = self.listen(group)?;
        loop {
            let pending = match look()? {
                Seen::Ready(value) => return Ok(value),
                Seen::NotYet(error) => error,
            };
            if !next_event(&events, deadline)
                .map_err(|error| Error::new("wait for", "a kernel event", error))?
            {
                return Err(pending);
            }
        }
    }

    /// An event socket in the namespace of this one, which need not be the thread's.
    fn listen(&self, group: u32) -> Result<Socket> {
        let open = || {
            Socket::listen(NETLINK_ROUTE, group).map_err(|error| Error::new("open", "an event socket", error))
        };
        let namespace = NetNs::of_socket(self.socket.as_fd())?;
        if namespace.same_as(&NetNs::current()?)? { open() } else { namespace.enter(open)? }
    }
}

/// What keeps a link from carrying packets.
fn obstacle(link: &Link) -> Option<String> {
    match (link.oper_state, link.port) {
        _ if !link.up() => Some(OperState::Down.to_string()),
        // Drivers that do not say are taken at their flag's word.
        (
            OperState::Up | OperState::Unknown,
            None | Some(BridgePort { state: PortState::Forwarding, .. }),
        ) => None,
        (OperState::Up | OperState::Unknown, Some(port)) => Some(port.state.to_string()),
        (state, _) => Some(state.to_string()),
    }
}

/// Waits for an event, and takes all that have come; `false` when the deadline came first.
fn next_event(events: &Socket, deadline: Instant) -> io::Result<bool> {
    if !wait::readable(events, deadline)? {
        return Ok(false);
    }
    let mut buffer = Vec::new();
    loop {
        match events.receive(&mut buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            // Events were lost: all the more reason to look.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
    }
}
