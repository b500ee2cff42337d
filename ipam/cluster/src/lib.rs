//! cluster: gives addresses of this host's blocks, which its agent claims in etcd, so that an
//! address is of one container on all hosts. It speaks to the agent only when the blocks are full,
//! or for an address that is in none of them.
//!
//! `config` reads and checks the configuration, `offer` tells which addresses there are, `give`
//! is ADD, `verbs` has the commands. The leases are in the crate `leases`.

mod config;
mod error;
mod give;
mod host;
mod offer;
mod verbs;

use cni::{Error, Request};

pub use config::KEYS;
pub use host::Host;
pub use verbs::Cluster;

/// Checks the configuration of a request; changes nothing.
///
/// # Errors
/// The configuration is invalid.
pub fn validate(request: &Request) -> Result<(), Error> {
    config::settings(request).map(drop)
}
