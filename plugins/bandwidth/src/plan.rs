//! What must exist, from the configuration and the links. Pure.

use host::Owner;
use host::piece::{Fairness, Ifb, OtherEnd, Piece, Redirect, Shaper, shaper_handle};

use crate::config::{Config, Rate};

/// A packet waits at most this long if the queue has nothing but one burst: the reference's
/// latency.
const LATENCY_PER_S: u64 = 40;
/// A burst without a number: what passes in 50 ms, but at least ten packets.
const BURST_PER_S: u64 = 20;
const BURST_PACKETS: u32 = 10;
/// The length of a frame's headers, with two VLAN tags.
const HEADERS: u32 = 22;
/// With fq_codel: the delay in a queue that is accepted, but at least the time of a packet; and the
/// time that one packet may take, but at least that of a frame.
const TARGET_US: u64 = 5_000;
const LONGEST_PER_S: u64 = 500;
/// And how many bytes a queue sends at a time below that rate (100 Mbit/s): a short packet then
/// waits for one long one at most.
const SMALL_QUANTUM: u32 = 300;
const LARGE_RATE: u64 = 12_500_000;
const US_PER_S: u64 = 1_000_000;

/// The host's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The owner.
    pub owner: &'a Owner,
    /// The host's end of the container's pair.
    pub veth: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The IFB link for packets from the container.
    pub ifb: String,
}

/// The plan of an attachment.
pub fn plan(config: &Config, facts: &Facts<'_>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let shaper = |link: &str, rate, end| Piece::Shaper(shaper(config, facts, link, rate, end));
    if let Some(rate) = config.ingress {
        pieces.push(shaper(&facts.veth, rate, OtherEnd::Source));
    }
    if let Some(rate) = config.egress {
        let (name, label) = (facts.ifb.clone(), facts.owner.label());
        pieces.push(Piece::Ifb(Ifb { name, mtu: facts.mtu, label }));
        pieces.push(shaper(&facts.ifb, rate, OtherEnd::Destination));
        // Last: the packets find everything.
        pieces.push(Piece::Redirect(Redirect { link: facts.veth.clone(), to: facts.ifb.clone() }));
    }
    pieces
}

fn shaper(config: &Config, facts: &Facts<'_>, link: &str, rate: Rate, end: OtherEnd) -> Shaper {
    let Rate { rate, burst } = rate;
    // A packet that exceeds the burst would never pass.
    let frame = facts.mtu.saturating_add(HEADERS);
    let usual = || number(rate / BURST_PER_S).max(facts.mtu.saturating_mul(BURST_PACKETS));
    let burst = burst.unwrap_or_else(usual).max(frame);
    let fairness = Fairness {
        target_us: number(time_us(frame, rate).max(TARGET_US)),
        quantum: if rate < LARGE_RATE { SMALL_QUANTUM } else { 0 },
        longest: number(rate / LONGEST_PER_S).max(frame),
    };
    Shaper {
        link: link.to_owned(),
        handle: shaper_handle(facts.owner),
        rate,
        burst,
        limit: number(rate / LATENCY_PER_S).saturating_add(burst),
        packets: config.packets.clone(),
        end,
        fairness: config.fq_codel.then_some(fairness),
        mtu: facts.mtu,
    }
}

fn number(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The time of so many bytes at that rate, in microseconds.
fn time_us(bytes: u32, rate: u64) -> u64 {
    u64::from(bytes) * US_PER_S / rate.max(1)
}
