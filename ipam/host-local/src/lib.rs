//! host-local: leases addresses from ranges, in a directory that the reference's plugin of that
//! name can share.
//!
//! `config` reads and checks the configuration, `range` has the order of addresses, `store` is the
//! directory, `alloc` allocates, `verbs` has the commands.

mod alloc;
mod boot;
mod config;
mod cooldown;
mod error;
mod index;
mod lease;
mod range;
mod resolv;
mod store;
mod text;
mod verbs;

pub use boot::Roots;
pub use config::{DATA_DIR, KEYS};
pub use lease::addresses_in;
pub use verbs::{HostLocal, validate};
