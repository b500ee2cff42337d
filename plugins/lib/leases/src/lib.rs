//! Leases of addresses from ranges, in a directory that the reference's plugin host-local can
//! share: what the IPAM plugins host-local and cluster have in common.
//!
//! `range` has the order of addresses, `store` is the directory, `alloc` allocates, `verbs` has what
//! the plugins do with it. A plugin decides by its configuration which addresses there are.

mod alloc;
mod boot;
mod cooldown;
mod error;
mod index;
mod lease;
mod range;
pub mod resolv;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
mod verbs;

pub use alloc::{Offer, allocate};
pub use boot::Roots;
pub use error::{AllocError, ConfigError, Misplaced, Reserved};
pub use lease::{Holder, addresses_in};
pub use range::{Exclude, Range, RangeParts, RangeSet};
pub use store::{Place, Store};
pub use verbs::{Full, check, collect, full_set, release, requested_ip, writable};

/// Where the reference has the directories of networks.
pub const DATA_DIR: &str = "/var/lib/cni/networks";
