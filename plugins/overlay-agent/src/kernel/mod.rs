//! What the kernel must have for the containers of other hosts, and the comparison with what it
//! has. State counts, not events: events only say when to look.

mod announce;
mod batch;
mod device;
mod diff;
mod entry;
mod events;
mod network;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink::message::Refusal;
use netlink::socket::Socket;
use netlink::{Mac, Netlink};
use sys::frame::Sender;
use sys::{Error, Result};

pub use device::Device;
pub use entry::{Change, Entries};

use events::{Event, Listener};
use network::Network;

/// linux/netlink.h.
const NETLINK_ROUTE: isize = 0;
/// Our table of packet rules.
const TABLE: &str = "moor";
/// Refused changes that are described.
const DESCRIBED: usize = 8;
/// Time from a deleted rule to the look at all of them: a flush deletes them one by one.
const RULES_SETTLE: Duration = Duration::from_millis(50);

/// What a step found, for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// When the next step is due, without an event.
    pub next: Instant,
    /// Addresses of this host changed, or the link of the underlay: the source of VXLAN packets may
    /// be another.
    pub underlay_changed: bool,
    /// Packet rules of Moor are gone.
    pub rules_are_gone: bool,
}

/// Numbers for the agent's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Entries that somebody else had changed, and that were repaired.
    pub repaired: u64,
    /// Changes that the kernel refused.
    pub refused: u64,
    /// Comparisons of a network.
    pub compared: u64,
}

/// Programs the entries of all networks of this host. It stays in the network namespace that it was
/// opened in.
#[derive(Debug)]
pub struct Programmer {
    requests: Socket,
    links: Netlink,
    sender: Sender,
    routes: Listener,
    rules: Listener,
    networks: BTreeMap<String, Network>,
    /// The link with the source of VXLAN packets.
    underlay: Option<u32>,
    underlay_changed: bool,
    rules_due: Option<Instant>,
    counted: Counted,
}

impl Programmer {
    /// Opens the sockets, in the calling thread's network namespace.
    ///
    /// # Errors
    /// The caller lacks CAP_NET_RAW, which is needed here only; the kernel lacks nf_tables; or no
    /// descriptor is left.
    pub fn open() -> Result<Self> {
        let requests = Socket::open(NETLINK_ROUTE);
        let sender = Sender::open();
        Ok(Self {
            // First, so that nothing is missed between a listing and an event.
            routes: Listener::of_routes()?,
            rules: Listener::of_rules()?,
            requests: requests.map_err(|error| Error::new("open", "a route netlink socket", error))?,
            links: Netlink::open()?,
            sender: sender.map_err(|error| Error::new("open", "a packet socket", error))?,
            networks: BTreeMap::new(),
            underlay: None,
            underlay_changed: false,
            rules_due: None,
            counted: Counted::default(),
        })
    }

    /// The descriptors that are readable when a step is due.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.routes.as_fd(), self.rules.as_fd()]
    }

    /// The link with the source of VXLAN packets: its changes are reported.
    pub fn follow_underlay(&mut self, index: Option<u32>) {
        self.underlay = index;
    }

    /// What was counted since the start.
    pub fn counted(&self) -> Counted {
        self.counted
    }

    /// Sets what a network with attachments on this host must have. What differs from before is
    /// programmed before this returns; the first time, everything is compared.
    ///
    /// # Errors
    /// The kernel did not answer. It is tried again by [`Self::step`].
    pub fn set(&mut self, name: &str, device: Device, wanted: Entries) -> Result<()> {
        let now = Instant::now();
        let known = self.networks.contains_key(name);
        let network =
            self.networks.entry(name.to_owned()).or_insert_with(|| Network::new(device.clone(), now));
        if network.device != device {
            network.device = device;
            network.index = None;
            network.suspect(now);
        }
        if network.wanted == wanted && known && network.index.is_some() {
            return Ok(());
        }
        // Events up to now are judged by what was wanted when they happened.
        self.hear(now)?;
        let Some(network) = self.networks.get_mut(name) else { return Ok(()) };
        let before = network.wanted.clone();
        let announced = network.want(wanted);
        let done = match network.index {
            Some(index) => {
                let changes = diff::between(&before, &network.wanted);
                self.program(name, index, changes, now).map(|refused| {
                    if let Some(network) = self.networks.get_mut(name) {
                        network.note_refusals(refused, now);
                    }
                })
            }
            None => self.compare(name, now),
        };
        self.announce(name, &announced);
        done
    }

    /// Forgets a network without attachments: its links go with the last attachment, and are not made
    /// again.
    pub fn forget(&mut self, name: &str) {
        self.networks.remove(name);
    }

    /// The networks that are programmed.
    pub fn networks(&self) -> impl Iterator<Item = &str> {
        self.networks.keys().map(String::as_str)
    }

    /// Compares all networks at the next step, as after a reconnect to etcd.
    pub fn compare_all(&mut self) {
        let now = Instant::now();
        self.networks.values_mut().for_each(|network| network.suspect(now));
    }

    /// Reads the kernel's events, and compares the networks that are due.
    ///
    /// # Errors
    /// The kernel did not answer; the next step tries again.
    pub fn step(&mut self, now: Instant) -> Result<Stepped> {
        self.hear(now)?;
        let due: Vec<String> = self
            .networks
            .iter()
            .filter(|(_, network)| network.due <= now)
            .map(|(name, _)| name.clone())
            .collect();
        let mut outcome = Ok(());
        for name in due {
            let compared = self.compare(&name, now);
            outcome = outcome.and(compared);
        }
        outcome?;
        let rules_are_gone = self.rules_due.is_some_and(|due| due <= now);
        if rules_are_gone {
            self.rules_due = None;
        }
        let next = self.networks.values().map(|network| network.due).chain(self.rules_due).min();
        Ok(Stepped {
            next: next.unwrap_or(now + Duration::from_secs(60)),
            underlay_changed: std::mem::take(&mut self.underlay_changed),
            rules_are_gone,
        })
    }

    /// What a network has in the kernel and must not have, or lacks, a line each; it is repaired at
    /// the next step.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub fn differences(&mut self, name: &str) -> Result<Vec<String>> {
        let Some(network) = self.networks.get_mut(name) else { return Ok(Vec::new()) };
        let Some(link) = network.device.find(&self.links)? else {
            network.suspect(Instant::now());
            return Ok(vec![format!("VXLAN device {}: expected, actual none", network.device.name)]);
        };
        let found =
            entry::list(&self.requests, link.index).map_err(|refusal| listing(refusal, &network.device))?;
        let (_, mut lines) = diff::repair(&found, &network.wanted);
        if !lines.is_empty() {
            network.suspect(Instant::now());
        }
        lines.extend(network.refused.iter().cloned());
        Ok(lines)
    }

    /// Reads and judges the events that wait.
    fn hear(&mut self, now: Instant) -> Result<()> {
        let (networks, underlay) = (&mut self.networks, self.underlay);
        let mut underlay_changed = false;
        let mut rules_are_gone = false;
        self.routes.read(|event| match event {
            Event::Entry { index, entry, exists } => {
                if let Some(network) = networks.values_mut().find(|network| network.index == Some(index)) {
                    network.heard(entry, exists, now);
                }
            }
            Event::Link { index, name, exists } => {
                underlay_changed |= underlay == Some(index);
                for network in networks.values_mut() {
                    if network.index == Some(index) || network.device.name == name {
                        if !exists && network.index == Some(index) {
                            network.index = None;
                        }
                        network.suspect(now);
                    }
                }
            }
            Event::Address => underlay_changed = true,
            Event::Lost => {
                underlay_changed = true;
                networks.values_mut().for_each(|network| network.suspect(now));
            }
            Event::Rules { .. } => {}
        })?;
        self.rules.read(|event| match event {
            Event::Rules { table, set: None } => rules_are_gone |= table == TABLE,
            Event::Lost => rules_are_gone = true,
            _ => {}
        })?;
        self.underlay_changed |= underlay_changed;
        if rules_are_gone {
            self.rules_due.get_or_insert(now + RULES_SETTLE);
        }
        Ok(())
    }

    /// Makes what the kernel has equal to what is wanted.
    fn compare(&mut self, name: &str, now: Instant) -> Result<()> {
        let Some(network) = self.networks.get_mut(name) else { return Ok(()) };
        network.looks(now);
        let Some(link) = network.device.find(&self.links)? else {
            network.index = None;
            return Ok(());
        };
        network.index = Some(link.index);
        let found = entry::list(&self.requests, link.index);
        let found = found.map_err(|refusal| listing(refusal, &network.device))?;
        let (changes, lines) = diff::repair(&found, &network.wanted);
        self.counted.compared += 1;
        if network.was_compared {
            self.counted.repaired += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        }
        network.was_compared = true;
        let refused = self.program(name, link.index, changes, now)?;
        if let Some(network) = self.networks.get_mut(name) {
            network.note_refusals(refused, now);
        }
        Ok(())
    }

    /// Sends changes, and reads the events that they cause. Returns what was refused, a line each.
    fn program(&mut self, name: &str, index: u32, changes: Vec<Change>, now: Instant) -> Result<Vec<String>> {
        let mut refused = Vec::new();
        let mut count = 0u64;
        for some in changes.chunks(batch::AT_ONCE) {
            let requests = some.iter().map(|change| change.request(index)).collect();
            let sent = batch::send(&self.requests, requests);
            for (at, refusal) in sent.map_err(|refusal| refusal.on("program", format!("network {name}")))? {
                let Some(change) = some.get(at) else { continue };
                if change.is_deletion() && (refusal.is(libc::ENOENT) || refusal.is(libc::EADDRNOTAVAIL)) {
                    continue;
                }
                // The device went between the last look and now.
                if refusal.is(libc::ENODEV) {
                    if let Some(network) = self.networks.get_mut(name) {
                        network.index = None;
                        network.suspect(now);
                    }
                    return Ok(refused);
                }
                count += 1;
                if refused.len() < DESCRIBED {
                    refused.push(format!(
                        "network {name}: {:#}",
                        refusal.on("have the kernel", change.to_string())
                    ));
                }
            }
            self.hear(now)?;
        }
        self.counted.refused += count;
        if let Some(more) = count.checked_sub(u64::try_from(DESCRIBED).unwrap_or(0)).filter(|more| *more > 0)
        {
            refused.push(format!("network {name}: {more} more changes were refused"));
        }
        Ok(refused)
    }

    /// Announces changed MAC addresses on the network's bridge. Best effort: a neighbour finds out by
    /// itself, later.
    fn announce(&self, name: &str, changed: &[(IpAddr, Mac)]) {
        let Some(network) = self.networks.get(name).filter(|_| !changed.is_empty()) else { return };
        let Ok(Some(bridge)) = self.links.link_by_name(&network.device.bridge) else { return };
        for (ip, mac) in changed {
            if let Err(error) = announce::announce(&self.sender, bridge.index, *ip, *mac) {
                eprintln!("overlay-agent: announce {ip} on {}: {error}", network.device.bridge);
            }
        }
    }
}

fn listing(refusal: Refusal, device: &Device) -> Error {
    refusal.on("list", format!("entries of {}", device.name))
}
