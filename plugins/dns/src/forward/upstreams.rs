//! Chooses upstream servers and their order. Networks do not share what they learn: they may
//! query the same servers for other names, by other routes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::SERVERS_MAX;
use crate::map::Map;
use crate::zone::Slot;

/// How long a failing server is queried last.
const FAILING_FOR: Duration = Duration::from_secs(10);
/// Unanswered queries in a row that make a server failing. Some names take long to resolve.
const TIMEOUTS_MAX: u32 = 3;
/// Servers that are remembered.
const FAILING_MAX: usize = 1024;

/// A server of a network.
type Server = (Slot, SocketAddr);

/// Failures of a server.
#[derive(Debug)]
struct Failures {
    /// Unanswered queries since its last answer.
    timeouts: u32,
    /// When to forget the failures.
    until: Instant,
    is_failing: bool,
}

/// Which servers of a network answer.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    own: Vec<SocketAddr>,
    failing: Map<Server, Failures>,
}

impl Upstreams {
    pub(super) fn set_own(&mut self, own: Vec<SocketAddr>) {
        self.own = own;
    }

    /// The first servers that are not ourselves; failing servers come last.
    pub(super) fn ordered(&mut self, network: Slot, servers: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        let mut order: Vec<SocketAddr> =
            servers.iter().filter(|server| !self.own.contains(server)).take(SERVERS_MAX).copied().collect();
        if !self.failing.is_empty() {
            let is_failing = |server: &SocketAddr| {
                let failures = self.failing.get(&(network, *server));
                failures.is_some_and(|failures| failures.is_failing && failures.until > now)
            };
            // A stable sort keeps the configured order.
            order.sort_by_key(is_failing);
        }
        order
    }

    /// Records a query without an answer.
    pub(super) fn note_timeout(&mut self, network: Slot, server: SocketAddr, now: Instant) {
        self.add_failures(network, server, 1, now);
    }

    /// Records that the server is unreachable: an ICMP error, or no route.
    pub(super) fn note_unreachable(&mut self, network: Slot, server: SocketAddr, now: Instant) {
        self.add_failures(network, server, TIMEOUTS_MAX, now);
    }

    fn add_failures(&mut self, network: Slot, server: SocketAddr, timeouts: u32, now: Instant) {
        let key = (network, server);
        if self.failing.len() >= FAILING_MAX && !self.failing.contains_key(&key) {
            self.failing.retain(|_, failures| failures.until > now);
            if self.failing.len() >= FAILING_MAX {
                return;
            }
        }
        let failures =
            self.failing.entry(key).or_insert(Failures { timeouts: 0, until: now, is_failing: false });
        if failures.until <= now {
            failures.timeouts = 0;
        }
        failures.timeouts = failures.timeouts.saturating_add(timeouts);
        failures.is_failing = failures.timeouts >= TIMEOUTS_MAX;
        failures.until = now + FAILING_FOR;
    }

    pub(super) fn note_answer(&mut self, network: Slot, server: SocketAddr) {
        if !self.failing.is_empty() {
            self.failing.remove(&(network, server));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<SocketAddr> {
        ["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53", "10.0.0.4:53"].map(|text| text.parse().unwrap()).into()
    }

    fn networks() -> [Slot; 2] {
        let zone = crate::zone::tests::two_networks();
        [zone.slot("one").unwrap(), zone.slot("two").unwrap()]
    }

    /// D-043.
    #[test]
    fn the_first_three_servers_are_queried_without_our_own_addresses() {
        let (mut upstreams, servers, now) = (Upstreams::default(), servers(), Instant::now());
        let [one, _] = networks();
        assert_eq!(upstreams.ordered(one, &servers, now), servers[..3]);
        upstreams.set_own(servers[..1].to_vec());
        assert_eq!(upstreams.ordered(one, &servers, now), servers[1..]);
        upstreams.set_own(servers.clone());
        assert!(upstreams.ordered(one, &servers, now).is_empty());
    }

    #[test]
    fn a_silent_server_is_queried_last_for_ten_seconds() {
        let (mut upstreams, servers, now) = (Upstreams::default(), servers(), Instant::now());
        let [one, two] = networks();
        let order = [servers[1], servers[2], servers[0]];
        for timeouts in 1..=TIMEOUTS_MAX {
            assert_eq!(upstreams.ordered(one, &servers, now), servers[..3], "{timeouts}");
            upstreams.note_timeout(one, servers[0], now);
        }
        assert_eq!(upstreams.ordered(one, &servers, now + Duration::from_secs(9)), order);
        assert_eq!(upstreams.ordered(one, &servers, now + Duration::from_secs(10)), servers[..3]);
        assert_eq!(upstreams.ordered(two, &servers, now), servers[..3], "another network");
        upstreams.note_answer(one, servers[0]);
        assert_eq!(upstreams.ordered(one, &servers, now), servers[..3]);
        upstreams.note_unreachable(one, servers[0], now);
        assert_eq!(upstreams.ordered(one, &servers, now), order);
    }

    #[test]
    fn an_answer_resets_the_count_of_failures() {
        let (mut upstreams, servers, now) = (Upstreams::default(), servers(), Instant::now());
        let [one, _] = networks();
        for _ in 0..10 {
            upstreams.note_timeout(one, servers[0], now);
            upstreams.note_timeout(one, servers[0], now);
            upstreams.note_answer(one, servers[0]);
        }
        assert_eq!(upstreams.ordered(one, &servers, now), servers[..3]);
    }
}
