//! Checked ranges with all bounds set, and the order in which their addresses are allocated.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use sys::IpFamily;

use crate::error::{ConfigError, Misplaced, Reserved};

/// Addresses of one subnet, `start` to `end`, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The subnet; its prefix length goes into the result.
    pub subnet: IpNetwork,
    /// The first address that may be allocated.
    pub start: IpAddr,
    /// The last one.
    pub end: IpAddr,
    /// The gateway of the result; never allocated. It may be outside the subnet.
    pub gateway: IpAddr,
}

/// The parsed keys of a range.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeParts {
    /// `subnet`
    pub subnet: Option<IpNetwork>,
    /// `rangeStart`
    pub start: Option<IpAddr>,
    /// `rangeEnd`
    pub end: Option<IpAddr>,
    /// `gateway`
    pub gateway: Option<IpAddr>,
}

impl Range {
    /// Checks the parts. Defaults: gateway and start are the first address after the network's, end
    /// is the last one before the broadcast address (IPv4), or the last one (IPv6).
    pub fn new(parts: RangeParts) -> Result<Self, ConfigError> {
        let subnet = parts.subnet.ok_or(ConfigError::NoAddress)?;
        let too_long = match subnet {
            IpNetwork::V4(net) => net.prefix() > 30,
            IpNetwork::V6(net) => net.prefix() > 126,
        };
        if too_long {
            return Err(ConfigError::TooSmall(subnet));
        }
        if subnet.ip() != subnet.network() {
            return Err(ConfigError::HostBits(subnet));
        }
        let family = IpFamily::of(subnet.ip());
        let first = address(family, number(subnet.network()) + 1);
        let last = match subnet {
            IpNetwork::V4(net) => address(family, number(IpAddr::V4(net.broadcast())) - 1),
            IpNetwork::V6(net) => IpAddr::V6(net.broadcast()),
        };
        let gateway = parts.gateway.map_or(first, |gateway| gateway.to_canonical());
        if IpFamily::of(gateway) != family {
            return Err(ConfigError::GatewayFamily { gateway, subnet });
        }
        let end = parts.end.map(|end| end.to_canonical());
        let misplaced = |bound, order| {
            let why = reserved(subnet, bound).map_or(order, Misplaced::Reserved);
            subnet.contains(bound).then_some(why)
        };
        let start = match parts.start.map(|start| start.to_canonical()) {
            None => first,
            // Like the reference, this reports an end before the start as a start outside.
            Some(start) if subnet.contains(start) && start <= end.unwrap_or(last) => start,
            Some(start) => {
                let why = misplaced(start, Misplaced::AfterEnd(end.unwrap_or(last)));
                return Err(ConfigError::StartOutside { start, subnet, why });
            }
        };
        let end = match end {
            None => last,
            Some(end) if subnet.contains(end) && end >= start => end,
            Some(end) => {
                let why = misplaced(end, Misplaced::BeforeStart(start));
                return Err(ConfigError::EndOutside { end, subnet, why });
            }
        };
        match reserved(subnet, start) {
            Some(why) if start == end => Err(ConfigError::NothingToGive { ip: start, why, subnet }),
            _ => Ok(Self { subnet, start, end, gateway }),
        }
    }

    /// Whether the address is between start and end.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.start.is_ipv4() && self.start <= ip && ip <= self.end
    }

    fn overlaps(&self, other: &Range) -> bool {
        self.start.is_ipv4() == other.start.is_ipv4() && self.start <= other.end && other.start <= self.end
    }

    /// Why this address of the range is never allocated, if so.
    pub fn reserved(&self, ip: IpAddr) -> Option<Reserved> {
        if ip == self.gateway { Some(Reserved::Gateway) } else { reserved(self.subnet, ip) }
    }
}

/// Why this address of the subnet cannot be leased, if so.
fn reserved(subnet: IpNetwork, ip: IpAddr) -> Option<Reserved> {
    if ip == subnet.network() {
        Some(Reserved::Network)
    } else if subnet.is_ipv4() && ip == subnet.broadcast() {
        Some(Reserved::Broadcast)
    } else {
        None
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// Ranges of one family. Each attachment gets one address of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// Checks that there is a range, and that all ranges are of one family and do not overlap.
    pub fn new(ranges: Vec<Range>) -> Result<Self, ConfigError> {
        let first = ranges.first().ok_or(ConfigError::EmptySet)?;
        if ranges.iter().any(|range| range.start.is_ipv4() != first.start.is_ipv4()) {
            return Err(ConfigError::MixedFamilies);
        }
        for (i, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges.iter().skip(i + 1).find(|other| one.overlaps(other)) {
                return Err(ConfigError::RangesOverlap(one.to_string(), other.to_string()));
            }
        }
        Ok(Self(ranges))
    }

    /// The family of its addresses; it is never without a range.
    pub fn family(&self) -> IpFamily {
        self.0.first().map_or(IpFamily::V6, |range| IpFamily::of(range.start))
    }

    /// The range with this address.
    pub fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(ip))
    }

    /// Whether both sets have an address in common.
    pub fn overlaps(&self, other: &RangeSet) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|two| one.overlaps(two)))
    }

    /// The addresses that may be allocated, in round-robin order: from the one after `last` to the
    /// end of its range, through the following ranges, and around to `last` itself. They begin at
    /// the first range's start if `last` is not in the set. Holes cost nothing: only addresses that
    /// are tried take time.
    pub fn candidates(&self, last: Option<IpAddr>, exclude: &Exclude) -> Candidates {
        let family = self.family();
        let whole = |range: &Range| (number(range.start), number(range.end));
        let at = last.and_then(|last| {
            let index = self.0.iter().position(|range| range.contains(last))?;
            Some((index, number(last)))
        });
        let mut spans = Vec::with_capacity(self.0.len() + 1);
        match at {
            None => spans.extend(self.0.iter().map(|range| (range, whole(range)))),
            Some((index, last)) => {
                let (before, from) = self.0.split_at(index);
                let Some((own, after)) = from.split_first() else {
                    return Candidates { family, spans: Vec::new(), at: 0 };
                };
                let (start, end) = whole(own);
                if last < end {
                    spans.push((own, (last + 1, end)));
                }
                spans.extend(after.iter().chain(before).map(|range| (range, whole(range))));
                spans.push((own, (start, last)));
            }
        }
        let mut free = Vec::with_capacity(spans.len());
        for (range, span) in spans {
            let mut holes: Vec<_> = exclude.spans(family).collect();
            let single = |ip: IpAddr| (number(ip), number(ip));
            if IpFamily::of(range.gateway) == family {
                holes.push(single(range.gateway));
            }
            holes.push(single(range.subnet.network()));
            if family == IpFamily::V4 {
                holes.push(single(range.subnet.broadcast()));
            }
            holes.sort_unstable();
            cut(span, &holes, |part| free.push(part));
        }
        Candidates { family, spans: free, at: 0 }
    }

    /// The gateway and prefix length for an address of the set.
    pub fn describe(&self, ip: IpAddr) -> Option<(IpNetwork, IpAddr)> {
        let range = self.range_of(ip)?;
        Some((IpNetwork::new(ip, range.subnet.prefix()).ok()?, range.gateway))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Calls `part` with the parts of `span` outside of the holes; holes are sorted and may overlap.
fn cut((mut from, to): Span, holes: &[Span], mut part: impl FnMut(Span)) {
    for &(low, high) in holes {
        if high < from {
            continue;
        }
        if low > to {
            break;
        }
        if low > from {
            part((from, low - 1));
        }
        if high >= to {
            return;
        }
        from = high + 1;
    }
    part((from, to));
}

/// Addresses in the order of allocation; see [`RangeSet::candidates`].
#[derive(Clone, Debug)]
pub struct Candidates {
    family: IpFamily,
    spans: Vec<Span>,
    at: usize,
}

impl Iterator for Candidates {
    type Item = IpAddr;

    fn next(&mut self) -> Option<IpAddr> {
        let (from, to) = self.spans.get_mut(self.at)?;
        let ip = address(self.family, *from);
        if from < to {
            *from += 1;
        } else {
            self.at += 1;
        }
        Some(ip)
    }
}

/// Addresses that are never allocated, not even on request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclude(Vec<(IpFamily, Span)>);

impl Exclude {
    /// Ignores host bits of the networks.
    pub fn new(nets: &[IpNetwork]) -> Self {
        let span =
            |net: &IpNetwork| (IpFamily::of(net.ip()), (number(net.network()), number(net.broadcast())));
        Self(nets.iter().map(span).collect())
    }

    /// Whether the address is excluded.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let n = number(ip);
        self.spans(IpFamily::of(ip)).any(|(low, high)| low <= n && n <= high)
    }

    fn spans(&self, family: IpFamily) -> impl Iterator<Item = Span> {
        self.0.iter().filter(move |(of, _)| *of == family).map(|(_, span)| *span)
    }
}

/// First and last number, both included.
type Span = (u128, u128);

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The inverse of [`number`]. A number after the family's last address becomes the last address.
fn address(family: IpFamily, n: u128) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap_or(u32::MAX))),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::from_bits(n)),
    }
}

#[cfg(test)]
mod tests;
