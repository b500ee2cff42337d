//! Published ports: what a host port leads to, in the table `inet moor`.
//!
//! [`Wanted::publish`] makes all elements of an attachment in one transaction, or none; [`withdraw`] finds them again by the
//! attachment alone. Whoever asks for a port that another attachment has gets [`Refusal::Taken`], which names it.

mod elements;
mod error;
mod flows;
mod free;
mod guard;
mod layout;
mod ledger;
mod localnet;
mod publish;
mod reference;
mod reference_made;
mod restore;
mod retired;
mod shared;
#[cfg(test)]
mod tests;
mod verify;
mod withdraw;

pub(super) use elements::{attachment, container};
pub use error::Refusal;
pub use flows::Forgotten;
pub use free::choose;
pub use publish::{Wanted, take_back};
pub use reference::{chain_of, chains_of, is_in_use, withdraw_of_reference};
pub use reference_made::is_published_by_reference;
pub use restore::{raise_localnet, restore};
pub use verify::verify;
pub use withdraw::{Hint, Withdrawn, withdraw, withdraw_all_but};

/// The most separate ports and ranges that one attachment may have.
pub const RUNS_MAX: usize = 8192;
/// The most elements that one attachment may have: a range that keeps its port numbers takes one, a moved port one each.
pub const ELEMENTS_MAX: usize = 65_536;
