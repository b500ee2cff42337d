//! Maps of an earlier layout, which shifted a range of ports by a remainder: nft's language cannot
//! do this. Executables are replaced under running containers, so the transaction that creates the
//! chains again deletes these maps. Elements still in them are found and deleted with their owner.

use nft::{Batch, Data, Nft, Set, Type};
use sys::Result;

use super::layout::{V4, V6, sets};

const RANGES4: Set<'static> =
    Set { name: "ranges4", data: Data::Range(&[Type::Ipv4, Type::Port]), ..V4.ranges };
const RANGES_AT4: Set<'static> = Set { name: "ranges-at4", data: RANGES4.data, ..V4.ranges_at };
const RANGES6: Set<'static> =
    Set { name: "ranges6", data: Data::Range(&[Type::Ipv6, Type::Port]), ..V6.ranges };
const RANGES_AT6: Set<'static> = Set { name: "ranges-at6", data: RANGES6.data, ..V6.ranges_at };

/// They are created and deleted together.
pub(super) const SETS: [Set<'static>; 4] = [RANGES4, RANGES_AT4, RANGES6, RANGES_AT6];

/// Adds to `batch` their deletion, if they exist; no rule looks them up any more.
pub(super) fn delete(nft: &Nft, batch: &mut Batch) -> Result<()> {
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
