//! Limits queries in flight: in total, per network and per account. A client above its limit
//! gets SERVFAIL at once, and no other client is affected.

use crate::map::Map;
use crate::zone::{Account, Slot};

/// Queries of one container, or of the host at one network's address.
const PER_ACCOUNT: usize = 128;
/// Queries of all unregistered clients at one network's address.
const PER_UNREGISTERED: usize = 32;
/// Queries of one network.
const PER_NETWORK: usize = 512;
/// All queries.
const TOTAL: usize = 4096;
/// Descriptors reserved for connections, listeners and plugins.
const RESERVED: u64 = 640;
/// Sockets per query: one for each server that it waits for, rarely more than two.
const SOCKETS: u64 = 2;
/// The limit on all queries that any number of descriptors allows.
const TOTAL_MIN: usize = 128;

/// The number of queries in flight.
#[derive(Debug)]
pub(super) struct Budget {
    most: usize,
    all: usize,
    of_network: Map<Slot, usize>,
    of_account: Map<Account, usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { most: TOTAL, all: 0, of_network: Map::default(), of_account: Map::default() }
    }
}

impl Budget {
    /// Lowers the limit to what the number of descriptors allows.
    pub(super) fn limit(&mut self, descriptors: u64) {
        let fit = usize::try_from(descriptors.saturating_sub(RESERVED) / SOCKETS).unwrap_or(TOTAL);
        self.most = fit.clamp(TOTAL_MIN, TOTAL);
    }

    /// Whether the account may have another query in flight.
    pub(super) fn allows(&self, account: &Account) -> bool {
        let of_account = match account {
            Account::Container(..) | Account::Host(_) => PER_ACCOUNT,
            Account::Unregistered(_) => PER_UNREGISTERED,
        };
        let network = account.network();
        self.all < self.most
            && self.of_network.get(&network).is_none_or(|count| *count < PER_NETWORK)
            && self.of_account.get(account).is_none_or(|count| *count < of_account)
    }

    /// Counts a query.
    pub(super) fn acquire(&mut self, account: &Account) {
        self.all += 1;
        *self.of_network.entry(account.network()).or_default() += 1;
        *self.of_account.entry(account.clone()).or_default() += 1;
    }

    /// Uncounts a query.
    pub(super) fn release(&mut self, account: &Account) {
        self.all = self.all.saturating_sub(1);
        decrement(&mut self.of_network, &account.network());
        decrement(&mut self.of_account, account);
    }
}

fn decrement<K: std::hash::Hash + Eq>(counts: &mut Map<K, usize>, key: &K) {
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

    fn taken(budget: &mut Budget, account: &Account) -> usize {
        let mut count = 0;
        while budget.allows(account) {
            budget.acquire(account);
            count += 1;
        }
        count
    }

    #[test]
    fn a_network_uses_up_its_own_budget_only() {
        let mut zone = crate::zone::tests::two_networks();
        let [one, two] = [zone.slot("one").unwrap(), zone.slot("two").unwrap()];
        let mut budget = Budget::default();
        let container = |slot, n: usize| Account::Container(slot, format!("c{n}").into());
        assert_eq!(taken(&mut budget, &Account::Unregistered(one)), PER_UNREGISTERED);
        assert_eq!(taken(&mut budget, &container(one, 0)), PER_ACCOUNT);
        assert_eq!(taken(&mut budget, &Account::Host(one)), PER_ACCOUNT);
        let rest: usize = (1..10).map(|n| taken(&mut budget, &container(one, n))).sum();
        assert_eq!(PER_UNREGISTERED + 2 * PER_ACCOUNT + rest, PER_NETWORK);
        assert_eq!(taken(&mut budget, &container(two, 0)), PER_ACCOUNT, "another network has its own");
        budget.release(&container(one, 0));
        assert_eq!(taken(&mut budget, &container(one, 0)), 1);
        budget.limit(0);
        assert!(!budget.allows(&Account::Host(two)), "too few descriptors");
        zone.remove_network("one");
    }
}
