//! What the agent does next: a function of etcd's records, this host's files and what plugins wait
//! for. Nothing is remembered of what was tried before, so whatever is lost on the way is found again
//! as a difference.

mod asks;
mod claims;
mod life;
mod network;
pub mod others;
mod own;
mod publish;

use std::net::IpAddr;

pub use asks::{Holder, free_of, holder};
pub(crate) use asks::{give_up_loan, lend, owners, refuse};
pub(crate) use claims::{belongings_in, is_wholly_free, release, release_all};
pub use life::{Standing, standing};
pub use network::why_not;
pub use own::blocks_file;
pub use publish::{difference_of, given_up, is_published, waiting};

use crate::state::want::View;
use crate::txn::{Op, Txn};
use cluster::key::Key;

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transaction.
    Txn(Txn),
    /// Another host asks for an address that this host holds, or for any: whether it is free is seen
    /// under the ledger's lock.
    Answer {
        /// The question.
        ask: Key,
        /// Its revision.
        revision: i64,
    },
    /// Gives back a block that was wholly free for long, if it still is.
    GiveBack {
        /// The network's name.
        network: String,
        /// The block's first address.
        first: IpAddr,
    },
    /// Gives up all that this host has of a network that somebody removed, if it is not used here.
    Abandon {
        /// The network's name.
        network: String,
    },
    /// Returns an address to its owner, if nobody has it.
    Return {
        /// The network's name.
        network: String,
        /// The address.
        address: IpAddr,
    },
}

/// What can be deleted of this host's records.
pub fn deletions(view: &View<'_>) -> Option<Txn> {
    if !view.cache.is_whole() || standing(view) != Standing::Member {
        return None;
    }
    let mut txn = publish::publish(view)?;
    txn.ops.retain(|op| matches!(op, Op::Delete(_)));
    (!txn.ops.is_empty()).then_some(txn)
}

/// The next step, if there is anything to do.
pub fn next(view: &View<'_>) -> Option<Step> {
    if !view.cache.is_whole() {
        return None;
    }
    if view.local.leaving {
        return life::leave(view).map(Step::Txn);
    }
    if let Some(txn) = life::meta(view) {
        return Some(Step::Txn(txn));
    }
    if let Some(txn) = life::join(view) {
        return Some(Step::Txn(txn));
    }
    if standing(view) != Standing::Member {
        return None;
    }
    network::make(view)
        .or_else(|| claims::claim(view))
        .or_else(|| own::put(view))
        .or_else(|| publish::publish(view))
        .map(Step::Txn)
        .or_else(|| claims::abandon(view))
        .or_else(|| asks::answer(view))
        .or_else(|| asks::ask(view).map(Step::Txn))
        .or_else(|| claims::give_back(view))
        .or_else(|| asks::return_loan(view))
        .or_else(|| others::step(view).map(Step::Txn))
}

#[cfg(test)]
pub(crate) mod tests;
