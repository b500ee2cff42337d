//! The back end `iptables`.

use std::net::IpAddr;

use cni::{Code, Error};
use host::{Drift, Owner};

use crate::config::Config;

fn refusal() -> Error {
    Error::new(Code::UnsupportedField, "backend \"iptables\" is not supported: use \"nftables\"")
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

/// Deletes the rules of these addresses.
///
/// # Errors
/// A program could not be run, or refused.
pub fn delete(_: &Owner, _: &[IpAddr]) -> Result<(), Error> {
    Ok(())
}

/// Checks that ADD could be served.
///
/// # Errors
/// Not supported.
pub fn require() -> Result<(), Error> {
    Err(refusal())
}
