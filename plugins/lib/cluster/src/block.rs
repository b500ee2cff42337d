//! Blocks: a subnet is cut into pieces of equal size, each of which belongs to one host.
//!
//! Of an IPv6 subnet the first 2^32 addresses are cut. Network, broadcast and gateway addresses are
//! in blocks like all others, but nobody gets them.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use sys::IpFamily;

use crate::record::Net;

/// The bits of the addresses that are cut into blocks.
const CUT_BITS: u8 = 32;
/// The most blocks, and the most addresses, that are looked at for useful ones.
const LOOKED_AT_MAX: usize = 16_384;

/// The blocks of one subnet of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The subnet.
    pub subnet: IpNetwork,
    /// Its gateway.
    pub gateway: IpAddr,
    /// Addresses in a block.
    pub size: u32,
}

/// What a configuration keeps back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Never given, not even when asked for.
    #[serde(default, with = "crate::prefix")]
    pub exclude: Vec<IpNetwork>,
    /// The first address that is given without being asked for.
    #[serde(default)]
    pub start: Option<IpAddr>,
    /// The last one.
    #[serde(default)]
    pub end: Option<IpAddr>,
}

impl Limits {
    /// Whether an address is never given.
    pub fn excludes(&self, ip: IpAddr) -> bool {
        self.exclude.iter().any(|net| net.contains(ip))
    }

    /// Whether an address is given without being asked for. A bound of the other family bounds
    /// nothing.
    pub fn gives(&self, ip: IpAddr) -> bool {
        let is_same = |bound: &IpAddr| bound.is_ipv4() == ip.is_ipv4();
        !self.excludes(ip)
            && self.start.filter(is_same).is_none_or(|start| start <= ip)
            && self.end.filter(is_same).is_none_or(|end| ip <= end)
    }

    /// The first and the last address of a subnet that are given without being asked for. A bound
    /// outside of the subnet bounds nothing.
    pub fn within(&self, subnet: IpNetwork) -> (IpAddr, IpAddr) {
        let inside = |bound: Option<IpAddr>| bound.filter(|ip| subnet.contains(*ip));
        (inside(self.start).unwrap_or(subnet.network()), inside(self.end).unwrap_or(subnet.broadcast()))
    }
}

impl Space {
    /// The blocks of each subnet of a network.
    pub fn of(net: &Net) -> Vec<Self> {
        let pairs = net.subnets.iter().zip(&net.gateways);
        pairs
            .map(|(subnet, gateway)| Self { subnet: *subnet, gateway: *gateway, size: net.block_size })
            .collect()
    }

    /// The blocks of the subnet of a network that has an address.
    pub fn with(net: &Net, ip: IpAddr) -> Option<Self> {
        Self::of(net).into_iter().find(|space| space.subnet.contains(ip))
    }

    /// How many blocks there are.
    pub fn count(&self) -> u64 {
        let count = addresses(self.subnet) / u128::from(self.size.max(1));
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// The first address of a block, by the block's number.
    pub fn first(&self, number: u64) -> Option<IpAddr> {
        let offset = u128::from(number) * u128::from(self.size);
        if number < self.count() { address(self.subnet, offset) } else { None }
    }

    /// The number of the block that has an address.
    pub fn number(&self, ip: IpAddr) -> Option<u64> {
        if !self.subnet.contains(ip) {
            return None;
        }
        let number = (to_number(ip) - to_number(self.subnet.network())) / u128::from(self.size.max(1));
        u64::try_from(number).ok().filter(|number| *number < self.count())
    }

    /// The first address of the block that has an address: the block's name.
    pub fn block_of(&self, ip: IpAddr) -> Option<IpAddr> {
        self.first(self.number(ip)?)
    }

    /// Whether a block begins with this address.
    pub fn is_block(&self, first: IpAddr) -> bool {
        self.block_of(first) == Some(first)
    }

    /// The last address of the block that begins with this address.
    pub fn last(&self, first: IpAddr) -> Option<IpAddr> {
        let offset = to_number(first).checked_sub(to_number(self.subnet.network()))?;
        if self.is_block(first) { address(self.subnet, offset + u128::from(self.size) - 1) } else { None }
    }

    /// Whether somebody can have this address: it is in a block, and neither of the network, its
    /// broadcast, nor its gateway.
    pub fn is_usable(&self, ip: IpAddr) -> bool {
        self.number(ip).is_some() && ip != self.gateway && !is_network_or_broadcast(self.subnet, ip)
    }

    /// The addresses of a block that somebody can have, in order; none if there is no such block.
    pub fn usable(&self, first: IpAddr) -> impl Iterator<Item = IpAddr> + use<> {
        let space = *self;
        let numbers = space.last(first).map(|last| to_number(first)..=to_number(last));
        let family = IpFamily::of(first);
        let all = numbers.into_iter().flatten().map(move |number| to_address(family, number));
        all.filter(move |ip| space.is_usable(*ip))
    }

    /// The address of the host itself, if this is its first block.
    pub fn own(&self, first: IpAddr) -> Option<IpAddr> {
        self.usable(first).next()
    }

    /// How many addresses of a block are given without being asked for.
    pub fn given_in(&self, first: IpAddr, limits: &Limits) -> usize {
        self.usable(first).filter(|ip| limits.gives(*ip)).count()
    }

    /// So few free addresses that the next block should be here soon: a quarter of a block, or of
    /// what limits leave of these blocks.
    pub fn low_mark(&self, blocks: impl Iterator<Item = IpAddr>, limits: &Limits) -> usize {
        let quarter = usize::try_from(self.size / 4).unwrap_or(1).max(1);
        if *limits == Limits::default() {
            return quarter;
        }
        let given: Vec<usize> = blocks.map(|first| self.given_in(first, limits)).filter(|n| *n > 0).collect();
        (given.iter().sum::<usize>() / given.len().max(1) / 4).clamp(1, quarter)
    }

    /// Blocks of which limits leave something, each with its first address that is given without
    /// being asked for. Where they begin is up to a random number. A bounded part of a large subnet
    /// is looked at.
    pub fn useful<'a>(
        &self,
        limits: &'a Limits,
        random: u64,
    ) -> impl Iterator<Item = (IpAddr, IpAddr)> + use<'a> {
        let space = *self;
        let (start, end) = limits.within(self.subnet);
        let numbers = self.number(start).map(|from| {
            // An IPv6 subnet ends behind its last block.
            let to = space.number(end).unwrap_or(space.count().saturating_sub(1)).max(from);
            (from, to - from + 1)
        });
        // Steps of about the golden ratio meet what is not kept back soon, wherever it is.
        let in_turn = numbers.into_iter().flat_map(move |(from, count)| {
            let step = coprime(count);
            (0..count).map(move |n| from + (random % count + n % count * step) % count)
        });
        let mut left = LOOKED_AT_MAX;
        in_turn.take(LOOKED_AT_MAX).filter_map(move |number| {
            let first = space.first(number)?;
            let last = space.last(first)?;
            if limits.exclude.iter().any(|net| net.contains(first) && net.contains(last)) {
                return None;
            }
            let given = space.usable(first).find(|ip| {
                left = left.saturating_sub(1);
                left > 0 && limits.gives(*ip)
            });
            Some((first, given?))
        })
    }

    /// A free block, as [`Space::pick`], of those of which limits leave something.
    pub fn pick_useful(&self, taken: &[IpAddr], random: u64, limits: &Limits) -> Option<IpAddr> {
        if *limits == Limits::default() {
            return self.pick(taken, random);
        }
        let taken: HashSet<&IpAddr> = taken.iter().collect();
        self.useful(limits, random).map(|(first, _)| first).find(|first| !taken.contains(first))
    }

    /// A free block: of all those that are not in `taken`, the one that a random number chooses.
    /// `None`: there is no free one.
    pub fn pick<'a>(&self, taken: impl IntoIterator<Item = &'a IpAddr>, random: u64) -> Option<IpAddr> {
        let mut numbers: Vec<u64> = taken.into_iter().filter_map(|first| self.number(*first)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let free = self.count().checked_sub(u64::try_from(numbers.len()).ok()?).filter(|free| *free > 0)?;
        // The nth free one is as many places further on as there are taken ones before it.
        let mut number = random % free;
        for taken in numbers {
            if taken > number {
                break;
            }
            number += 1;
        }
        self.first(number)
    }
}

/// A step that leads through all of so many numbers.
fn coprime(count: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let start = (count / 1000 * 618 + count % 1000 * 618 / 1000).max(1);
    (start..).find(|step| gcd(*step, count) == 1).unwrap_or(1)
}

/// How many addresses of a subnet are cut into blocks.
pub(crate) fn addresses(subnet: IpNetwork) -> u128 {
    let bits = IpFamily::of(subnet.ip()).bits() - subnet.prefix();
    1 << bits.min(CUT_BITS)
}

/// The address of a subnet at this distance from its first one.
pub(crate) fn address(subnet: IpNetwork, offset: u128) -> Option<IpAddr> {
    let family = IpFamily::of(subnet.ip());
    let address = to_address(family, to_number(subnet.network()).checked_add(offset)?);
    (offset < addresses(subnet)).then_some(address)
}

/// Whether an address is that of its network, or IPv4's broadcast.
pub(crate) fn is_network_or_broadcast(subnet: IpNetwork, ip: IpAddr) -> bool {
    ip == subnet.network() || subnet.is_ipv4() && ip == subnet.broadcast()
}

fn to_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The inverse of [`to_number`]. A number after the family's last address becomes the last address.
fn to_address(family: IpFamily, number: u128) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

#[cfg(test)]
mod tests;
