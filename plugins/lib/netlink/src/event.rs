//! Waiting for the kernel: by its events, never by sleeping, and never past a deadline.

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

/// linux/rtnetlink.h: the bits of the multicast groups RTNLGRP_LINK (1) and RTNLGRP_IPV6_IFADDR (9).
const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
/// RTNLGRP_IPV6_ROUTE (11).
const RTMGRP_IPV6_ROUTE: u32 = 0x400;

/// RFC 4291, section 2.5.6: how all link-local addresses begin.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::from_bits(0xfe80 << 112);

/// linux/socket.h: the description is of the link itself, not of what it is to a bridge.
const AF_UNSPEC: u8 = 0;

/// What is in the way of what is waited for, as the error to give if it stays so; none: it is there.
type Obstacle = Option<NotReady>;

/// What an event says of what is waited for.
enum Heard {
    /// It is about something else.
    Nothing,
    /// It is about that, but does not say enough.
    Something,
    /// It says how it is.
    Seen(Obstacle),
}

impl Netlink {
    /// Waits until the link is up and, if it is a bridge port, forwards. Spanning tree, which takes its time on purpose,
    /// is not waited for: it returns the state in which that holds the port.
    ///
    /// # Errors
    /// [`NotReady::PortState`] at the deadline; `is_not_found` when the link goes away.
    pub fn wait_for_port(&self, index: u32, deadline: Instant) -> Result<Option<PortState>> {
        let held = Cell::new(None);
        let obstacle = |link: Link| {
            held.set(link.port.map(|port| port.state).filter(|state| state.is_spanning_trees()));
            obstacle(link)
        };
        let look = || {
            let link = self.link_by_index(index)?.ok_or_else(|| {
                Error::new("wait for bridge port", format!("interface {index}"), Errno::ENODEV)
            })?;
            Ok(obstacle(link))
        };
        // The event describes the link as it then is. To ask again is to wait for the lock that the kernel still holds
        // for what comes after: on a bridge with a thousand ports, milliseconds.
        self.wait(RTMGRP_LINK, deadline, &look, &|event| match link::read::index(event.payload) {
            Ok(about) if about == index => match event.payload.first() {
                Some(&AF_UNSPEC) if event.kind == RTM_NEWLINK => link::read::link(event.payload)
                    .map_or(Heard::Something, |link| Heard::Seen(obstacle(link))),
                // The bridge tells of its ports in words of its own; and a link may go away.
                _ => Heard::Something,
            },
            _ => Heard::Nothing,
        })?;
        Ok(held.get())
    }

    /// Waits until these IPv6 addresses of the link can be used, and its `link_local` one if that is asked for and the
    /// link is to have one.
    ///
    /// # Errors
    /// [`NotReady::DuplicateAddress`] as soon as one has failed; [`NotReady::TentativeAddress`] at the deadline.
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
                        Heard::Nothing
                    }
                    _ => Heard::Something,
                },
                // A route says that an address can be used, an address that it never will.
                _ => match addr::read(event.payload) {
                    Ok(Some(address)) if address.index != index || !address.dad_failed() => Heard::Nothing,
                    _ => Heard::Something,
                },
            },
        )
    }

    /// The link-local address that is not usable yet, or the prefix of one that is yet to come. None where the kernel
    /// was told to make none.
    fn missing_link_local(&self, index: u32, addresses: &[Address]) -> Result<Option<IpNetwork>> {
        if let Some(address) = addresses.iter().find(|address| is_link_local(&address.net.ip())) {
            return Ok(Some(address.net));
        }
        let link = self.link_by_index(index)?;
        let comes = link.is_some_and(|link| link.up() && link.makes_link_local);
        Ok(comes.then(|| IpAddr::V6(LINK_LOCAL).into()))
    }

    /// Looks; if that does not do, subscribes, looks again (something may have happened in between), and then listens
    /// to the events of `group`: what `hear` makes of the last one, or another look.
    fn wait(
        &self,
        group: u32,
        deadline: Instant,
        look: &dyn Fn() -> Result<Obstacle>,
        hear: &dyn Fn(&Message<'_>) -> Heard,
    ) -> Result<()> {
        if look()?.is_none() {
            return Ok(());
        }
        self.listen_until(group, deadline, look, hear)
    }

    /// The same for what has been looked for already.
    fn listen_until(
        &self,
        group: u32,
        deadline: Instant,
        look: &dyn Fn() -> Result<Obstacle>,
        hear: &dyn Fn(&Message<'_>) -> Heard,
    ) -> Result<()> {
        let events = self.listen(group)?;
        let mut seen = look()?;
        while let Some(pending) = seen {
            if !wait::readable(&events, deadline).map_err(unheard)? {
                return Err(pending.into());
            }
            seen = match heard(&events, hear).map_err(unheard)? {
                Heard::Nothing => Some(pending),
                Heard::Something => look()?,
                Heard::Seen(seen) => seen,
            };
        }
        Ok(())
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

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// What keeps a link from carrying packets.
fn obstacle(link: Link) -> Obstacle {
    let state = match (link.oper_state, link.port) {
        _ if !link.up() => OperState::Down.to_string(),
        // Drivers that do not say are taken at their flag's word.
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

fn unheard(error: io::Error) -> Error {
    Error::new("wait for", "a kernel event", error)
}

/// Takes all events that have come, and says what the last one that says something says.
fn heard(events: &Socket, hear: &dyn Fn(&Message<'_>) -> Heard) -> io::Result<Heard> {
    let mut last = Heard::Nothing;
    let mut buffer = Vec::new();
    loop {
        match events.receive(&mut buffer) {
            Ok(()) => {
                for message in Messages::new(&buffer) {
                    match message.map_or(Heard::Something, |message| hear(&message)) {
                        Heard::Nothing => {}
                        more => last = more,
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(last),
            // Events were lost: all the more reason to look.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => last = Heard::Something,
            Err(error) => return Err(error),
        }
    }
}
