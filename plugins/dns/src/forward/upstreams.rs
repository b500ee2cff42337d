//! Which servers are asked, and in what order.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::SERVERS_MAX;

/// How long a server that did not answer is asked last.
const DEAD: Duration = Duration::from_secs(10);
/// How many of these are remembered.
const DEAD_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    own: Vec<SocketAddr>,
    dead: Vec<(SocketAddr, Instant)>,
}

impl Upstreams {
    pub(super) fn set_own(&mut self, own: Vec<SocketAddr>) {
        self.own = own;
    }

    /// The first servers that are not ourselves; those that did not answer lately at the end.
    pub(super) fn in_order(&mut self, servers: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        self.dead.retain(|(_, until)| *until > now);
        let mut order: Vec<SocketAddr> =
            servers.iter().filter(|server| !self.own.contains(server)).take(SERVERS_MAX).copied().collect();
        // Stable: the order is kept among those that are alike.
        order.sort_by_key(|server| self.dead.iter().any(|(dead, _)| dead == server));
        order
    }

    pub(super) fn is_dead(&mut self, server: SocketAddr, now: Instant) {
        self.is_alive(server);
        if self.dead.len() == DEAD_MAX {
            self.dead.remove(0);
        }
        self.dead.push((server, now + DEAD));
    }

    pub(super) fn is_alive(&mut self, server: SocketAddr) {
        self.dead.retain(|(dead, _)| *dead != server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<SocketAddr> {
        ["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53", "10.0.0.4:53"].map(|text| text.parse().unwrap()).into()
    }

    /// D-043.
    #[test]
    fn our_own_addresses_are_not_asked_and_of_the_others_the_first_three() {
        let (mut upstreams, servers, now) = (Upstreams::default(), servers(), Instant::now());
        assert_eq!(upstreams.in_order(&servers, now), servers[..3]);
        upstreams.set_own(servers[..1].to_vec());
        assert_eq!(upstreams.in_order(&servers, now), servers[1..]);
        upstreams.set_own(servers.clone());
        assert!(upstreams.in_order(&servers, now).is_empty());
    }

    #[test]
    fn a_server_that_did_not_answer_is_asked_last_for_ten_seconds() {
        let (mut upstreams, servers, now) = (Upstreams::default(), servers(), Instant::now());
        upstreams.is_dead(servers[0], now);
        let order = [servers[1], servers[2], servers[0]];
        assert_eq!(upstreams.in_order(&servers, now + Duration::from_secs(9)), order);
        assert_eq!(upstreams.in_order(&servers, now + Duration::from_secs(10)), servers[..3]);
        upstreams.is_dead(servers[0], now);
        upstreams.is_alive(servers[0]);
        assert_eq!(upstreams.in_order(&servers, now), servers[..3]);
    }
}
