//! Limits queries in flight: in total, per network and per account. A client above its limit
//! gets SERVFAIL at once, and no other client is affected.

use crate::map::Map;
use crate::zone::{Payer, Slot};

/// Queries of one container, or of the host at one network's address.
const OF_ONE: usize = 128;
/// Queries of all unregistered clients at one network's address.
const OF_STRANGERS: usize = 32;
/// Queries of one network.
const OF_NETWORK: usize = 512;
/// All queries.
const ALL: usize = 4096;
/// Descriptors reserved for connections, listeners and plugins.
const RESERVED: u64 = 640;
/// Sockets per query: one for each server that it waits for, rarely more than two.
const SOCKETS: u64 = 2;
/// The limit on all queries that any number of descriptors allows.
const LEAST: usize = 128;

/// The number of queries in flight.
#[derive(Debug)]
pub(super) struct Budget {
    most: usize,
    all: usize,
    of_network: Map<Slot, usize>,
    of_payer: Map<Payer, usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { most: ALL, all: 0, of_network: Map::default(), of_payer: Map::default() }
    }
}

impl Budget {
    /// Lowers the limit to what the number of descriptors allows.
    pub(super) fn limit(&mut self, descriptors: u64) {
        let fit = usize::try_from(descriptors.saturating_sub(RESERVED) / SOCKETS).unwrap_or(ALL);
        self.most = fit.clamp(LEAST, ALL);
    }

    /// Whether the account may have another query in flight.
    pub(super) fn allows(&self, payer: &Payer) -> bool {
        let of_payer = match payer {
            Payer::Container(..) | Payer::Host(_) => OF_ONE,
            Payer::Strangers(_) => OF_STRANGERS,
        };
        let network = payer.network();
        self.all < self.most
            && self.of_network.get(&network).is_none_or(|count| *count < OF_NETWORK)
            && self.of_payer.get(payer).is_none_or(|count| *count < of_payer)
    }

    /// Counts a query.
    pub(super) fn take(&mut self, payer: &Payer) {
        self.all += 1;
        *self.of_network.entry(payer.network()).or_default() += 1;
        *self.of_payer.entry(payer.clone()).or_default() += 1;
    }

    /// Uncounts a query.
    pub(super) fn give(&mut self, payer: &Payer) {
        self.all = self.all.saturating_sub(1);
        less(&mut self.of_network, &payer.network());
        less(&mut self.of_payer, payer);
    }
}

fn less<K: std::hash::Hash + Eq>(counts: &mut Map<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut Budget, payer: &Payer) -> usize {
        let mut count = 0;
        while budget.allows(payer) {
            budget.take(payer);
            count += 1;
        }
        count
    }

    #[test]
    fn a_network_uses_up_its_own_budget_only() {
        let mut zone = crate::zone::tests::two_networks();
        let [one, two] = [zone.slot("one").unwrap(), zone.slot("two").unwrap()];
        let mut budget = Budget::default();
        let container = |slot, n: usize| Payer::Container(slot, format!("c{n}").into());
        assert_eq!(taken(&mut budget, &Payer::Strangers(one)), OF_STRANGERS);
        assert_eq!(taken(&mut budget, &container(one, 0)), OF_ONE);
        assert_eq!(taken(&mut budget, &Payer::Host(one)), OF_ONE);
        let rest: usize = (1..10).map(|n| taken(&mut budget, &container(one, n))).sum();
        assert_eq!(OF_STRANGERS + 2 * OF_ONE + rest, OF_NETWORK);
        assert_eq!(taken(&mut budget, &container(two, 0)), OF_ONE, "another network has its own");
        budget.give(&container(one, 0));
        assert_eq!(taken(&mut budget, &container(one, 0)), 1);
        budget.limit(0);
        assert!(!budget.allows(&Payer::Host(two)), "too few descriptors");
        zone.remove_network("one");
    }
}
