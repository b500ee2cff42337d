//! Published ports: what a host port leads to, in the table `inet moor`.
//!
//! [`Wanted::publish`] creates all elements of an attachment in one transaction, or none.
//! [`withdraw`] finds them by the attachment alone. A request for another attachment's port fails
//! with [`Refusal::Taken`], which names the owner.

mod elements;
mod error;
mod flows;
mod free;
mod guard;
mod layout;
mod ledger;
mod listing;
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
mod wire;
mod withdraw;

pub(super) use elements::{attachment, container};
pub use error::Refusal;
pub use flows::Forgotten;
pub use free::choose;
pub(super) use layout::{loopback, owned as owned_sets};
pub use listing::{Listed, chains_of_iptables, published, published_by_reference};
pub use publish::{Wanted, take_back};
pub use reference::{chain_of, chains_of, is_in_use, withdraw_of_reference};
pub use reference_made::is_published_by_reference;
pub use restore::{forget_strangers, raise_localnet, restore};
pub use verify::verify;
pub(super) use wire::stand_in;
pub use withdraw::{Hint, Withdrawn, withdraw, withdraw_all_but};

/// The maximum number of separate ports and ranges of one attachment.
pub const RUNS_MAX: usize = 8192;
/// The maximum number of elements of one attachment. A range that keeps its port numbers takes one,
/// and so does each moved port.
pub const ELEMENTS_MAX: usize = 65_536;
