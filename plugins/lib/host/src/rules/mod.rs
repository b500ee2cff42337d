//! Packet rules: what Moor's tables hold, and how it comes and goes.
//!
//! A table is made when the first rule is needed and goes with the last one. What a plugin adds for an attachment are
//! elements of maps and sets, whose comments name their owner ([`crate::Owner::label`]); chains and their rules are
//! the same for all, so a packet's cost does not grow with the number of containers.
//!
//! Everything here is part of a transaction that somebody else commits: what is asked of the kernel is true only as
//! long as nobody commits in between, so call it inside [`Nft::transact`].

mod alive;
mod attachment;
mod masquerade;
pub mod published;
mod reapply;
pub(crate) mod reference;
mod release;
pub mod resolver;
mod restore;
mod spoof;

use nft::{Base, Batch, Chain, Element, Family, Nft, Rule, RuleInfo, Set, Table, Verdict};
use sys::{Error, Result};

use crate::Drift;

pub use attachment::{delete, delete_but, delete_own};
pub use masquerade::Masqueraded;
pub use reapply::{Reapplied, mend, reapply};
pub use release::{Released, release};
pub use restore::Restored;
use restore::{Group, restore};
pub use spoof::Guarded;

/// Where everything about IP packets is.
pub const TABLE: Table<'static> = Table { family: Family::Inet, name: "moor" };

/// What a table says of itself.
pub const COMMENT: &str =
    "Moor's CNI plugins; an element's comment is its owner: moor/network/interface/container";

/// A chain with all the rules that it has.
#[derive(Clone, Debug)]
pub struct Filled<'a> {
    /// Its name.
    pub chain: Chain<'a>,
    /// Where packets come into it; `None` for one that others lead to.
    pub base: Option<Base>,
    /// What it is for.
    pub comment: &'a str,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

impl Filled<'_> {
    /// Whether it is there with its rules: one question to the kernel. It does not compare the rules, but it sees
    /// when somebody flushed the chain, the table or everything.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn is_there(&self, nft: &Nft) -> Result<bool> {
        let Some(info) = nft.chain(&self.chain)? else { return Ok(false) };
        let rules = u32::try_from(self.rules.len()).unwrap_or(u32::MAX);
        // The kernel counts the rules of a chain and what leads to it as one number; to a base chain nothing leads.
        Ok(if self.base.is_some() { info.uses == rules } else { info.uses >= rules })
    }

    /// Has `batch` make it, whatever is there of it; the table must be there.
    pub fn write(&self, batch: &mut Batch) {
        batch.add_chain(&self.chain, self.base.as_ref(), Some(self.comment));
        // Of a new chain nothing; of one that was tampered with, what is left.
        batch.flush_chain(&self.chain);
        for rule in &self.rules {
            batch.add_rule(&self.chain, rule);
        }
    }

    /// What of it is not as it should be.
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

/// Whether this is how a kernel without nf_tables answers: with no netfilter netlink (EPROTONOSUPPORT), without that
/// part of it (EINVAL), or without the address family (EOPNOTSUPP, EAFNOSUPPORT).
pub fn is_without_nf_tables(error: &Error) -> bool {
    error.is_not_supported() || matches!(error.errno(), Some(libc::EINVAL | libc::EPROTONOSUPPORT))
}

/// Opens the socket that packet rules are made by, and makes sure that the kernel has them.
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

/// The most owners' elements that one transaction deletes: it is decided and committed in a few milliseconds.
const OWNERS_AT_ONCE: usize = 512;

/// What a deletion in several transactions has left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Nothing,
    Some,
}

/// Keeps what one transaction deletes.
fn limit<T>(elements: &mut Vec<T>) -> Left {
    let left = if elements.len() > OWNERS_AT_ONCE { Left::Some } else { Left::Nothing };
    elements.truncate(OWNERS_AT_ONCE);
    left
}

/// Whether an element's comment is an owner that `is_ours` accepts.
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

/// Has `batch` make a table with these sets and chains, where one of the chains is not there as it should be; says
/// whether it does. Chains come in an order in which each leads to earlier ones only, and look up these sets only.
///
/// It costs one question for each chain, so name those that can tell: of chains that are only ever made and flushed
/// together, the base chains.
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

/// Has `batch` delete these chains and sets, all of which are there, and the table with them when it has no others.
/// Elements that lead to one of the chains must be gone or be in one of the sets.
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
    let going = u32::try_from(chains.len() + sets.len()).unwrap_or(u32::MAX);
    if nft.table(table)?.is_some_and(|table| table.uses == going) {
        batch.del_table(table);
        return Ok(());
    }
    chains.iter().for_each(|chain| batch.flush_chain(chain));
    sets.iter().for_each(|set| batch.flush_set(set));
    chains.iter().for_each(|chain| batch.del_chain(chain));
    sets.iter().for_each(|set| batch.del_set(set));
    Ok(())
}
