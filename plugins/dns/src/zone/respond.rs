//! Decides what to answer, and writes it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use sys::IpFamily;

use super::Querier;
use super::addresses::Addresses;
use super::reverse::Reverse;
use super::special::{Special, special};
use crate::record::CrossNetwork;
use crate::wire::{Answer, Query, Rcode, kind};

/// The most networks that contribute addresses to one answer.
const UNION_MAX: usize = 16;

/// What to do with a query.
pub enum Outcome {
    /// Send the answer, which has that many bytes.
    Answer(usize),
    /// Forward it to these servers.
    Forward(Servers),
}

/// Upstream servers.
#[derive(Clone, Debug)]
pub enum Servers {
    /// The host's.
    Host,
    /// The configured ones.
    Configured(Rc<[SocketAddr]>),
}

/// What is known of the queried name.
enum Resolution<'z> {
    /// A name of containers. We are authoritative for it, whatever the type.
    Name { addresses: [Option<&'z Addresses>; UNION_MAX], zone: usize, ttl: u32 },
    /// The reverse name of a container's address.
    Pointer { host: &'z str, suffix: &'z str, ttl: u32 },
    /// The client itself, by a special-use name.
    Localhost { zone: usize, ttl: u32 },
    /// A name without records that has names below it.
    EmptyNonTerminal { zone: usize, ttl: u32, top: bool },
    /// We are authoritative, and there is no such name.
    NoSuchName { zone: usize, ttl: u32 },
    /// Other servers are authoritative.
    NotOurs,
}

/// Answers a query in at most `limit` bytes, or returns where to forward it. `host_servers`:
/// whether the host has upstream servers.
pub fn respond(
    querier: &Querier<'_>,
    query: &Query<'_>,
    buffer: &mut [u8],
    limit: usize,
    host_servers: bool,
) -> Outcome {
    let servers = querier.servers();
    let may_forward =
        querier.may_forward() && servers.as_ref().map_or(host_servers, |servers| !servers.is_empty());
    let mut answer = Answer::new(buffer, limit, query, may_forward);
    let code = match resolve(querier, query, may_forward) {
        Resolution::Name { addresses, zone, ttl } => {
            answer.authoritative();
            let any = write(querier, &addresses, query.kind, ttl, &mut answer);
            if !any {
                answer.soa(ttl, zone, false);
            }
            Rcode::NoError
        }
        Resolution::Pointer { host, suffix, ttl } => {
            answer.authoritative();
            if matches!(query.kind, kind::PTR | kind::ANY) {
                answer.pointer(ttl, host, suffix);
            } else {
                answer.soa(ttl, 0, false);
            }
            Rcode::NoError
        }
        Resolution::Localhost { zone, ttl } => {
            answer.authoritative();
            let [v4, v6] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            let has = |kind| query.kind == kind || query.kind == kind::ANY;
            let written =
                [has(kind::A) && answer.address(ttl, v4), has(kind::AAAA) && answer.address(ttl, v6)];
            if written == [false; 2] {
                answer.soa(ttl, zone, false);
            }
            Rcode::NoError
        }
        Resolution::EmptyNonTerminal { zone, ttl, top } => {
            answer.authoritative();
            answer.soa(ttl, zone, top && matches!(query.kind, kind::SOA | kind::ANY));
            Rcode::NoError
        }
        Resolution::NoSuchName { zone, ttl } => {
            answer.authoritative();
            answer.soa(ttl, zone, false);
            Rcode::NxDomain
        }
        Resolution::NotOurs => {
            let bare = query.name.is_single();
            if bare && !(may_forward && querier.network().record().forward_single_label) {
                // Nobody else has names without dots: answer with the SOA of the
                // root, the last byte of the queried name.
                answer.authoritative();
                answer.soa(querier.network().record().ttl, query.name.text().len() + 1, false);
                Rcode::NxDomain
            } else if may_forward {
                return Outcome::Forward(servers.map_or(Servers::Host, Servers::Configured));
            } else {
                Rcode::Refused
            }
        }
    };
    Outcome::Answer(answer.finish(code))
}

/// Writes the addresses of the queried type, each time beginning with another one. Returns
/// whether there are any.
fn write(
    querier: &Querier<'_>,
    addresses: &[Option<&Addresses>],
    kind: u16,
    ttl: u32,
    answer: &mut Answer<'_>,
) -> bool {
    let families: &[IpFamily] = match kind {
        kind::A => &[IpFamily::V4],
        kind::AAAA => &[IpFamily::V6],
        kind::ANY => &IpFamily::BOTH,
        _ => &[],
    };
    let mut any = false;
    for family in families {
        let lists = || addresses.iter().flatten().map(|addresses| addresses.of_family(*family));
        for (nth, list) in lists().enumerate() {
            let first = if list.len() > 1 { querier.turn() % list.len() } else { 0 };
            let (head, tail) = list.split_at(first);
            for (address, _) in tail.iter().chain(head) {
                any = true;
                if lists().take(nth).any(|earlier| earlier.iter().any(|(held, _)| held == address)) {
                    continue;
                }
                if !answer.address(ttl, *address) {
                    return true;
                }
            }
        }
    }
    any
}

/// Looks the name up; `may_forward`: the query could be forwarded.
fn resolve<'z>(querier: &Querier<'z>, query: &Query<'_>, may_forward: bool) -> Resolution<'z> {
    // The whole name first, in all networks; then without a suffix.
    find(querier, query, false)
        .or_else(|| find(querier, query, true))
        .or_else(|| suffix(querier, query, may_forward))
        .or_else(|| reverse(querier, query))
        .or_else(|| special_use(querier, query))
        .unwrap_or(Resolution::NotOurs)
}

/// A special-use name.
fn special_use<'z>(querier: &Querier<'z>, query: &Query<'_>) -> Option<Resolution<'z>> {
    let ttl = querier.network().record().ttl;
    Some(match special(&query.name)? {
        Special::Localhost { zone } => Resolution::Localhost { zone, ttl },
        Special::LoopbackReverse => Resolution::Pointer { host: "localhost", suffix: "", ttl },
        Special::EmptyNonTerminal => Resolution::EmptyNonTerminal { zone: 0, ttl, top: false },
        Special::NoSuchName { zone } => Resolution::NoSuchName { zone, ttl },
    })
}

/// The first network that has the name, or all of them.
fn find<'z>(querier: &Querier<'z>, query: &Query<'_>, shortened: bool) -> Option<Resolution<'z>> {
    let union = querier.network().record().cross_network == CrossNetwork::Union;
    let mut addresses = [None; UNION_MAX];
    let mut count = 0;
    let mut first = None;
    for network in querier.networks() {
        let found = if shortened {
            network.suffixes().find_map(|suffix| {
                let head = query.name.before(suffix.as_bytes()).filter(|head| !head.is_empty())?;
                network.addresses(head).map(|addresses| (addresses, head.len() + 1))
            })
        } else {
            network.addresses(query.name.text()).map(|addresses| (addresses, 0))
        };
        let Some((found, zone)) = found else { continue };
        first.get_or_insert((zone, network.record().ttl));
        addresses[count] = Some(found);
        count += 1;
        if !union || count == UNION_MAX {
            break;
        }
    }
    first.map(|(zone, ttl)| Resolution::Name { addresses, zone, ttl })
}

/// A name below a network's domain. The domain is ours, a network's bare name is not: the
/// network may be called `app`, which is a top-level domain too. So unknown names below a
/// network's name are forwarded, if possible.
fn suffix<'z>(querier: &Querier<'z>, query: &Query<'_>, may_forward: bool) -> Option<Resolution<'z>> {
    querier.networks().find_map(|network| {
        let domain = network.record().domain.as_deref();
        let mut suffixes = network.suffixes().filter(|suffix| !may_forward || Some(*suffix) == domain);
        let head = suffixes.find_map(|suffix| query.name.before(suffix.as_bytes()))?;
        let ttl = network.record().ttl;
        Some(match head.len() {
            0 => Resolution::EmptyNonTerminal { zone: 0, ttl, top: true },
            length => Resolution::NoSuchName { zone: length + 1, ttl },
        })
    })
}

/// A reverse name in a network's subnets.
fn reverse<'z>(querier: &Querier<'z>, query: &Query<'_>) -> Option<Resolution<'z>> {
    let reverse = Reverse::read(query.name.text())?;
    querier.networks().find_map(|network| {
        let record = network.record();
        let host = if reverse.below || reverse.bits < full(reverse) {
            None
        } else {
            network.pointer(reverse.address)
        };
        if let Some(host) = host {
            let suffix = record.domain.as_deref().unwrap_or(&record.name);
            return Some(Resolution::Pointer { host, suffix, ttl: record.ttl });
        }
        let inside = |subnet: &&ipnetwork::IpNetwork| {
            reverse.bits >= subnet.prefix() && subnet.contains(reverse.address)
        };
        record.subnets.iter().find(inside)?;
        Some(if reverse.below || reverse.bits == full(reverse) {
            Resolution::NoSuchName { zone: 0, ttl: record.ttl }
        } else {
            Resolution::EmptyNonTerminal { zone: 0, ttl: record.ttl, top: false }
        })
    })
}

fn full(reverse: Reverse) -> u8 {
    if reverse.address.is_ipv4() { 32 } else { 128 }
}
