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
use config::{Conf, Settings};
pub use host::Host;
pub use verbs::Cluster;

/// Checks the configuration of a request; changes nothing.
///
/// # Errors
/// The configuration is invalid.
pub fn validate(request: &Request) -> Result<(), Error> {
    settings(request).map(drop)
}

/// The checked configuration.
fn settings(request: &Request) -> Result<Settings, Error> {
    let conf: Conf = request.config()?;
    let asked = leases::requested_ip(&request.args(&["IP"])?)?;
    conf.check(asked).map_err(|error| error.to_cni_error())
}
