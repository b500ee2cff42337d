//! Everything that the tables of this suite hold, as text: for people, and to find what is left of
//! an attachment.

use std::collections::BTreeMap;

use nft::{Element, Nft, Set, Table, Target};
use sys::Result;

use super::{TABLE, fast_path, firewall, frames, masquerade, overlay, published, resolver, sources, spoof};

/// The content of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The elements, set by set.
    pub entries: Vec<Entry>,
    /// The comments of chains, by their names.
    pub chains: BTreeMap<String, String>,
}

/// An element of a set or map, as `nft` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The set's name.
    pub set: &'static str,
    /// The key, or the first and the last key of a range: `tcp . 8080`.
    pub key: String,
    /// Where it leads: `10.1.2.3 . 80`, `goto masq-0123456789abcdef`.
    pub target: Option<String>,
    /// Its owner: see [`crate::Owner::label`]. For what a network shares, `moor/<network>`.
    pub label: String,
}

/// Reads all sets. Elements without a comment have no owner, and are left out.
///
/// # Errors
/// The kernel could not be asked.
pub fn inventory(nft: &Nft) -> Result<Inventory> {
    let mut inventory = Inventory::default();
    for (table, sets) in [(TABLE, ip_sets()), (spoof::TABLE, [&spoof::SETS[..], &frames::SETS].concat())] {
        if nft.table(&table)?.is_none() {
            continue;
        }
        for set in sets {
            inventory.entries.extend(nft.elements(&set)?.iter().filter_map(|element| entry(&set, element)));
        }
        inventory.take_chains(nft, &table)?;
    }
    Ok(inventory)
}

fn ip_sets() -> Vec<Set<'static>> {
    let mut sets: Vec<_> = published::owned_sets().collect();
    sets.extend(masquerade::MAPS);
    sets.extend(sources::SETS);
    sets.extend(firewall::SETS);
    sets.extend(fast_path::SETS);
    sets.extend(resolver::MAPS);
    sets.extend(overlay::SETS);
    sets
}

fn entry(set: &Set<'static>, element: &Element) -> Option<Entry> {
    let comment = element.comment.as_deref()?;
    // A publisher's comment also counts its elements.
    let label = comment.split(' ').next().unwrap_or(comment).to_owned();
    let target = match (&element.target, set.data) {
        (Target::Verdict(verdict), _) => Some(verdict.to_string()),
        (Target::Value(value), nft::Data::Value(types)) => Some(value.show(types)),
        _ => None,
    };
    Some(Entry { set: set.name, key: element.show(set), target, label })
}

impl Inventory {
    fn take_chains(&mut self, nft: &Nft, table: &Table<'_>) -> Result<()> {
        let commented = nft.chains(table)?.into_iter().filter_map(|chain| Some((chain.name, chain.comment?)));
        self.chains.extend(commented);
        Ok(())
    }
}
