//! What earlier layouts had: maps that shifted a range of ports by a remainder, which nft's language
//! cannot do, and a chain that examined every packet for 127.0.0.0/8. Executables are replaced under
//! running containers, so the transaction that creates the chains again deletes these. Elements
//! still in the maps are found and deleted with their owner.

use nft::{Batch, Chain, Data, Nft, Set, Type};
use sys::Result;

use super::layout::{V4, V6, chain, sets};
use crate::rules::TABLE;

const RANGES4: Set<'static> =
    Set { name: "ranges4", data: Data::Range(&[Type::Ipv4, Type::Port]), ..V4.ranges };
const RANGES_AT4: Set<'static> = Set { name: "ranges-at4", data: RANGES4.data, ..V4.ranges_at };
const RANGES6: Set<'static> =
    Set { name: "ranges6", data: Data::Range(&[Type::Ipv6, Type::Port]), ..V6.ranges };
const RANGES_AT6: Set<'static> = Set { name: "ranges-at6", data: RANGES6.data, ..V6.ranges_at };

/// It led to no other chain.
const GUARD: Chain<'static> = chain("published-guard");

/// They are created and deleted together.
pub(super) const SETS: [Set<'static>; 4] = [RANGES4, RANGES_AT4, RANGES6, RANGES_AT6];

/// Adds to `batch` their deletion, if they exist; no rule looks the maps up any more.
pub(super) fn delete(nft: &Nft, batch: &mut Batch) -> Result<()> {
    if nft.chain(&GUARD)?.is_some() {
        batch.flush_chain(&GUARD);
        batch.del_chain(&GUARD);
    }
    if nft.set_is(&RANGES4)?.is_some() {
        for set in SETS {
            batch.flush_set(&set);
            batch.del_set(&set);
        }
    }
    Ok(())
}

/// The sets of the existing layout.
pub(super) fn sets_there(nft: &Nft) -> Result<Vec<Set<'static>>> {
    let mut there: Vec<Set<'static>> = sets().into_iter().map(|(set, _)| set).collect();
    if nft.set_is(&RANGES4)?.is_some() {
        if nft.set_is(&V4.ranges)?.is_none() {
            let new = [V4.ranges, V4.ranges_at, V6.ranges, V6.ranges_at];
            there.retain(|set| !new.iter().any(|other| other.name == set.name));
        }
        there.extend(SETS);
    }
    Ok(there)
}

/// The names of the existing layout's chains, without those of conditions. All of ours have the
/// prefix, also those that a newer layout has: each may lead to the sets, which could not go then.
pub(super) fn chains_there(nft: &Nft) -> Result<Vec<String>> {
    let there = nft.chains(&TABLE)?.into_iter().map(|info| info.name);
    Ok(there.filter(|name| is_of_layout(name)).collect())
}

/// Whether a chain of our table is of the layout: `published`, or `published-` and anything but
/// `if`, which begins the names of conditions.
fn is_of_layout(name: &str) -> bool {
    match name.strip_prefix("published") {
        Some("") => true,
        Some(rest) => rest.starts_with('-') && !rest.starts_with("-if"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_any_layout_of_ports_are_found_by_their_names() {
        for name in ["published", "published-new", "published-guard", "published-of-a-newer-layout"] {
            assert!(is_of_layout(name), "{name}");
        }
        for name in ["published-if4-0123456789abcdef", "publishedx", "masq", "leaving", ""] {
            assert!(!is_of_layout(name), "{name}");
        }
    }
}
