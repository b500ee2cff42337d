//! Waiting for the kernel by its events, without sleeping, until a deadline.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::Instant;

use ipnetwork::IpNetwork;
use libc::{RTM_DELROUTE, RTM_NEWLINK, RTM_NEWROUTE};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use sys::{Error, NetNs, Result, wait};

use crate::addr::{self, AF_INET6};
use crate::message::{Message, Messages};
use crate::socket::Socket;
use crate::{Address, Link, Netlink, NotReady, OperState, PortState, link, route};

/// linux/rtnetlink.h: the bits of the multicast groups RTNLGRP_LINK (1) and RTNLGRP_IPV6_IFADDR
/// (9).
const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
/// RTNLGRP_IPV6_ROUTE (11).
const RTMGRP_IPV6_ROUTE: u32 = 0x400;

/// RFC 4291, section 2.5.6: the prefix of link-local addresses.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::from_bits(0xfe80 << 112);

/// linux/socket.h: the description is of the link itself, not of its role in a bridge.
const AF_UNSPEC: u8 = 0;

/// The reason why the awaited state is not reached, as the error at the deadline; `None` when it is
/// reached.
type Obstacle = Option<NotReady>;

/// What an event means for the awaited state.
enum Meaning {
    /// It is unrelated.
    Unrelated,
    /// It is related, but the state must be read.
    Unclear,
    /// It contains the state.
    State(Obstacle),
}

impl Netlink {
    /// Waits until the link is up and, if it is a bridge port, forwards. It does not wait for
    /// spanning tree, which delays ports on purpose, but returns the state in which spanning tree
    /// holds the port.
    ///
    /// # Errors
    /// [`NotReady::PortState`] at the deadline; `is_not_found` when the link disappears.
    pub fn wait_for_port(&self, index: u32, deadline: Instant) -> Result<Option<PortState>> {
        let held = Cell::new(None);
        let obstacle = |link: Link| {
            held.set(link.port.map(|port| port.state).filter(|state| state.is_held_by_spanning_tree()));
            obstacle(link)
        };
        let look = || {
            let link = self.link_by_index(index)?.ok_or_else(|| {
                Error::new("wait for bridge port", format!("interface {index}"), Errno::ENODEV)
            })?;
            Ok(obstacle(link))
        };
        // The event contains the link's state. A new request would wait for a lock that the kernel
        // still holds for later work: for milliseconds on a bridge with a thousand ports.
        self.wait(RTMGRP_LINK, deadline, &look, &|event| match link::read::index(event.payload) {
            Ok(about) if about == index => match event.payload.first() {
                Some(&AF_UNSPEC) if event.kind == RTM_NEWLINK => link::read::link(event.payload)
                    .map_or(Meaning::Unclear, |link| Meaning::State(obstacle(link))),
                // Bridges have their own events about ports; and the link may disappear.
                _ => Meaning::Unclear,
            },
            _ => Meaning::Unrelated,
        })?;
        Ok(held.get())
    }

    /// Waits until these IPv6 addresses of the link can be used, and with `link_local` also its
    /// link-local address, if the link gets one.
    ///
    /// # Errors
    /// [`NotReady::DuplicateAddress`] as soon as detection has failed for one;
    /// [`NotReady::TentativeAddress`] at the deadline.
    pub fn wait_for_addresses(
        &self,
        index: u32,
        wanted: &[IpAddr],
        link_local: bool,
        deadline: Instant,
    ) -> Result<()> {
        let lacks = |usable: &[IpAddr]| wanted.iter().find(|ip| !usable.contains(ip)).copied();
        let is_whole = |usable: &[IpAddr]| !link_local || usable.iter().any(is_link_local);
        let usable = self.usable_addresses(index)?;
        if lacks(&usable).is_none() && is_whole(&usable) {
            return Ok(());
        }
        let look = || {
            let usable = self.usable_addresses(index)?;
            let missing = lacks(&usable);
            if missing.is_none() && is_whole(&usable) {
                return Ok(None);
            }
            let addresses = self.addresses(Some(index))?;
            if let Some(failed) = addresses.iter().find(|address| address.dad_failed()) {
                return Err(NotReady::DuplicateAddress {
                    link: self.link_label(index),
                    address: failed.net,
                    holder: None,
                }
                .into());
            }
            let found = match missing {
                Some(ip) => Some(addresses.iter().find(|a| a.net.ip() == ip).map_or(ip.into(), |a| a.net)),
                None => self.missing_link_local(index, &addresses)?,
            };
            Ok(found.map(|address| NotReady::TentativeAddress { link: self.link_label(index), address }))
        };
        self.listen_until(
            RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE,
            deadline,
            &look,
            &|event| match event.kind {
                RTM_NEWROUTE | RTM_DELROUTE => match route::read::routes(AF_INET6, event.payload) {
                    Ok(routes)
                        if !routes.iter().any(|route| route.is_local() && route.index == Some(index)) =>
                    {
                        Meaning::Unrelated
                    }
                    _ => Meaning::Unclear,
                },
                // A route event means that an address can be used, an address event that it never
                // will be.
                _ => match addr::read(event.payload) {
                    Ok(Some(address)) if address.index != index || !address.dad_failed() => {
                        Meaning::Unrelated
                    }
                    _ => Meaning::Unclear,
                },
            },
        )
    }

    /// The link-local address that cannot be used yet, or its prefix while there is none. `None` if
    /// the kernel is configured to generate none.
    fn missing_link_local(&self, index: u32, addresses: &[Address]) -> Result<Option<IpNetwork>> {
        if let Some(address) = addresses.iter().find(|address| is_link_local(&address.net.ip())) {
            return Ok(Some(address.net));
        }
        let link = self.link_by_index(index)?;
        let comes = link.is_some_and(|link| link.up() && link.makes_link_local);
        Ok(comes.then(|| IpAddr::V6(LINK_LOCAL).into()))
    }

    /// Checks the state; if it is not reached, subscribes, checks again (it may have changed in
    /// between), and then follows the events of `group`: with the result of `interpret` for the
    /// last one, or another check.
    fn wait(
        &self,
        group: u32,
        deadline: Instant,
        look: &dyn Fn() -> Result<Obstacle>,
        interpret: &dyn Fn(&Message<'_>) -> Meaning,
    ) -> Result<()> {
        if look()?.is_none() {
            return Ok(());
        }
        self.listen_until(group, deadline, look, interpret)
    }

    /// As `wait`, after a first check.
    fn listen_until(
        &self,
        group: u32,
        deadline: Instant,
        look: &dyn Fn() -> Result<Obstacle>,
        interpret: &dyn Fn(&Message<'_>) -> Meaning,
    ) -> Result<()> {
        let events = self.listen(group)?;
        let mut seen = look()?;
        while let Some(pending) = seen {
            if !wait::readable(&events, deadline).map_err(event_error)? {
                return Err(pending.into());
            }
            seen = match latest(&events, interpret).map_err(event_error)? {
                Meaning::Unrelated => Some(pending),
                Meaning::Unclear => look()?,
                Meaning::State(seen) => seen,
            };
        }
        Ok(())
    }

    /// Opens an event socket in this socket's namespace, which need not be the thread's.
    fn listen(&self, group: u32) -> Result<Socket> {
        let open = || {
            Socket::listen(NETLINK_ROUTE, group).map_err(|error| Error::new("open", "an event socket", error))
        };
        let namespace = NetNs::of_socket(self.socket.as_fd())?;
        if namespace.same_as(&NetNs::current()?)? { open() } else { namespace.enter(open)? }
    }
}

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The reason why a link does not carry packets.
fn obstacle(link: Link) -> Obstacle {
    let state = match (link.oper_state, link.port) {
        _ if !link.up() => OperState::Down.to_string(),
        // For drivers that do not report a state, IFF_LOWER_UP counts.
        (OperState::Up | OperState::Unknown, port)
            if port.is_none_or(|port| port.state != PortState::Disabled) =>
        {
            return None;
        }
        (OperState::Up | OperState::Unknown, Some(port)) => port.state.to_string(),
        (state, _) => state.to_string(),
    };
    Some(NotReady::PortState { link: link.name, state })
}

fn event_error(error: io::Error) -> Error {
    Error::new("wait for", "a kernel event", error)
}

/// Reads all pending events; returns the meaning of the last related one.
fn latest(events: &Socket, interpret: &dyn Fn(&Message<'_>) -> Meaning) -> io::Result<Meaning> {
    let mut last = Meaning::Unrelated;
    let mut buffer = Vec::new();
    loop {
        match events.receive(&mut buffer) {
            Ok(()) => {
                for message in Messages::new(&buffer) {
                    match message.map_or(Meaning::Unclear, |message| interpret(&message)) {
                        Meaning::Unrelated => {}
                        more => last = more,
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(last),
            // Events were lost, so the state must be read.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => last = Meaning::Unclear,
            Err(error) => return Err(error),
        }
    }
}
