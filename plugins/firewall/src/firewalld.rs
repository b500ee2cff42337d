//! The back end `firewalld`: the container's addresses are sources of a zone.

use std::net::IpAddr;

use cni::Error;
use host::firewalld::{self, Sources};
use host::{Drift, Owner, Removal};

use crate::config::Config;

fn sources(config: &Config, owner: &Owner, addresses: &[IpAddr]) -> Sources {
    Sources { owner: owner.clone(), zone: config.zone.clone(), addresses: addresses.to_vec() }
}

/// Lets the container's packets pass.
///
/// # Errors
/// firewalld does not run, does not answer, or refused; nothing is left.
pub fn add(config: &Config, owner: &Owner, addresses: &[IpAddr]) -> Result<(), Error> {
    Ok(sources(config, owner, addresses).add()?)
}

/// The differences from what [`add`] made. firewalld forgets sources at a reload: what is recorded
/// is made again first.
///
/// # Errors
/// firewalld does not run, or does not answer.
pub fn drifts(config: &Config, owner: &Owner, addresses: &[IpAddr]) -> Result<Vec<Drift>, Error> {
    let sources = sources(config, owner, addresses);
    let drifts = sources.verify()?;
    if drifts.is_empty() || !firewalld::mend(owner)? {
        return Ok(drifts);
    }
    let left = sources.verify()?;
    for drift in drifts.iter().filter(|drift| !left.contains(drift)) {
        host::notice(format_args!(
            "firewall: CHECK of {} of container {}: {drift}: made again",
            owner.ifname, owner.container_id
        ));
    }
    Ok(left)
}

/// Whether firewalld has its name on the system bus.
///
/// # Errors
/// The bus does not answer.
pub fn is_running() -> Result<bool, Error> {
    Ok(firewalld::is_running()?)
}

/// Removes the sources of an attachment that ADD made. `zone` is that of the configuration, if the
/// reference may have made sources there: it records none.
///
/// # Errors
/// The records could not be read or written.
pub fn delete(zone: Option<&str>, removal: &Removal, addresses: &[IpAddr]) -> Result<(), Error> {
    Ok(firewalld::withdraw(removal, zone, addresses)?)
}

/// Removes those of a network's attachments except `valid`.
///
/// # Errors
/// As [`delete`].
pub fn collect(network: &str, valid: &[Owner]) -> Result<(), Error> {
    Ok(firewalld::withdraw_all_but(network, valid)?)
}

/// Checks that ADD could be served.
///
/// # Errors
/// firewalld does not run, or has no such zone.
pub fn require(config: &Config) -> Result<(), Error> {
    Ok(firewalld::require(&config.zone)?)
}
