//! The routers of a link in a container: what they advertise, and what the kernel makes of it.

use std::io;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};
use std::{error, fmt};

use ipnetwork::{IpNetwork, Ipv6Network};
use sys::{sysctl, wait};

use crate::config::Ipv6;
use crate::v6::advert::{has, solicitation};
use crate::v6::{Advert, Heard};
use crate::wire::{DATA_MAX, Place, Wire};

/// Frames read before the addresses are looked at again.
const FRAMES: usize = 64;
/// Pauses between solicitations: the first, which doubles, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// The pause between two looks at the addresses that the kernel makes.
const LOOK: Duration = Duration::from_millis(5);
/// How long the kernel may take for the address of a prefix. Some it ignores.
const MAKING: Duration = Duration::from_secs(1);
/// How long routers have to answer beside DHCPv6, which does not need them. They leave three
/// seconds between two advertisements, and wait up to a half (RFC 4861, section 10).
const BESIDE: Duration = Duration::from_secs(4);

/// The routers of a link.
pub struct Routers<'a> {
    place: &'a Place,
    wire: Wire,
    /// What they advertised.
    pub heard: Heard,
    /// The link's parameter for duplicate address detection, to be set again.
    dad: Option<String>,
    /// When routers were asked first, and are asked next.
    asked: Option<Instant>,
    next: Instant,
    pause: Duration,
}

/// Why there is no address.
#[derive(Debug)]
pub enum NoAddress {
    /// No router was heard in time.
    NoRouter(Duration),
    /// These advertise no prefix for hosts; whether they report DHCPv6.
    NoPrefix(Vec<Ipv6Addr>, bool),
    /// The kernel made none of this prefix.
    NotMade(Ipv6Network),
    /// The kernel refused.
    Kernel(sys::Error),
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRouter(time) => {
                write!(f, "no IPv6 router sent an advertisement within {} s", time.as_secs())
            }
            Self::NoPrefix(routers, managed) => {
                let routers: Vec<_> = routers.iter().map(ToString::to_string).collect();
                write!(f, "the router {} advertises no prefix for autoconfiguration", routers.join(", "))?;
                if *managed { f.write_str(", but DHCPv6 (ipam.ipv6: \"dhcpv6\")") } else { Ok(()) }
            }
            Self::NotMade(net) => write!(f, "the kernel made no address of the advertised prefix {net}"),
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

impl error::Error for NoAddress {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Kernel(error) => error.source(),
            _ => None,
        }
    }
}

impl From<sys::Error> for NoAddress {
    fn from(error: sys::Error) -> Self {
        Self::Kernel(error)
    }
}

impl<'a> Routers<'a> {
    /// Listens to routers, and has the kernel listen. Before the link is up: the kernel asks for
    /// advertisements then.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn listen(place: &'a Place, ipv6: Ipv6, priority: Option<u32>) -> sys::Result<Self> {
        let wire = place.advertisements()?;
        let dad = place.netns.enter(|| prepare(&place.link.name, ipv6, priority))??;
        let next = Instant::now();
        Ok(Self { place, wire, heard: Heard::default(), dad, asked: None, next, pause: FIRST_PAUSE })
    }

    /// Waits until the link-local address is usable, and asks for advertisements.
    ///
    /// # Errors
    /// It is not at the deadline, or the kernel refused.
    pub fn ask(&mut self, deadline: Instant) -> sys::Result<()> {
        self.place.netlink.wait_for_addresses(self.place.link.index, &[], true, deadline)?;
        self.solicit(Instant::now()).map(drop)
    }

    /// Waits for the addresses that the kernel makes: one of each prefix, or those of the first if
    /// others take long.
    ///
    /// # Errors
    /// There is none at the deadline.
    pub fn autoconfigured(&mut self, deadline: Instant) -> Result<Vec<IpNetwork>, NoAddress> {
        let began = Instant::now();
        let mut first = None;
        loop {
            self.read()?;
            let wanted: Vec<Ipv6Network> = self.heard.autonomous().collect();
            let made = if wanted.is_empty() { Vec::new() } else { self.made(&wanted)? };
            let is_whole = wanted.iter().all(|net| made.iter().any(|address| has(*net, address)));
            let now = Instant::now();
            let since = *first.get_or_insert(now);
            if wanted.is_empty() {
                first = None;
            } else if is_whole || !made.is_empty() && now >= since + MAKING {
                return Ok(made);
            }
            if now >= deadline {
                return Err(match wanted.first() {
                    Some(net) => NoAddress::NotMade(*net),
                    None if self.heard.is_empty() => NoAddress::NoRouter(now - began),
                    None => NoAddress::NoPrefix(self.heard.routers().collect(), self.heard.is_managed()),
                });
            }
            let next = if wanted.is_empty() { self.solicit(now)? } else { now + LOOK };
            self.wait(next.min(deadline))?;
        }
    }

    /// Waits for a default router, for a moment after the first question.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn await_router(&mut self, deadline: Instant) -> sys::Result<()> {
        let deadline = deadline.min(self.asked.unwrap_or_else(Instant::now) + BESIDE);
        loop {
            self.read()?;
            let now = Instant::now();
            if self.heard.default_router().is_some() || now >= deadline {
                return Ok(());
            }
            let next = self.solicit(now)?;
            self.wait(next.min(deadline))?;
        }
    }

    fn wait(&self, until: Instant) -> sys::Result<bool> {
        wait::readable(&self.wire, until).map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: io::Error) -> sys::Error {
        sys::Error::new("listen to IPv6 routers on", self.place.link.name.clone(), cause)
    }

    /// Reads what has come.
    fn read(&mut self) -> sys::Result<()> {
        let mut frame = [0; DATA_MAX];
        for _ in 0..FRAMES {
            let length = self.wire.receive(&mut frame).map_err(|cause| self.failed(cause))?;
            let Some(length) = length else { break };
            if let Some(advert) = frame.get(..length).and_then(Advert::of_frame) {
                self.heard.add(advert);
            }
        }
        Ok(())
    }

    /// Asks for advertisements if it is time; returns when it is next. The kernel asks three times
    /// when the link comes up, and not if it was up already.
    fn solicit(&mut self, now: Instant) -> sys::Result<Instant> {
        if now < self.next {
            return Ok(self.next);
        }
        let Some(from) = self.place.link_local()? else { return Ok(now + LOOK) };
        let frame = solicitation(self.place.mac()?, from);
        self.wire.send(&frame).map_err(|cause| self.failed(cause))?;
        self.asked.get_or_insert(now);
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(self.next)
    }

    /// Addresses of the prefixes that the kernel has made, and that last.
    fn made(&self, wanted: &[Ipv6Network]) -> sys::Result<Vec<IpNetwork>> {
        let held = self.place.netlink.addresses(Some(self.place.link.index))?;
        let lasting = held.iter().filter(|address| address.advertised() && !address.is_transient());
        let nets = lasting.map(|address| address.net);
        Ok(nets.filter(|net| wanted.iter().any(|prefix| has(*prefix, net))).collect())
    }
}

impl Drop for Routers<'_> {
    fn drop(&mut self) {
        let Some(dad) = self.dad.take() else { return };
        let key = format!("net/ipv6/conf/{}/accept_dad", self.place.link.name);
        // The interface's plugin sets it again.
        let _ = self.place.netns.enter(|| sysctl::write(&key, &dad));
    }
}

/// Sets the link's parameters; returns the one that is set again later.
fn prepare(ifname: &str, ipv6: Ipv6, priority: Option<u32>) -> sys::Result<Option<String>> {
    let key = |name: &str| format!("net/ipv6/conf/{ifname}/{name}");
    // As for other addresses of containers: the link's own address is made of a unique Ethernet
    // address, and is usable at once.
    let dad = sysctl::read(&key("accept_dad")).ok();
    let _ = sysctl::write(&key("accept_dad"), "0");
    let _ = sysctl::write(&key("router_solicitation_delay"), "0");
    if let Some(priority) = priority {
        // Linux 5.13.
        let _ = sysctl::write(&key("ra_defrtr_metric"), &priority.to_string());
    }
    // Also if the container forwards packets.
    sysctl::write(&key("accept_ra"), "2")?;
    let autoconf = if ipv6 == Ipv6::Slaac { "1" } else { "0" };
    sysctl::write(&key("autoconf"), autoconf)?;
    // The runtime may have switched IPv6 off in the container.
    sysctl::write("net/ipv6/conf/lo/disable_ipv6", "0")?;
    sysctl::write(&key("disable_ipv6"), "0")?;
    Ok(dad)
}
