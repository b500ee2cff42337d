//! Decides what to answer, and writes it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use sys::IpFamily;

use super::Asker;
use super::network::Addresses;
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
    Ask(Servers),
}

/// Upstream servers.
#[derive(Clone, Debug)]
pub enum Servers {
    /// The host's.
    Host,
    /// The configured ones.
    These(Rc<[SocketAddr]>),
}

/// What is known of the queried name.
enum Known<'z> {
    /// A name of containers. We are authoritative for it, whatever the type.
    Name { addresses: [Option<&'z Addresses>; UNION_MAX], zone: usize, ttl: u32 },
    /// The reverse name of an attachment's address.
    Pointer { host: &'z str, suffix: &'z str, ttl: u32 },
    /// The client itself, by a special-use name.
    Localhost { zone: usize, ttl: u32 },
    /// A name without records that has names below it.
    Above { zone: usize, ttl: u32, top: bool },
    /// We are authoritative, and there is no such name.
    Nothing { zone: usize, ttl: u32 },
    /// Other servers are authoritative.
    Foreign,
}

/// Answers a query in at most `limit` bytes, or returns where to forward it. `host_servers`:
/// whether the host has upstream servers.
pub fn respond(
    asker: &Asker<'_>,
    query: &Query<'_>,
    buffer: &mut [u8],
    limit: usize,
    host_servers: bool,
) -> Outcome {
    let servers = asker.servers();
    let outside =
        asker.may_ask_outside() && servers.as_ref().map_or(host_servers, |servers| !servers.is_empty());
    let mut answer = Answer::new(buffer, limit, query, outside);
    let code = match known(asker, query, outside) {
        Known::Name { addresses, zone, ttl } => {
            answer.authoritative();
            let any = write(asker, &addresses, query.kind, ttl, &mut answer);
            if !any {
                answer.soa(ttl, zone, false);
            }
            Rcode::NoError
        }
        Known::Pointer { host, suffix, ttl } => {
            answer.authoritative();
            if matches!(query.kind, kind::PTR | kind::ANY) {
                answer.pointer(ttl, host, suffix);
            } else {
                answer.soa(ttl, 0, false);
            }
            Rcode::NoError
        }
        Known::Localhost { zone, ttl } => {
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
        Known::Above { zone, ttl, top } => {
            answer.authoritative();
            answer.soa(ttl, zone, top && matches!(query.kind, kind::SOA | kind::ANY));
            Rcode::NoError
        }
        Known::Nothing { zone, ttl } => {
            answer.authoritative();
            answer.soa(ttl, zone, false);
            Rcode::NxDomain
        }
        Known::Foreign => {
            let bare = query.name.is_single();
            if bare && !(outside && asker.network().record().forward_single_label) {
                // Nobody else has names without dots: answer with the SOA of the
                // root, the last byte of the queried name.
                answer.authoritative();
                answer.soa(asker.network().record().ttl, query.name.text().len() + 1, false);
                Rcode::NxDomain
            } else if outside {
                return Outcome::Ask(servers.map_or(Servers::Host, Servers::These));
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
    asker: &Asker<'_>,
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
            let first = if list.len() > 1 { asker.turn() % list.len() } else { 0 };
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

/// Looks the name up; `outside`: the query could be forwarded.
fn known<'z>(asker: &Asker<'z>, query: &Query<'_>, outside: bool) -> Known<'z> {
    // The whole name first, in all networks; then without a suffix.
    find(asker, query, false)
        .or_else(|| find(asker, query, true))
        .or_else(|| suffix(asker, query, outside))
        .or_else(|| reverse(asker, query))
        .or_else(|| everywhere(asker, query))
        .unwrap_or(Known::Foreign)
}

/// A special-use name.
fn everywhere<'z>(asker: &Asker<'z>, query: &Query<'_>) -> Option<Known<'z>> {
    let ttl = asker.network().record().ttl;
    Some(match special(&query.name)? {
        Special::Localhost { zone } => Known::Localhost { zone, ttl },
        Special::LocalhostsAddress => Known::Pointer { host: "localhost", suffix: "", ttl },
        Special::Above => Known::Above { zone: 0, ttl, top: false },
        Special::Nothing { zone } => Known::Nothing { zone, ttl },
    })
}

/// The first network that has the name, or all of them.
fn find<'z>(asker: &Asker<'z>, query: &Query<'_>, shortened: bool) -> Option<Known<'z>> {
    let union = asker.network().record().cross_network == CrossNetwork::Union;
    let mut addresses = [None; UNION_MAX];
    let mut count = 0;
    let mut first = None;
    for network in asker.networks() {
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
    first.map(|(zone, ttl)| Known::Name { addresses, zone, ttl })
}

/// A name below a network's domain. The domain is ours, a network's bare name is not: the
/// network may be called `app`, which is a top-level domain too. So unknown names below a
/// network's name are forwarded, if possible.
fn suffix<'z>(asker: &Asker<'z>, query: &Query<'_>, outside: bool) -> Option<Known<'z>> {
    asker.networks().find_map(|network| {
        let domain = network.record().domain.as_deref();
        let mut suffixes = network.suffixes().filter(|suffix| !outside || Some(*suffix) == domain);
        let head = suffixes.find_map(|suffix| query.name.before(suffix.as_bytes()))?;
        let ttl = network.record().ttl;
        Some(match head.len() {
            0 => Known::Above { zone: 0, ttl, top: true },
            length => Known::Nothing { zone: length + 1, ttl },
        })
    })
}

/// A reverse name in a network's subnets.
fn reverse<'z>(asker: &Asker<'z>, query: &Query<'_>) -> Option<Known<'z>> {
    let reverse = Reverse::read(query.name.text())?;
    asker.networks().find_map(|network| {
        let record = network.record();
        let attached =
            if reverse.below || reverse.bits < full(reverse) { None } else { network.owner(reverse.address) };
        if let Some(attached) = attached {
            let suffix = record.domain.as_deref().unwrap_or(&record.name);
            return Some(Known::Pointer { host: attached.primary(), suffix, ttl: record.ttl });
        }
        let inside = |subnet: &&ipnetwork::IpNetwork| {
            reverse.bits >= subnet.prefix() && subnet.contains(reverse.address)
        };
        record.subnets.iter().find(inside)?;
        Some(if reverse.below || reverse.bits == full(reverse) {
            Known::Nothing { zone: 0, ttl: record.ttl }
        } else {
            Known::Above { zone: 0, ttl: record.ttl, top: false }
        })
    })
}

fn full(reverse: Reverse) -> u8 {
    if reverse.address.is_ipv4() { 32 } else { 128 }
}
