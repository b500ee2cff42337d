//! The cluster's records, as commands read and change them.

use crate::state::cache::Cache;
use crate::txn::Txn;

use super::failure::Failure;

/// How often a change is tried again because a record changed meanwhile.
pub(super) const TRIES: usize = 20;

/// Where the records are.
pub(super) trait Store {
    /// Reads all records.
    fn read(&mut self) -> Result<Cache, Failure>;

    /// Waits a moment for the hosts' agents.
    fn pause(&mut self);

    /// Does a transaction; `false`: a comparison failed, and nothing was done.
    fn commit(&mut self, txn: &Txn) -> Result<bool, Failure>;
}

/// Reads all records, and names on standard error those that cannot be read.
pub(super) fn read(store: &mut impl Store) -> Result<Cache, Failure> {
    let cache = store.read()?;
    for left_out in cache.left_out() {
        eprintln!("overlay: {}", super::table::clean(&left_out.to_string()));
    }
    Ok(cache)
}
