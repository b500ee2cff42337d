//! Which addresses of a network this host may give: a function of the configuration and of
//! `blocks.json`.

use std::net::IpAddr;

use cluster::block::{Limits, Space};
use cluster::local::Blocks;
use ipnetwork::IpNetwork;
use leases::{Exclude, Offer, Range, RangeSet};

use crate::config::Settings;

/// What keeps an ADD from what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// There is no `blocks.json`.
    Blocks,
    /// The address asked for is in none of this host's blocks, or another host has it.
    Address(IpAddr),
    /// This host may give none: it has not heard of etcd for long, or not since boot.
    Closed,
    /// This host has no address of this subnet, by its place among the network's.
    Any(usize),
}

/// The addresses of this host, a set for each subnet. Where an address is asked for, a set has all
/// of them; else those between `rangeStart` and `rangeEnd`.
pub fn offer(settings: &Settings, blocks: &Blocks) -> Result<Offer, Lack> {
    let mut sets = Vec::with_capacity(settings.asked.len());
    for (index, (space, asked)) in Space::of(&settings.want).iter().zip(&settings.asked).enumerate() {
        let within = match asked {
            Some(_) => (space.subnet.network(), space.subnet.broadcast()),
            None => settings.limits.within(space.subnet),
        };
        let set = RangeSet::new(ranges(space, blocks, within)).ok();
        sets.push(match (set, asked) {
            (Some(set), None) => set,
            (Some(set), Some(ip)) if set.range_of(*ip).is_some() && !blocks.lent.contains(ip) => set,
            (_, Some(ip)) => return Err(Lack::Address(*ip)),
            (None, None) => return Err(Lack::Any(index)),
        });
    }
    let apart = blocks.lent.iter().chain(&blocks.own).map(|ip| IpNetwork::from(*ip));
    let excluded: Vec<IpNetwork> = settings.limits.exclude.iter().copied().chain(apart).collect();
    Ok(Offer { sets, exclude: Exclude::new(&excluded), keep: true, cooldown: settings.cooldown })
}

/// The host's blocks and borrowed addresses in a subnet, in order, neighbours as one range.
fn ranges(space: &Space, blocks: &Blocks, (start, end): (IpAddr, IpAddr)) -> Vec<Range> {
    let own = blocks.blocks.iter().filter_map(|first| Some((*first, space.last(*first)?)));
    let borrowed = blocks.borrowed.iter().filter(|ip| space.subnet.contains(**ip)).map(|ip| (*ip, *ip));
    let mut spans: Vec<_> = own
        .chain(borrowed)
        .map(|(first, last)| (first.max(start), last.min(end)))
        .filter(|(first, last)| first <= last)
        .collect();
    spans.sort_unstable();
    let mut ranges: Vec<Range> = Vec::with_capacity(spans.len());
    for (start, end) in spans {
        match ranges.last_mut() {
            Some(last) if start <= last.end || is_next(last.end, start) => last.end = last.end.max(end),
            _ => ranges.push(Range { subnet: space.subnet, start, end, gateway: space.gateway }),
        }
    }
    ranges
}

fn is_next(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.to_bits().checked_add(1) == Some(other.to_bits()),
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits().checked_add(1) == Some(other.to_bits()),
        _ => false,
    }
}

/// Whether this host has the address: of its blocks, or borrowed; not lent, and not its own.
pub fn is_held(space: &Space, blocks: &Blocks, ip: IpAddr) -> bool {
    let in_block = || space.block_of(ip).is_some_and(|first| blocks.blocks.contains(&first));
    !blocks.lent.contains(&ip) && !blocks.own.contains(&ip) && (blocks.borrowed.contains(&ip) || in_block())
}

/// Whether so many leases leave less than a quarter of a block in a subnet: so few that the next
/// block should be here soon. About so many: an attachment may have an address of one subnet alone.
pub fn is_low(settings: &Settings, blocks: &Blocks, leases: u64) -> bool {
    let spaces = Space::of(&settings.want);
    let each = leases / u64::try_from(spaces.len()).unwrap_or(1).max(1);
    spaces.iter().any(|space| {
        let count = |ips: &mut dyn Iterator<Item = IpAddr>| u64::try_from(ips.count()).unwrap_or(u64::MAX);
        let inside = |ip: &IpAddr| space.subnet.contains(*ip);
        let in_block = |ip: &IpAddr| space.block_of(*ip).is_some_and(|first| blocks.blocks.contains(&first));
        let firsts = count(&mut blocks.blocks.iter().copied().filter(|first| space.is_block(*first)));
        let network = [space.subnet.network(), space.gateway];
        let special = network.into_iter().chain(space.subnet.is_ipv4().then(|| space.subnet.broadcast()));
        let apart = special.chain(blocks.own.iter().copied()).chain(blocks.lent.iter().copied());
        let apart = count(&mut apart.filter(in_block));
        let borrowed = count(&mut blocks.borrowed.iter().copied().filter(inside));
        let firsts_of = || blocks.blocks.iter().copied().filter(|first| space.is_block(*first));
        let mark = u64::try_from(space.low_mark(firsts_of(), &settings.limits)).unwrap_or(1);
        let all = match settings.limits == Limits::default() {
            true => firsts.saturating_mul(space.size.into()).saturating_sub(apart),
            false => firsts_of().map(|first| space.given_in(first, &settings.limits) as u64).sum(),
        };
        all.saturating_add(borrowed).saturating_sub(each) < mark
    })
}

#[cfg(test)]
mod tests;
