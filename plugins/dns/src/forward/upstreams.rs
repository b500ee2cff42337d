//! Chooses upstream servers and their order. Networks do not share what they learn: they may
//! query the same servers for other names, by other routes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::SERVERS_MAX;
use crate::map::Map;
use crate::zone::Slot;

/// How long a failing server is queried last.
const DEAD: Duration = Duration::from_secs(10);
/// Unanswered queries in a row that make a server failing. Some names take long to resolve.
const SILENT: u32 = 3;
/// Servers that are remembered.
const TROUBLED_MAX: usize = 1024;

/// A server of a network.
type Server = (Slot, SocketAddr);

/// Failures of a server.
#[derive(Debug)]
struct Trouble {
    /// Unanswered queries since its last answer.
    silent: u32,
    /// When to forget the failures.
    until: Instant,
    dead: bool,
}

/// Which servers of a network answer.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    own: Vec<SocketAddr>,
    troubled: Map<Server, Trouble>,
}

impl Upstreams {
    pub(super) fn set_own(&mut self, own: Vec<SocketAddr>) {
        self.own = own;
    }

    /// The first servers that are not ourselves; failing servers come last.
    pub(super) fn in_order(
        &mut self,
        network: Slot,
        servers: &[SocketAddr],
        now: Instant,
    ) -> Vec<SocketAddr> {
        let mut order: Vec<SocketAddr> =
            servers.iter().filter(|server| !self.own.contains(server)).take(SERVERS_MAX).copied().collect();
        if !self.troubled.is_empty() {
            let dead = |server: &SocketAddr| {
                let trouble = self.troubled.get(&(network, *server));
                trouble.is_some_and(|trouble| trouble.dead && trouble.until > now)
            };
            // A stable sort keeps the configured order.
            order.sort_by_key(dead);
        }
        order
    }

    /// Records a query without an answer.
    pub(super) fn is_silent(&mut self, network: Slot, server: SocketAddr, now: Instant) {
        self.note(network, server, 1, now);
    }

    /// Records that the server is unreachable: an ICMP error, or no route.
    pub(super) fn is_dead(&mut self, network: Slot, server: SocketAddr, now: Instant) {
        self.note(network, server, SILENT, now);
    }

    fn note(&mut self, network: Slot, server: SocketAddr, silent: u32, now: Instant) {
        let key = (network, server);
        if self.troubled.len() >= TROUBLED_MAX && !self.troubled.contains_key(&key) {
            self.troubled.retain(|_, trouble| trouble.until > now);
            if self.troubled.len() >= TROUBLED_MAX {
                return;
            }
        }
        let trouble = self.troubled.entry(key).or_insert(Trouble { silent: 0, until: now, dead: false });
        if trouble.until <= now {
            trouble.silent = 0;
        }
        trouble.silent = trouble.silent.saturating_add(silent);
        trouble.dead = trouble.silent >= SILENT;
        trouble.until = now + DEAD;
    }

    pub(super) fn is_alive(&mut self, network: Slot, server: SocketAddr) {
        if !self.troubled.is_empty() {
            self.troubled.remove(&(network, server));
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
        assert_eq!(upstreams.in_order(one, &servers, now), servers[..3]);
        upstreams.set_own(servers[..1].to_vec());
        assert_eq!(upstreams.in_order(one, &servers, now), servers[1..]);
        upstreams.set_own(servers.clone());
        assert!(upstreams.in_order(one, &servers, now).is_empty());
    }

    #[test]
    fn a_silent_server_is_queried_last_for_ten_seconds() {
        let (mut upstreams, servers, now) = (Upstreams::default(), servers(), Instant::now());
        let [one, two] = networks();
        let order = [servers[1], servers[2], servers[0]];
        for silent in 1..=SILENT {
            assert_eq!(upstreams.in_order(one, &servers, now), servers[..3], "{silent}");
            upstreams.is_silent(one, servers[0], now);
        }
        assert_eq!(upstreams.in_order(one, &servers, now + Duration::from_secs(9)), order);
        assert_eq!(upstreams.in_order(one, &servers, now + Duration::from_secs(10)), servers[..3]);
        assert_eq!(upstreams.in_order(two, &servers, now), servers[..3], "another network");
        upstreams.is_alive(one, servers[0]);
        assert_eq!(upstreams.in_order(one, &servers, now), servers[..3]);
        upstreams.is_dead(one, servers[0], now);
        assert_eq!(upstreams.in_order(one, &servers, now), order);
    }

    #[test]
    fn an_answer_resets_the_count_of_failures() {
        let (mut upstreams, servers, now) = (Upstreams::default(), servers(), Instant::now());
        let [one, _] = networks();
        for _ in 0..10 {
            upstreams.is_silent(one, servers[0], now);
            upstreams.is_silent(one, servers[0], now);
            upstreams.is_alive(one, servers[0]);
        }
        assert_eq!(upstreams.in_order(one, &servers, now), servers[..3]);
    }
}
