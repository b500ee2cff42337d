//! The queueing discipline of a link that keeps packets to a rate.

use netlink::{Classes, Discipline, FairQueue, Handle, Netlink, Qdisc, RateClass, TokenBucket};
use sys::{Error, Result};

use super::super::{Feature, Kernel, Part, Place, Undo};
use super::{OF_REFERENCE, OtherEnd, Packets};
use crate::{Conflict, Drift};

/// The minor number of the class that is shaped: a token bucket has no other.
const SHAPED: u16 = 1;
/// The longest queue of packets that are not shaped, in packets: that of an Ethernet link.
const DIRECT: u32 = 1000;
const TICKS_PER_S: u128 = 15_625_000;
const US_PER_S: u128 = 1_000_000;
/// Bursts that last less than this, in microseconds, are computed more exactly than the
/// reference's.
const SHORT_US: u128 = 1000;
/// How far the kernel rounds a time, in microseconds.
const ROUNDING_US: u32 = 8;

/// A rate for the packets that leave by a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaper {
    /// The link's name.
    pub link: String,
    /// [`super::shaper_handle`].
    pub handle: Handle,
    /// In bytes per second.
    pub rate: u64,
    /// What may exceed the rate, in bytes.
    pub burst: u32,
    /// The longest queue, in bytes.
    pub limit: u32,
    /// Which packets.
    pub packets: Packets,
    /// Where a packet has the address of the other end.
    pub end: OtherEnd,
    /// Queues that are kept short, one for each connection; `None` is one queue.
    pub fairness: Option<Fairness>,
    /// The MTU of the link in bytes.
    pub mtu: u32,
}

/// Queues for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fairness {
    /// The delay that is accepted in a queue, in microseconds.
    pub target_us: u32,
    /// The bytes that a queue sends at a time; 0 is a packet.
    pub quantum: u32,
    /// The longest packet that is not split into segments, in bytes.
    pub longest: u32,
}

/// The time of so many bytes at that rate, in ticks of 64 ns. Like the reference in whole
/// microseconds, so that each suite's CHECK accepts what the other made.
fn ticks(rate: u64, bytes: u32) -> u64 {
    let (rate, bytes) = (u128::from(rate.max(1)), u128::from(bytes));
    let us = bytes * US_PER_S / rate;
    let ticks = match us {
        0..SHORT_US => (bytes * TICKS_PER_S).div_ceil(rate),
        us => us * TICKS_PER_S / US_PER_S,
    };
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Deletes the discipline of that number from a link.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn take_back(host: &Netlink, link: u32, handle: Handle) -> Result<()> {
    match host.qdisc(link, Handle::ROOT)? {
        Some(found) if found.handle == handle => host.delete_qdisc(link, Handle::ROOT),
        _ => Ok(()),
    }
}

impl Shaper {
    fn class(&self) -> Handle {
        self.handle.class(SHAPED)
    }

    fn root(&self) -> Discipline {
        let default = |class| Discipline::Classes(Classes { default: class, direct: DIRECT });
        match self.packets {
            Packets::All => {
                let longest = self.fairness.map(|fairness| fairness.longest);
                Discipline::TokenBucket(TokenBucket {
                    rate: self.rate,
                    ticks: ticks(self.rate, self.burst),
                    limit: self.limit,
                    longest: longest.filter(|longest| *longest < self.burst),
                })
            }
            Packets::Only(_) => default(0),
            Packets::AllBut(_) => default(SHAPED.into()),
        }
    }

    fn rate_class(&self) -> RateClass {
        let ticks = u32::try_from(ticks(self.rate, self.burst)).unwrap_or(u32::MAX);
        RateClass { rate: self.rate, ticks, quantum: self.mtu.saturating_mul(10) }
    }

    /// The discipline of the class, if it is not the kernel's own.
    fn leaf(&self) -> Option<Discipline> {
        match (self.fairness, &self.packets) {
            (Some(Fairness { target_us, quantum, .. }), _) => {
                Some(Discipline::FairQueue(FairQueue { target_us, quantum }))
            }
            // A token bucket has this one already.
            (None, Packets::All) => None,
            (None, _) => Some(Discipline::Queue(self.limit)),
        }
    }

    fn create(&self, host: &Netlink, index: u32) -> Result<()> {
        let create = |parent, handle, discipline: &Discipline| {
            host.create_qdisc(index, parent, handle, discipline).map_err(|error| missing(error, discipline))
        };
        create(Handle::ROOT, self.handle, &self.root())?;
        if self.packets != Packets::All {
            host.create_class(index, self.class(), &self.rate_class())?;
        }
        if let Some(leaf) = self.leaf() {
            create(self.class(), Handle::NONE, &leaf)?;
        }
        let filters = self.packets.filters(self.class(), self.end);
        filters.iter().try_for_each(|filter| host.create_filter(index, self.handle, filter))
    }

    /// Whether the discipline was made by an earlier ADD of this attachment, of either suite.
    fn may_replace(&self, found: &Qdisc) -> bool {
        match found.discipline {
            Discipline::TokenBucket(_) => [self.handle, OF_REFERENCE].contains(&found.handle),
            Discipline::Classes(_) => found.handle == self.handle,
            _ => false,
        }
    }

    fn drifts(&self, host: &Netlink, index: u32) -> Result<Vec<Drift>> {
        let what = |what: &str| format!("{what} of {}", self.link);
        let root = host.qdisc(index, Handle::ROOT)?;
        let Some(root) = root.filter(|root| root.handle.is_configured()) else {
            return Ok(vec![Drift::new(what("queueing discipline"), self.root().kind(), "none")]);
        };
        let mut drifts = Vec::new();
        let class = root.handle.class(SHAPED);
        match (&root.discipline, self.root()) {
            (Discipline::TokenBucket(found), Discipline::TokenBucket(expected)) => {
                drifts.extend(self.rate_drift(found.rate));
                // The reference loses the upper bits of a long burst.
                let is_exact = root.handle != OF_REFERENCE || expected.ticks <= u32::MAX.into();
                if is_exact {
                    drifts.extend(Drift::unless_equal(what("queue limit"), expected.limit, found.limit));
                }
                if found.rate == expected.rate && is_exact && !expected.has_content_of(found) {
                    drifts.push(self.burst_drift(found.ticks));
                }
            }
            (Discipline::Classes(found), Discipline::Classes(expected)) => {
                drifts.extend(Drift::unless_equal(what("default class"), expected.default, found.default));
                match host.class(index, class)? {
                    None => drifts.push(Drift::new(what("shaped class"), class, "missing")),
                    Some(found) => {
                        drifts.extend(self.rate_drift(found.rate));
                        if found.ticks != self.rate_class().ticks {
                            drifts.push(self.burst_drift(found.ticks.into()));
                        }
                    }
                }
                let rules = |filters: Vec<netlink::Filter>| -> Vec<_> {
                    filters.into_iter().map(|filter| (filter.protocol, filter.rule)).collect()
                };
                let mut expected = self.packets.filters(class, self.end);
                expected.sort_by_key(|filter| filter.priority);
                let (expected, found) = (rules(expected), rules(host.filters(index, root.handle)?));
                if expected != found {
                    let count = |all: Vec<_>| format!("{} filters", all.len());
                    drifts.push(Drift::new(what("shaped subnets"), count(expected), count(found)));
                }
            }
            (found, expected) => {
                drifts.push(Drift::new(what("queueing discipline"), expected.kind(), found.kind()));
                return Ok(drifts);
            }
        }
        drifts.extend(self.leaf_drift(host, index, class)?);
        Ok(drifts)
    }

    fn leaf_drift(&self, host: &Netlink, index: u32, class: Handle) -> Result<Option<Drift>> {
        let found = host.qdisc(index, class)?.map(|found| found.discipline);
        let is_right = match (self.leaf(), &found) {
            (None, found) => !matches!(found, Some(Discipline::FairQueue(_))),
            (Some(Discipline::FairQueue(expected)), Some(Discipline::FairQueue(found))) => {
                found.target_us.abs_diff(expected.target_us) <= ROUNDING_US
                    && [0, found.quantum].contains(&expected.quantum)
            }
            (Some(expected), Some(found)) => expected == *found,
            (Some(_), None) => false,
        };
        let kind = |leaf: &Option<Discipline>| match leaf {
            Some(Discipline::Queue(limit)) => format!("bfifo of {limit} bytes"),
            Some(Discipline::FairQueue(queue)) => format!("fq_codel with a target of {} us", queue.target_us),
            Some(leaf) => leaf.kind().to_owned(),
            None => "one queue".to_owned(),
        };
        let what = format!("queue of {}", self.link);
        Ok((!is_right).then(|| Drift::new(what, kind(&self.leaf()), kind(&found))))
    }

    fn rate_drift(&self, found: u64) -> Option<Drift> {
        let text = |rate: u64| format!("{} bit/s", u128::from(rate) * 8);
        Drift::unless_equal(format!("rate of {}", self.link), text(self.rate), text(found))
    }

    fn burst_drift(&self, found: u64) -> Drift {
        let bytes = u128::from(found) * u128::from(self.rate) / TICKS_PER_S;
        Drift::new(
            format!("burst of {}", self.link),
            format!("{} bytes", self.burst),
            format!("{bytes} bytes"),
        )
    }
}

/// Explains a missing module.
fn missing(error: Error, discipline: &Discipline) -> Error {
    match discipline {
        Discipline::TokenBucket(_) if error.is_not_found() => {
            error.within(Feature::Discipline("tbf").missing())
        }
        Discipline::Classes(_) if error.is_not_found() => error.within(Feature::Discipline("htb").missing()),
        Discipline::FairQueue(_) if error.is_not_found() => {
            error.within(Feature::Discipline("fq_codel").missing())
        }
        _ => error,
    }
}

impl Part for Shaper {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let failed = |error: Error| error.within(format!("failed to shape {}", self.link));
        let index = kernel.index(Place::Host, &self.link)?;
        let host = &kernel.host;
        if let Some(found) = host.qdisc(index, Handle::ROOT)?.filter(|found| found.handle.is_configured()) {
            if !self.may_replace(&found) {
                let kind = found.discipline.kind().to_owned();
                return Err(Conflict::Queued { link: self.link.clone(), kind, handle: found.handle }.into());
            }
            if found.handle == self.handle && self.drifts(host, index)?.is_empty() {
                return Ok(());
            }
            host.delete_qdisc(index, Handle::ROOT).map_err(failed)?;
        }
        undo.push(Undo::Shaper(self.link.clone(), self.handle));
        self.create(host, index).map_err(failed)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        match kernel.host.link_by_name(&self.link)? {
            Some(link) => self.drifts(&kernel.host, link.index),
            None => Ok(vec![Drift::new(format!("link {}", self.link), "present", "missing")]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn times_of_bursts_are_the_references_unless_it_loses_them() {
        // 8 Mbit/s, 800 kbit: 100 ms.
        assert_eq!(ticks(1_000_000, 100_000), 1_562_500);
        // 3 us at 1 Gbit/s is whole microseconds for the reference; a byte at 100 Gbit/s is nothing.
        assert_eq!(ticks(125_000_000, 375), 47);
        assert_eq!(ticks(12_500_000_000, 1), 1);
        // Beyond 2^32 ticks.
        assert_eq!(ticks(1_000, u32::MAX), 67_108_863_984_375);
        assert_eq!(ticks(0, 1), 15_625_000);
    }
}
