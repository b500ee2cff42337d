//! What the kernel must have for the containers of other hosts, and the comparison with what it
//! has. State counts, not events: events only say when to look.

mod announce;
mod batch;
mod diff;
mod entry;
mod events;
mod network;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use host::piece::{self, OverlayPeers};
use netlink::message::Refusal;
use netlink::socket::Socket;
use netlink::{Mac, Netlink};
use sys::frame::Sender;
use sys::{Error, Result};

pub use entry::{Change, Entries};
pub use host::piece::OverlayLinks;

use events::{Event, Listener};
use network::Network;
use rules::{AGAIN, Rules, SETTLE};

/// linux/netlink.h.
const NETLINK_ROUTE: isize = 0;
/// The name of the program in its messages.
const PROGRAM: &str = "overlay-agent";
/// Time to the next step if nothing is due.
const IDLE: Duration = Duration::from_secs(60);
/// Our table of packet rules.
const TABLE: &str = "moor";
/// Refused changes that are described.
const DESCRIBED: usize = 8;
/// What the sets of the guard's members begin with.
const MEMBERS: &str = "overlay-members";

/// What a step found, for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// When the next step is due, without an event.
    pub next: Instant,
    /// Addresses of this host changed, or the link of the underlay: the source of VXLAN packets may
    /// be another.
    pub underlay_changed: bool,
    /// Packet rules were gone, and have been made again.
    pub rules_restored: bool,
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
    of_rules: Listener,
    networks: BTreeMap<String, Network>,
    /// The link with the source of VXLAN packets.
    underlay: Option<u32>,
    underlay_changed: bool,
    /// The sources of all hosts' packets.
    members: Vec<IpAddr>,
    members_due: Option<Instant>,
    rules: Rules,
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
            of_rules: Listener::of_rules()?,
            requests: requests.map_err(|error| Error::new("open", "a route netlink socket", error))?,
            links: Netlink::open()?,
            sender: sender.map_err(|error| Error::new("open", "a packet socket", error))?,
            networks: BTreeMap::new(),
            underlay: None,
            underlay_changed: false,
            members: Vec::new(),
            members_due: None,
            rules: Rules::default(),
            counted: Counted::default(),
        })
    }

    /// The descriptors that are readable when a step is due.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.routes.as_fd(), self.of_rules.as_fd()]
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
    /// programmed before this returns; the first time, and with another device, everything is
    /// compared.
    ///
    /// # Errors
    /// The kernel did not answer. It is tried again by [`Self::step`].
    pub fn set(&mut self, name: &str, links: OverlayLinks, wanted: Entries) -> Result<()> {
        let now = Instant::now();
        let network =
            self.networks.entry(name.to_owned()).or_insert_with(|| Network::new(links.clone(), now));
        if network.links != links {
            network.links = links;
            network.index = None;
        }
        if network.wanted == wanted && network.index.is_some() {
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
                self.program(name, index, changes, now)
            }
            None => self.compare(name, now),
        };
        self.announce(name, &announced);
        done.inspect_err(|_| self.suspect(name, now))
    }

    /// Sets the sources of all hosts' VXLAN packets: the guard lets in nobody else.
    ///
    /// # Errors
    /// The kernel refused, or they cannot be put on record. It is tried again by [`Self::step`].
    pub fn set_members(&mut self, mut members: Vec<IpAddr>) -> Result<()> {
        members.sort();
        members.dedup();
        if self.members == members {
            return Ok(());
        }
        self.members = members;
        self.write_members(Instant::now())
    }

    fn write_members(&mut self, now: Instant) -> Result<()> {
        self.members_due = None;
        let written = piece::set_members(&self.members).map(drop);
        written.inspect_err(|_| self.members_due = Some(now + AGAIN))
    }

    fn suspect(&mut self, name: &str, now: Instant) {
        if let Some(network) = self.networks.get_mut(name) {
            network.suspect(now);
        }
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
            let compared = self.compare(&name, now).inspect_err(|_| self.suspect(&name, now));
            outcome = outcome.and(compared);
        }
        let restored = self.rules.step(now);
        let rules_restored = matches!(restored, Ok(true));
        outcome = outcome.and(restored.map(drop));
        if self.members_due.is_some_and(|due| due <= now) {
            outcome = outcome.and(self.write_members(now));
        }
        outcome?;
        let others = self.rules.due().into_iter().chain(self.members_due);
        let next = self.networks.values().map(|network| network.due).chain(others).min();
        Ok(Stepped {
            next: next.unwrap_or(now + IDLE),
            underlay_changed: std::mem::take(&mut self.underlay_changed),
            rules_restored,
        })
    }

    /// What a network has in the kernel and must not have, or lacks, a line each; it is repaired at
    /// the next step.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub fn differences(&mut self, name: &str) -> Result<Vec<String>> {
        let Some(network) = self.networks.get_mut(name) else { return Ok(Vec::new()) };
        let device = piece::overlay_device(name);
        let Some(index) = OverlayPeers::find(&self.links, name)?.map(|peers| peers.index()) else {
            network.suspect(Instant::now());
            return Ok(vec![format!("VXLAN device {device}: expected, actual none")]);
        };
        let found = entry::list(&self.requests, index).map_err(|refusal| listing(refusal, &device))?;
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
        let (mut rules_are_gone, mut members_are_gone) = (false, false);
        self.routes.read(|event| match event {
            Event::Entry { index, entry, exists } => {
                if let Some(network) = networks.values_mut().find(|network| network.index == Some(index)) {
                    network.heard(entry, exists, now);
                }
            }
            Event::Link { index, name, exists } => {
                underlay_changed |= underlay == Some(index);
                for network in networks.values_mut() {
                    if network.index == Some(index) || network.device == name {
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
        self.of_rules.read(|event| match event {
            Event::Rules { table, set: None } => rules_are_gone |= table == TABLE,
            Event::Rules { table, set: Some(set) } => {
                members_are_gone |= table == TABLE && set.starts_with(MEMBERS);
            }
            Event::Lost => (rules_are_gone, members_are_gone) = (true, true),
            _ => {}
        })?;
        self.underlay_changed |= underlay_changed;
        if rules_are_gone {
            self.rules.suspect(now);
        }
        if members_are_gone {
            self.members_due.get_or_insert(now + SETTLE);
        }
        Ok(())
    }

    /// Makes what the kernel has equal to what is wanted, the device first.
    fn compare(&mut self, name: &str, now: Instant) -> Result<()> {
        let Some(network) = self.networks.get_mut(name) else { return Ok(()) };
        network.looks(now);
        network.index = None;
        let mut repaired = 0;
        match network.links.restore(&self.links) {
            Ok(was_different) => repaired += u64::from(was_different),
            Err(error) => {
                network.note_refusals(vec![format!("network {name}: {error:#}")], now);
                return Err(error.within(format!("make the VXLAN device of network {name} again")));
            }
        }
        let Some(index) = OverlayPeers::find(&self.links, name)?.map(|peers| peers.index()) else {
            return Ok(());
        };
        network.index = Some(index);
        let found = entry::list(&self.requests, index);
        let found = found.map_err(|refusal| listing(refusal, &network.device))?;
        let (changes, lines) = diff::repair(&found, &network.wanted);
        repaired += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.counted.compared += 1;
        if std::mem::replace(&mut network.was_compared, true) {
            self.counted.repaired += repaired;
        }
        self.program(name, index, changes, now)
    }

    /// Sends changes, and reads the events that they cause. What is refused is noted, and tried again
    /// later.
    fn program(&mut self, name: &str, index: u32, changes: Vec<Change>, now: Instant) -> Result<()> {
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
                    return Ok(());
                }
                count += 1;
                if refused.len() < DESCRIBED {
                    refused
                        .push(format!("network {name}: {:#}", refusal.on(change.verb(), change.to_string())));
                }
            }
            self.hear(now)?;
        }
        self.counted.refused += count;
        if let Some(more) = count.checked_sub(u64::try_from(DESCRIBED).unwrap_or(0)).filter(|more| *more > 0)
        {
            refused.push(format!("network {name}: {more} more changes were refused"));
        }
        if let Some(network) = self.networks.get_mut(name) {
            network.note_refusals(refused, now);
        }
        Ok(())
    }

    /// Announces changed MAC addresses on the network's bridge. Best effort: a neighbour finds out by
    /// itself, later.
    fn announce(&self, name: &str, changed: &[(IpAddr, Mac)]) {
        if changed.is_empty() {
            return;
        }
        let bridge_name = piece::overlay_bridge(name);
        let Ok(Some(bridge)) = self.links.link_by_name(&bridge_name) else { return };
        for (ip, mac) in changed {
            if let Err(error) = announce::announce(&self.sender, bridge.index, *ip, *mac) {
                eprintln!("{PROGRAM}: announce {ip} on {bridge_name}: {error}");
            }
        }
    }
}

fn listing(refusal: Refusal, device: &str) -> Error {
    refusal.on("list", format!("entries of {device}"))
}
