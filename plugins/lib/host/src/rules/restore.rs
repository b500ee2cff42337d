//! Making again what somebody flushed, and leaving alone what is there.

use std::collections::{BTreeMap, BTreeSet};

use nft::{Batch, Element, Nft, Set, Table, Value};
use sys::Result;

use super::published::{attachment, container};
use super::{COMMENT, Filled};

/// What must be there of a table. Each chain leads to earlier ones only.
pub(super) struct Group<'a> {
    pub table: Table<'static>,
    pub sets: &'a [(Set<'static>, &'a str)],
    pub chains: &'a [Filled<'a>],
    /// Of two that cannot be both, the first is to be there.
    pub elements: Vec<(Set<'static>, Element)>,
}

/// What was missing, and is made again with the transaction that it was found in.
#[derive(Debug, Default)]
pub struct Restored {
    /// Whose elements: see [`crate::Owner::label`].
    pub owners: BTreeSet<String>,
    /// How many elements.
    pub elements: usize,
    /// How many chains.
    pub chains: usize,
    /// What could not be made, since somebody else has it now: a sentence each.
    pub conflicts: Vec<String>,
}

impl Restored {
    /// Whether nothing was missing.
    pub fn is_nothing(&self) -> bool {
        self.elements == 0 && self.chains == 0
    }
}

/// An element of the kernel's, or one that the batch is to create.
struct Known {
    element: Element,
    new: bool,
}

/// Has `batch` make whatever of the group is missing or not as it should be. What other attachments have stays.
/// Only inside [`Nft::transact`].
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn restore(nft: &Nft, batch: &mut Batch, group: Group<'_>, restored: &mut Restored) -> Result<()> {
    let mut chains = Vec::new();
    for filled in group.chains {
        if !filled.drifts(nft)?.is_empty() {
            chains.push(filled);
        }
    }
    let mut elements = group.elements;
    // Of one set, those that come first stay first.
    elements.sort_by_key(|(set, _)| set.name);
    let mut changes = Vec::new();
    for of_set in elements.chunk_by(|(a, _), (b, _)| a.name == b.name) {
        let Some((set, _)) = of_set.first() else { continue };
        let (gone, new) = changes_of(nft, set, of_set, restored)?;
        if !new.is_empty() {
            changes.push((*set, gone, new));
        }
    }
    if chains.is_empty() && changes.is_empty() {
        return Ok(());
    }
    batch.add_table(&group.table, Some(COMMENT));
    group.sets.iter().for_each(|(set, comment)| batch.add_set(set, Some(comment)));
    chains.iter().for_each(|chain| chain.write(batch));
    restored.chains += chains.len();
    for (set, gone, new) in changes {
        batch.del_elements(&set, &gone);
        batch.create_elements(&set, &new);
        restored.elements += new.len();
        restored.owners.extend(new.iter().filter_map(|element| owner(element).map(str::to_owned)));
    }
    Ok(())
}

/// What has to go from a set, and what has to come.
fn changes_of(
    nft: &Nft,
    set: &Set<'static>,
    wanted: &[(Set<'static>, Element)],
    restored: &mut Restored,
) -> Result<(Vec<Element>, Vec<Element>)> {
    let there = nft.elements(set)?.into_iter();
    let mut known: BTreeMap<Value, Known> =
        there.map(|element| (element.key, Known { element, new: false })).collect();
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for (_, wanted) in wanted {
        // All that are known are apart from each other, so those in the way are neighbours. (All parts of a
        // concatenated range but the last are of one value, so ranges are in the order of their keys.)
        let in_the_way: Vec<Value> = known
            .range(..=wanted.end.unwrap_or(wanted.key))
            .rev()
            .take_while(|(first, other)| other.element.end.unwrap_or(**first) >= wanted.key)
            .map(|(first, _)| *first)
            .collect();
        let others: Vec<&Known> = in_the_way.iter().filter_map(|key| known.get(key)).collect();
        if let [one] = others[..]
            && is_same(&one.element, wanted)
        {
            continue;
        }
        let ours = owner(wanted).unwrap_or_default();
        // Ports of one container: one of its attachments is enough.
        let is_shared = |of: &str| attachment(of) != attachment(ours) && container(of) == container(ours);
        if others.iter().filter_map(|other| owner(&other.element)).any(is_shared) {
            continue;
        }
        let foreign = others.iter().find(|other| {
            other.new || owner(&other.element).is_some_and(|of| attachment(of) != attachment(ours))
        });
        if let Some(foreign) = foreign {
            let theirs = owner(&foreign.element).unwrap_or_default();
            restored.conflicts.push(format!("{} of {set}, of {ours}: {theirs} has it now", wanted.show(set)));
            continue;
        }
        gone.extend(in_the_way.iter().filter_map(|key| known.remove(key)).map(|other| other.element));
        known.insert(wanted.key, Known { element: wanted.clone(), new: true });
        new.push(wanted.clone());
    }
    Ok((gone, new))
}

/// Whether an element is as it should be. What a comment says after the label may differ: how many ports an attachment
/// has depends on what others of its container have.
fn is_same(there: &Element, wanted: &Element) -> bool {
    (there.key, there.end) == (wanted.key, wanted.end)
        && there.target == wanted.target
        && (there.comment == wanted.comment || owner(wanted).is_some() && owner(there) == owner(wanted))
}

/// The attachment that an element belongs to, if it is one's.
pub(super) fn owner(element: &Element) -> Option<&str> {
    let comment = element.comment.as_deref()?;
    // Some comments go on after the label.
    let label = comment.split(' ').next()?;
    label.starts_with("moor/").then_some(label)
}
