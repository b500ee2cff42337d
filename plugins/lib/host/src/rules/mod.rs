//! Packet rules: what Moor's tables hold, and how it comes and goes.
//!
//! A table is made when the first rule is needed and goes with the last one. What a plugin adds for an attachment are
//! elements of maps and sets, whose comments name their owner ([`crate::Owner::label`]); chains and their rules are
//! the same for all, so a packet's cost does not grow with the number of containers.
//!
//! Everything here is part of a transaction that somebody else commits: what is asked of the kernel is true only as
//! long as nobody commits in between, so call it inside [`Nft::transact`].

use crate::Result;
use crate::nft::{Base, Batch, Chain, Family, Nft, Rule, Set, Table};

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
            for Filled { chain, base, comment, rules } in chains {
                batch.add_chain(chain, base.as_ref(), Some(comment));
                // Of a new chain nothing; of one that was tampered with, what is left.
                batch.flush_chain(chain);
                for rule in rules {
                    batch.add_rule(chain, rule);
                }
            }
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
    for chain in chains {
        batch.flush_chain(chain);
    }
    for set in sets {
        batch.flush_set(set);
    }
    chains.iter().for_each(|chain| batch.del_chain(chain));
    sets.iter().for_each(|set| batch.del_set(set));
    Ok(())
}
