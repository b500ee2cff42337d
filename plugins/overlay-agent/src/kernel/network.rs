//! One network in the kernel: its device, what the device must hold, and when to look at it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use host::piece::{OverlayLinks, overlay_device};
use netlink::Mac;

use super::entry::{Described, Entries};

/// Time between two comparisons of a network without a reason.
const EVERY: Duration = Duration::from_secs(300);
/// The shortest time between two comparisons: who deletes entries in a loop does not keep the agent
/// busy.
const AT_LEAST: Duration = Duration::from_millis(200);
/// The first wait after a refused entry, and the longest.
const BACK_OFF: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Addresses whose last MAC is remembered.
const REMEMBERED: usize = 4096;

/// A network with attachments on this host.
#[derive(Debug)]
pub(super) struct Network {
    /// Its links.
    pub links: OverlayLinks,
    /// The name of its VXLAN device.
    pub device: String,
    /// The device's index; `None` while it is not there.
    pub index: Option<u32>,
    /// What the device must hold.
    pub wanted: Entries,
    /// What the kernel refused, a line each.
    pub refused: Vec<String>,
    /// When to compare next.
    pub due: Instant,
    /// Whether it was compared before: differences from then on are repairs.
    pub was_compared: bool,
    compared: Option<Instant>,
    back_off: Duration,
    /// The last MAC address of addresses that do not determine it: what neighbours may have in their
    /// caches.
    last: BTreeMap<IpAddr, Mac>,
}

impl Network {
    /// A network that is compared at once.
    pub fn new(links: OverlayLinks, now: Instant) -> Self {
        Self {
            device: overlay_device(&links.network),
            links,
            index: None,
            wanted: Entries::default(),
            refused: Vec::new(),
            due: now,
            was_compared: false,
            compared: None,
            back_off: BACK_OFF,
            last: BTreeMap::new(),
        }
    }

    /// Compares soon.
    pub fn suspect(&mut self, now: Instant) {
        let soonest = self.compared.map_or(now, |compared| (compared + AT_LEAST).max(now));
        self.due = self.due.min(soonest);
    }

    /// An event about an entry of the device.
    pub fn heard(&mut self, entry: Described, exists: bool, now: Instant) {
        if !self.wanted.agrees(entry, exists) {
            self.suspect(now);
        }
    }

    /// A comparison begins: an event from now on is a reason for another one.
    pub fn looks(&mut self, now: Instant) {
        self.compared = Some(now);
        self.due = now + EVERY;
    }

    /// Changes were refused: they are tried again, later each time.
    pub fn note_refusals(&mut self, refused: Vec<String>, now: Instant) {
        if refused.is_empty() {
            // Until a comparison clears them, earlier refusals stand.
            if self.due > now + BACK_OFF_MAX {
                self.refused.clear();
                self.back_off = BACK_OFF;
            }
            return;
        }
        self.refused = refused;
        self.due = self.due.min(now + self.back_off);
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
    }

    /// Takes the wanted state, and returns what must be announced on the bridge: addresses with
    /// another MAC than neighbours may have. An address that comes for the first time has none in
    /// their caches, unless the agent was not there; then only a MAC that was asked for can differ.
    pub fn want(&mut self, wanted: Entries) -> Vec<(IpAddr, Mac)> {
        let mut changed = Vec::new();
        for (ip, mac) in &wanted.neighbours {
            let before = self.last.get(ip).or_else(|| self.wanted.neighbours.get(ip));
            if before.map_or(!is_derived(*mac), |before| before != mac) {
                changed.push((*ip, *mac));
            }
            if *mac == derived(*ip) {
                self.last.remove(ip);
            } else if self.last.len() < REMEMBERED || self.last.contains_key(ip) {
                self.last.insert(*ip, *mac);
            }
        }
        self.wanted = wanted;
        changed
    }
}

/// The first bytes of MAC addresses that follow from addresses.
const DERIVED: [u8; 2] = [0x02, 0x6d];

fn is_derived(mac: Mac) -> bool {
    mac.0.starts_with(&DERIVED)
}

/// The MAC address that a container with this first address has, unless another was asked for: the
/// address's low 32 bits behind two bytes.
fn derived(ip: IpAddr) -> Mac {
    let [a, b, c, d] = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            [a, b, c, d]
        }
    };
    let [first, second] = DERIVED;
    Mac([first, second, a, b, c, d])
}
