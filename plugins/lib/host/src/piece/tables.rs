//! Routing tables of a container, chosen so that nobody else uses them.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use netlink::{Netlink, PolicyRule, WholeRoute};
use sys::{Error, Result, file};

/// Separates processes that choose tables. It is the host's: a container cannot hold it.
const LOCK: &str = "/run/moor/tables.lock";

/// linux/rtnetlink.h: RT_TABLE_COMPAT, RT_TABLE_DEFAULT, RT_TABLE_MAIN and RT_TABLE_LOCAL.
const RESERVED: std::ops::RangeInclusive<u32> = 252..=255;

/// The tables of a container that are in use.
pub(super) struct Tables(HashSet<u32>);

/// From here to the end of the file's life, no other process chooses a table.
///
/// # Errors
/// The lock cannot be opened, or another process does not release it.
pub(super) fn lock() -> Result<File> {
    file::make_private_dir(Path::new(file::RUN_DIR), 1)?;
    file::lock(Path::new(LOCK), 0o600)
}

/// Whether the table has a purpose in every namespace.
pub(super) fn is_reserved(table: u32) -> bool {
    table == 0 || RESERVED.contains(&table)
}

impl Tables {
    /// Those that a rule or a VRF names, and those with routes.
    pub(super) fn of(netlink: &Netlink, rules: &[PolicyRule], routes: &[WholeRoute]) -> Result<Self> {
        let mut used: HashSet<u32> = rules.iter().map(|rule| rule.table).collect();
        used.extend(routes.iter().map(|route| route.first().table));
        used.extend(netlink.links()?.iter().filter_map(|link| link.vrf_table));
        Ok(Self(used))
    }

    /// The lowest free one from `first` on; it is in use from now on.
    pub(super) fn take(&mut self, first: u32) -> Result<u32> {
        let free = (first..).find(|table| !is_reserved(*table) && !self.0.contains(table));
        let none = || Error::new("choose", "a routing table", io::Error::from_raw_os_error(libc::ENOSPC));
        let table = free.ok_or_else(none)?;
        self.0.insert(table);
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_and_reserved_tables_are_never_chosen() {
        let mut tables = Tables([100, 102, 251].into());
        let taken = [100, 100, 250, 250].map(|first| tables.take(first).unwrap());
        assert_eq!(taken, [101, 103, 250, 256]);
        assert!(is_reserved(0) && is_reserved(254) && !is_reserved(1));
    }
}
