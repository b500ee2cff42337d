//! Makes flushed rules again, and leaves existing ones alone.

use std::collections::{BTreeMap, BTreeSet};

use nft::{Batch, Element, Nft, Set, Table, Value};
use sys::Result;

use super::published::{attachment, container};
use super::{COMMENT, Filled};

/// The expected contents of a table. Each chain leads to earlier ones only.
pub(super) struct Group<'a> {
    pub table: Table<'static>,
    pub sets: &'a [(Set<'a>, &'a str)],
    pub chains: &'a [Filled<'a>],
    /// Of two elements that exclude each other, the first one is made.
    pub elements: Vec<(Set<'a>, Element)>,
}

/// What was missing, and is made again by the transaction that found it missing.
#[derive(Debug, Default)]
pub struct Restored {
    /// Owners of the elements: see [`crate::Owner::label`].
    pub owners: BTreeSet<String>,
    /// The number of elements.
    pub elements: usize,
    /// The number of chains.
    pub chains: usize,
    /// Elements that could not be made because they have another owner now: a sentence each.
    pub conflicts: Vec<String>,
}

impl Restored {
    /// Whether nothing was missing.
    pub fn is_nothing(&self) -> bool {
        self.elements == 0 && self.chains == 0
    }
}

/// An element of the kernel, or one that the batch creates.
struct Known {
    element: Element,
    new: bool,
}

/// Adds to `batch` what is missing of the group, or differs. Elements of other attachments stay.
/// Call it inside [`Nft::transact`].
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
    // The sort is stable: it keeps the order within a set.
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

/// The elements to delete from a set, and those to create.
fn changes_of(
    nft: &Nft,
    set: &Set<'_>,
    wanted: &[(Set<'_>, Element)],
    restored: &mut Restored,
) -> Result<(Vec<Element>, Vec<Element>)> {
    let there = nft.elements(set)?.into_iter();
    let mut known: BTreeMap<Value, Known> =
        there.map(|element| (element.key, Known { element, new: false })).collect();
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for (_, wanted) in wanted {
        // Known elements do not overlap, so the conflicting ones are adjacent. (All parts of a
        // concatenated range but the last have one value, so the order of the keys is the order of
        // the ranges.)
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

/// Whether an element is as expected. The comment after the label may differ: the number of an
/// attachment's ports depends on those that other attachments of its container have.
fn is_same(there: &Element, wanted: &Element) -> bool {
    (there.key, there.end) == (wanted.key, wanted.end)
        && there.target == wanted.target
        && (there.comment == wanted.comment || owner(wanted).is_some() && owner(there) == owner(wanted))
}

/// The label of the attachment that owns an element, if any.
pub(super) fn owner(element: &Element) -> Option<&str> {
    let comment = element.comment.as_deref()?;
    // Some comments continue after the label.
    let label = comment.split(' ').next()?;
    label.starts_with("moor/").then_some(label)
}
