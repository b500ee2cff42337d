//! The settings of queueing disciplines.

use super::{Description, rate, word};
use crate::attr::{Malformed, Writer};

/// linux/pkt_sched.h, options of `tbf`.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_PRATE64: u16 = 5;
const TCA_TBF_BURST: u16 = 6;
const TCA_TBF_PBURST: u16 = 7;
/// Options of `htb`.
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_DIRECT_QLEN: u16 = 5;
/// Options of `fq_codel`.
const TCA_FQ_CODEL_TARGET: u16 = 1;
const TCA_FQ_CODEL_FLOWS: u16 = 5;
const TCA_FQ_CODEL_QUANTUM: u16 = 6;

/// The version of `struct tc_htb_glob`, and the divisor for the quantum of classes without one.
const HTB_VERSION: u32 = 3;
const HTB_RATE_TO_QUANTUM: u32 = 10;

const TICKS_PER_S: u128 = 15_625_000;
/// A rate above those of links, in bytes per second.
const ANY_RATE: u64 = 1 << 40;
/// How far the kernel's own conversion may be off, in ticks.
const ROUNDING: u64 = 64;

/// A queueing discipline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// `tbf`: a token bucket, which delays what exceeds a rate.
    TokenBucket(TokenBucket),
    /// `htb`: classes with a rate each.
    Classes(Classes),
    /// `bfifo`: a queue of at most so many bytes.
    Queue(u32),
    /// `fq_codel`: fair queues, each of which is kept short.
    FairQueue(FairQueue),
    /// `ingress`: filters for arriving packets.
    Ingress,
    /// `clsact`: filters for arriving and for leaving packets.
    Clsact,
    /// Another one, by its name.
    Other(String),
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// In bytes per second.
    pub rate: u64,
    /// The time that the bucket's content takes at that rate, in ticks of 64 ns. The kernel
    /// describes it modulo 2^32.
    pub ticks: u64,
    /// The longest queue, in bytes.
    pub limit: u32,
    /// The longest packet that is not split into segments, in bytes, if that is less than the
    /// bucket's content.
    pub longest: Option<u32>,
}

/// Classes with a rate each. Packets without a class leave at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    /// The minor number of the class of packets that no filter gives one; 0 is none.
    pub default: u32,
    /// The longest queue of packets without a class.
    pub direct: u32,
}

/// Fair queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FairQueue {
    /// The delay in a queue that is accepted, in microseconds.
    pub target_us: u32,
    /// The bytes that a queue sends at a time; 0 is the kernel's default, a packet.
    pub quantum: u32,
}

impl Discipline {
    /// Its name.
    pub fn kind(&self) -> &str {
        match self {
            Self::TokenBucket(_) => "tbf",
            Self::Classes(_) => "htb",
            Self::Queue(_) => "bfifo",
            Self::FairQueue(_) => "fq_codel",
            Self::Ingress => "ingress",
            Self::Clsact => "clsact",
            Self::Other(kind) => kind,
        }
    }

    /// Writes the payload of its TCA_OPTIONS.
    pub(super) fn write(&self, options: u16, attrs: &mut Writer) {
        match self {
            Self::TokenBucket(bucket) => attrs.nest(options, |attrs| bucket.write(attrs)),
            Self::Classes(classes) => attrs.nest(options, |attrs| {
                let init = [HTB_VERSION, HTB_RATE_TO_QUANTUM, classes.default, 0, 0];
                attrs.bytes(TCA_HTB_INIT, &init.map(u32::to_ne_bytes).concat());
                attrs.u32(TCA_HTB_DIRECT_QLEN, classes.direct);
            }),
            Self::Queue(limit) => attrs.u32(options, *limit),
            Self::FairQueue(queue) => attrs.nest(options, |attrs| {
                attrs.u32(TCA_FQ_CODEL_TARGET, queue.target_us);
                if queue.quantum != 0 {
                    attrs.u32(TCA_FQ_CODEL_QUANTUM, queue.quantum);
                }
            }),
            Self::Ingress | Self::Clsact | Self::Other(_) => {}
        }
    }

    /// Options that the discipline of that name refuses, if any would do.
    pub(super) fn write_invalid(kind: &str, options: u16, attrs: &mut Writer) {
        match kind {
            // More queues than it can have.
            "fq_codel" => attrs.nest(options, |attrs| attrs.u32(TCA_FQ_CODEL_FLOWS, u32::MAX)),
            _ => attrs.nest(options, |_| ()),
        }
    }

    pub(super) fn read(found: &Description<'_>) -> Result<Self, Malformed> {
        Ok(match found.kind.as_str() {
            "tbf" => Self::TokenBucket(TokenBucket::read(found)?),
            "htb" => Self::Classes(Classes::read(found)?),
            "bfifo" => match found.options {
                Some(options) => Self::Queue(options.u32()?),
                None => Self::Other(found.kind.clone()),
            },
            "fq_codel" => {
                let mut queue = FairQueue { target_us: 0, quantum: 0 };
                for attr in found.nested() {
                    let attr = attr?;
                    match attr.kind {
                        TCA_FQ_CODEL_TARGET => queue.target_us = attr.u32()?,
                        TCA_FQ_CODEL_QUANTUM => queue.quantum = attr.u32()?,
                        _ => {}
                    }
                }
                Self::FairQueue(queue)
            }
            "ingress" => Self::Ingress,
            "clsact" => Self::Clsact,
            other => Self::Other(other.to_owned()),
        })
    }
}

impl TokenBucket {
    /// Whether a described bucket has this one's content, as far as the kernel describes it: to the
    /// byte, and modulo 2^32 ticks.
    pub fn has_content_of(&self, described: &Self) -> bool {
        let byte = u64::try_from(TICKS_PER_S).unwrap_or(u64::MAX) / self.rate.max(1);
        let off = described.ticks.wrapping_sub(self.ticks) & u64::from(u32::MAX);
        off.min((1 << 32) - off) <= byte + ROUNDING
    }

    /// `struct tc_tbf_qopt`: rate, peak rate, u32 limit, u32 buffer, u32 mtu.
    fn write(&self, attrs: &mut Writer) {
        // A rate of packets one by one, above the other: it only makes their length matter.
        let peak = self.longest.map(|_| ANY_RATE.max(self.rate.saturating_add(1)));
        let ticks = u32::try_from(self.ticks).unwrap_or(u32::MAX);
        let numbers = [self.limit, ticks, 0].map(u32::to_ne_bytes).concat();
        let parameters = [&rate::spec(Some(self.rate)), &rate::spec(peak), numbers.as_slice()].concat();
        attrs.bytes(TCA_TBF_PARMS, &parameters);
        if let Some(rate) = rate::beyond(self.rate) {
            attrs.bytes(TCA_TBF_RATE64, &rate.to_ne_bytes());
        }
        // The number of ticks holds 274 seconds: the bytes of a longer burst.
        if self.ticks > u32::MAX.into() {
            let bytes = u128::from(self.ticks) * u128::from(self.rate) / TICKS_PER_S;
            attrs.u32(TCA_TBF_BURST, u32::try_from(bytes).unwrap_or(u32::MAX));
        }
        if let Some((longest, peak)) = self.longest.zip(peak) {
            attrs.bytes(TCA_TBF_PRATE64, &peak.to_ne_bytes());
            attrs.u32(TCA_TBF_PBURST, longest);
        }
    }

    fn read(found: &Description<'_>) -> Result<Self, Malformed> {
        let mut bucket = Self { rate: 0, ticks: 0, limit: 0, longest: None };
        for attr in found.nested() {
            let attr = attr?;
            match attr.kind {
                TCA_TBF_PARMS => {
                    let numbers = 2 * rate::LENGTH;
                    let short = || Malformed("a token bucket is too short");
                    let rate = rate::read(attr.payload, 0).ok_or_else(short)?;
                    // Or that of the other attribute.
                    bucket.rate = bucket.rate.max(rate);
                    bucket.limit = word(attr.payload, numbers).ok_or_else(short)?;
                    bucket.ticks = word(attr.payload, numbers + 4).ok_or_else(short)?.into();
                }
                TCA_TBF_RATE64 => bucket.rate = rate::whole(&attr)?,
                _ => {}
            }
        }
        Ok(bucket)
    }
}

impl Classes {
    fn read(found: &Description<'_>) -> Result<Self, Malformed> {
        let mut classes = Self { default: 0, direct: 0 };
        for attr in found.nested() {
            let attr = attr?;
            match attr.kind {
                TCA_HTB_INIT => {
                    let default = word(attr.payload, 8);
                    classes.default = default.ok_or(Malformed("a discipline of classes is too short"))?;
                }
                TCA_HTB_DIRECT_QLEN => classes.direct = attr.u32()?,
                _ => {}
            }
        }
        Ok(classes)
    }
}
