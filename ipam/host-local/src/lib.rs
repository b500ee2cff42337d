//! host-local: leases addresses from ranges, in a directory that the reference's plugin of that
//! name can share.
//!
//! `config` reads and checks the configuration, `verbs` has the commands; the leases are in the
//! crate `leases`.

mod config;
mod verbs;

pub use config::KEYS;
pub use leases::{DATA_DIR, Roots, addresses_in};
pub use verbs::{HostLocal, validate};
