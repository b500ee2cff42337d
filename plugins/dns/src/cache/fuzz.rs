//! The body of a fuzz target, which panics where an invariant is broken. Shared with property
//! tests.

use std::time::Duration;

use super::{ANSWER_MAX, Cache, NETWORK_BYTES, Scope};
use crate::record::{CrossNetwork, Mode, Network, VERSION};
use crate::wire::{HEADER, Lifetime, Query, Received, TCP_MAX, UDP_PLAIN, flag, read, u16_at};
use crate::zone::Zone;

/// D-114: an answer of an upstream server, whatever its bytes, is kept for the question that it
/// repeats or not at all; it never answers another question, and its TTLs are all that changes.
pub fn answer(message: &[u8]) {
    let Some(question) = question(message) else { return };
    let Received::Query(query) = read(&question) else { return };
    let mut zone = Zone::default();
    let slot = zone.put_network(network());
    let Some(network) = zone.network(slot).map(|network| network.record()) else { return };
    let scope = Scope { slot, network, owner: None, servers: &[] };
    let (mut cache, mut buffer, now) = (Cache::default(), vec![0; TCP_MAX], Duration::from_secs(7));
    assert_eq!(cache.find(&scope, &query, TCP_MAX, &mut buffer, now), None, "nothing is kept yet");
    let Some(pending) = cache.expect(&scope, &query) else { return };
    cache.end(&pending);
    cache.keep(pending, message, now);
    assert!(cache.figures(slot).bytes <= NETWORK_BYTES);
    let found = cache.find(&scope, &query, TCP_MAX, &mut buffer, now);
    let lifetime = Lifetime::read(message, query.edns.is_some()).filter(|_| message.len() <= ANSWER_MAX);
    assert_eq!(found.is_some(), lifetime.is_some(), "kept if it may be");
    let (Some(length), Some(lifetime)) = (found, lifetime) else { return };
    assert_eq!((length, u16_at(&buffer, 0)), (message.len(), Some(query.id())));
    assert_eq!(u16_at(message, 2).map(|flags| flags & flag::TC), Some(0), "truncated");
    let is_ttl =
        |at: usize| lifetime.ttls.iter().any(|ttl| (usize::from(*ttl)..usize::from(*ttl) + 4).contains(&at));
    let changed = (2..length).find(|at| buffer[*at] != message[*at] && !is_ttl(*at));
    assert_eq!(changed, None, "only TTLs change");
    check_others(&mut cache, &scope, &question, &mut buffer, now);
    let late = now + Duration::from_secs(lifetime.seconds.into());
    assert_eq!(cache.find(&scope, &query, TCP_MAX, &mut buffer, late), None, "it is past its time");
}

/// Another type, another name and other bits are other questions; a small client gets TC.
fn check_others(cache: &mut Cache, scope: &Scope<'_>, question: &[u8], buffer: &mut [u8], now: Duration) {
    for (at, bit) in [(question.len() - 3, 1), (HEADER + 1, 1), (2, 1), (3, 0x10), (3, 0x20)] {
        let mut other = question.to_vec();
        other[at] ^= bit;
        if let Received::Query(query) = read(&other) {
            assert_eq!(cache.find(scope, &query, TCP_MAX, buffer, now), None, "bit {bit} of byte {at}");
        }
    }
    if let Received::Query(query) = read(question)
        && let Some(length) = cache.find(scope, &query, UDP_PLAIN, buffer, now)
    {
        assert!(length <= UDP_PLAIN);
    }
}

/// A query with the question of a message, without EDNS.
fn question(message: &[u8]) -> Option<Vec<u8>> {
    let mut header = [0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0].to_vec();
    header.extend_from_slice(message.get(HEADER..)?);
    let Received::Query(query) = read(&header) else { return None };
    let end = HEADER + Query::question(&query).len();
    header.truncate(end);
    Some(header)
}

fn network() -> Network {
    Network {
        v: VERSION,
        name: "net".into(),
        mode: Mode::Gateway,
        listen: Vec::new(),
        port: 53,
        subnets: Vec::new(),
        ingress: Vec::new(),
        domain: None,
        upstreams: None,
        internal: false,
        ttl: 0,
        cache: 512,
        forward_single_label: true,
        cross_network: CrossNetwork::First,
        from_dnsname: false,
    }
}
