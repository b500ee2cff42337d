//! Packet rules: the contents of Moor's tables, and how they are created and deleted.
//!
//! A table is created with its first rule and deleted with its last one. For an attachment, a
//! plugin adds elements of maps and sets; their comments name their owner
//! ([`crate::Owner::label`]). All attachments share the chains and their rules, so the cost of a
//! packet does not grow with the number of containers.
//!
//! These functions add to a transaction that their caller commits. What they read from the kernel
//! holds only as long as nobody commits in between, so call them inside [`Nft::transact`].

mod accepted;
mod alive;
mod attachment;
pub mod fast_path;
pub mod firewall;
mod foreign;
mod frames;
mod inventory;
mod masquerade;
pub(crate) mod overlay;
pub(crate) mod permit;
pub mod published;
mod reapply;
pub(crate) mod reference;
mod release;
pub mod resolver;
mod restore;
mod sources;
mod spoof;

use nft::{Base, Batch, Chain, Element, Family, Flowtable, Nft, Rule, RuleInfo, Set, Table, Verdict};
use sys::{Error, Result};

use crate::Drift;

pub use accepted::{accept, accept_no_more, accept_only};
pub use attachment::{delete, delete_but, delete_own};
pub use fast_path::FastPath;
pub use foreign::{ForeignChain, Way, foreign_chains};
pub use frames::Addressed;
pub use inventory::{Entry, Inventory, inventory};
pub use masquerade::Masqueraded;
pub use overlay::Overlaid;
pub use reapply::{Reapplied, mend, reapply};
pub use release::{Released, release};
pub use restore::Restored;
use restore::{Group, restore};
pub use sources::Sources;
pub use spoof::Guarded;

/// The table for IP packets.
pub const TABLE: Table<'static> = Table { family: Family::Inet, name: "moor" };

/// The comment of a table.
pub const COMMENT: &str =
    "Moor's CNI plugins; an element's comment is its owner: moor/network/interface/container";

/// Requires that Moor's tables, if there are any, are in force and nobody else's.
///
/// # Errors
/// The kernel could not be asked; another process has a table for itself, or it is dormant.
pub fn require_own(nft: &Nft) -> Result<()> {
    for table in nft.tables()?.iter().filter(|table| table.name == TABLE.name) {
        let family = table.family.map_or_else(|| "?".into(), |family| family.to_string());
        let why = match table.owner {
            // Who holds it has its netlink port, which is mostly its process id.
            Some(port) => {
                format!("netlink port {port} owns it, and nobody else can change it: end that process")
            }
            None if table.dormant => format!("it is dormant: run `nft add table {family} {}`", table.name),
            None => continue,
        };
        let cause = std::io::Error::new(std::io::ErrorKind::PermissionDenied, why);
        return Err(Error::new("use", format!("the table {family} {} of packet rules", table.name), cause));
    }
    Ok(())
}

/// A chain with all of its rules.
#[derive(Clone, Debug)]
pub struct Filled<'a> {
    /// Its name.
    pub chain: Chain<'a>,
    /// The hook by which packets enter it; `None` if other chains lead to it.
    pub base: Option<Base>,
    /// Its purpose.
    pub comment: &'a str,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

impl Filled<'_> {
    /// Whether the chain exists with its rules, by one request to the kernel. It counts the rules
    /// and does not compare them, but it detects that the chain, the table or the ruleset was
    /// flushed.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn is_there(&self, nft: &Nft) -> Result<bool> {
        let Some(info) = nft.chain(&self.chain)? else { return Ok(false) };
        let rules = u32::try_from(self.rules.len()).unwrap_or(u32::MAX);
        // The kernel counts the rules of a chain and the references to it as one number; a base
        // chain has no references.
        Ok(if self.base.is_some() { info.uses == rules } else { info.uses >= rules })
    }

    /// Adds to `batch` the creation of the chain, regardless of what exists of it; the table must
    /// exist.
    pub fn write(&self, batch: &mut Batch) {
        batch.add_chain(&self.chain, self.base.as_ref(), Some(self.comment));
        // A new chain is empty; a modified one loses the rules that are left.
        batch.flush_chain(&self.chain);
        for rule in &self.rules {
            batch.add_rule(&self.chain, rule);
        }
    }

    /// Differences between the expected and the actual state.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, nft: &Nft) -> Result<Vec<Drift>> {
        let what = format!("chain {}", self.chain);
        let Some(info) = nft.chain(&self.chain)? else {
            return Ok(vec![Drift::new(what, "present", "absent")]);
        };
        let mut drifts = Vec::new();
        if let Some(base) = &self.base
            && !info.base.as_ref().is_some_and(|actual| base.is(actual))
        {
            drifts.push(Drift::new(format!("hook of {what}"), base.to_string(), "another".to_owned()));
        }
        let rules = nft.rules(&self.chain)?;
        let same = |(wanted, actual): (&Rule, &RuleInfo)| nft::same(wanted.exprs(), &actual.exprs);
        if rules.len() != self.rules.len() {
            drifts.push(Drift::new(format!("rules of {what}"), self.rules.len(), rules.len()));
        } else if let Some(at) = self.rules.iter().zip(&rules).position(|pair| !same(pair)) {
            drifts.push(Drift::new(format!("rule {} of {what}", at + 1), "as made by ADD", "another"));
        }
        Ok(drifts)
    }
}

/// Whether a kernel without nf_tables returns this error: without netfilter netlink
/// (EPROTONOSUPPORT), without that part of it (EINVAL), or without the address family (EOPNOTSUPP,
/// EAFNOSUPPORT).
pub fn is_without_nf_tables(error: &Error) -> bool {
    error.is_not_supported() || matches!(error.errno(), Some(libc::EINVAL | libc::EPROTONOSUPPORT))
}

/// Opens the socket for packet rules, and checks that the kernel supports them.
///
/// # Errors
/// The kernel has no nf_tables, or the process may not use it.
pub fn open() -> Result<Nft> {
    let opened = Nft::open().and_then(|nft| nft.generation().map(|_| nft));
    opened.map_err(|error| match is_without_nf_tables(&error) {
        true => error
            .within("packet rules need nf_tables, which this kernel is without (CONFIG_NF_TABLES)".into()),
        false => error,
    })
}

/// The maximum number of elements with an owner that one transaction deletes: it is prepared and
/// committed in a few milliseconds.
const OWNERS_AT_ONCE: usize = 512;

/// What remains after one of several transactions of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Nothing,
    Some,
}

/// Limits the elements to those that one transaction deletes.
fn limit<T>(elements: &mut Vec<T>) -> Left {
    let left = if elements.len() > OWNERS_AT_ONCE { Left::Some } else { Left::Nothing };
    elements.truncate(OWNERS_AT_ONCE);
    left
}

/// Differences of elements from what they must be: there, with this owner's label.
///
/// # Errors
/// The kernel could not be asked.
fn element_drifts(
    nft: &Nft,
    elements: impl IntoIterator<Item = (Set<'static>, Element)>,
    label: &str,
) -> Result<Vec<Drift>> {
    let mut drifts = Vec::new();
    for (set, wanted) in elements {
        let owner = |element: &Element| element.comment.clone().unwrap_or_else(|| "nobody's".into());
        let actual = nft.element(&set, &wanted)?.as_ref().map_or_else(|| "absent".into(), owner);
        if actual != label {
            drifts.push(Drift::new(format!("element {} of {set}", wanted.show(&set)), label, actual));
        }
    }
    Ok(drifts)
}

/// Deletes the elements whose key is this link's name, or begins with it: those of an earlier link
/// of this name.
///
/// # Errors
/// The kernel could not be asked.
fn delete_of_link(nft: &Nft, batch: &mut Batch, sets: &[Set<'static>], link: &str) -> Result<()> {
    let of_link = format!("{link} . ");
    for set in sets {
        let mut stale = nft.elements(set)?;
        stale.retain(|element| {
            let key = element.show(set);
            key == link || key.starts_with(&of_link)
        });
        batch.del_elements(set, &stale);
    }
    Ok(())
}

/// Elements to delete from several sets.
struct Owned {
    elements: Vec<(Set<'static>, Vec<Element>)>,
    /// Whether the sets have no others.
    is_all: bool,
    left: Left,
}

/// The elements of these sets with an owner that `is_ours` accepts, up to the limit of one
/// transaction; `None` if there are none.
fn owned(nft: &Nft, sets: &[Set<'static>], is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<Option<Owned>> {
    let mut owned = Owned { elements: Vec::new(), is_all: true, left: Left::Nothing };
    for set in sets {
        let mut ours = Vec::new();
        for element in nft.elements(set)? {
            match is_owned(&element, is_ours)? {
                true => ours.push(element),
                false => owned.is_all = false,
            }
        }
        owned.left = owned.left.max(limit(&mut ours));
        owned.elements.push((*set, ours));
    }
    owned.is_all &= owned.left == Left::Nothing;
    Ok(owned.elements.iter().any(|(_, ours)| !ours.is_empty()).then_some(owned))
}

/// Whether the comment of an element is an owner that `is_ours` accepts.
fn is_owned(element: &Element, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<bool> {
    element.comment.as_deref().map_or(Ok(false), is_ours)
}

/// The name of the chain that a verdict leads to.
fn led_to(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        _ => None,
    }
}

/// Adds to `batch` the creation of a table with these sets and chains, unless all of these chains
/// are intact; returns whether it does. Each chain leads to earlier ones only, and looks up these
/// sets only.
///
/// Each chain costs one request, so name only those that suffice: of chains that are always created
/// and flushed together, the base chains.
///
/// # Errors
/// The kernel could not be asked.
pub fn ensure(
    nft: &Nft,
    batch: &mut Batch,
    table: &Table<'_>,
    sets: &[(Set<'_>, &str)],
    chains: &[Filled<'_>],
) -> Result<bool> {
    for filled in chains {
        if !filled.is_there(nft)? {
            batch.add_table(table, Some(COMMENT));
            for (set, comment) in sets {
                batch.add_set(set, Some(comment));
            }
            chains.iter().for_each(|chain| chain.write(batch));
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds to `batch` the deletion of these chains and sets, all of which exist, and of the table if
/// it contains nothing else. Elements that lead to one of the chains must be gone or be in one of
/// the sets.
///
/// # Errors
/// The kernel could not be asked.
pub fn retire(
    nft: &Nft,
    batch: &mut Batch,
    table: &Table<'_>,
    chains: &[Chain<'_>],
    sets: &[Set<'_>],
) -> Result<()> {
    retire_with(nft, batch, table, chains, sets, &[])
}

/// As [`retire`], also of these flowtables.
fn retire_with(
    nft: &Nft,
    batch: &mut Batch,
    table: &Table<'_>,
    chains: &[Chain<'_>],
    sets: &[Set<'_>],
    flowtables: &[Flowtable<'_>],
) -> Result<()> {
    let going = u32::try_from(chains.len() + sets.len() + flowtables.len()).unwrap_or(u32::MAX);
    if nft.table(table)?.is_some_and(|table| table.uses == going) {
        batch.del_table(table);
        return Ok(());
    }
    chains.iter().for_each(|chain| batch.flush_chain(chain));
    sets.iter().for_each(|set| batch.flush_set(set));
    chains.iter().for_each(|chain| batch.del_chain(chain));
    flowtables.iter().for_each(|flowtable| batch.del_flowtable(flowtable));
    sets.iter().for_each(|set| batch.del_set(set));
    Ok(())
}
