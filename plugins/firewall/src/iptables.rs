//! The back end `iptables`: the reference's chains.

use std::net::IpAddr;

use cni::Error;
use host::iptables::Accepted;
use host::{Drift, Owner, Removal, rules};
use nft::Nft;

use crate::config::Config;

fn accepted(config: &Config, addresses: &[IpAddr]) -> Accepted {
    Accepted { admin: config.admin_chain.clone(), addresses: addresses.to_vec() }
}

/// Lets the container's packets pass.
///
/// # Errors
/// A program is missing, did not end in time, or refused; nothing is left.
pub fn add(config: &Config, owner: &Owner, addresses: &[IpAddr]) -> Result<(), Error> {
    rules::accept(owner, &accepted(config, addresses))?;
    Ok(())
}

/// The differences from what [`add`] made. Nothing is made again: an administrator's tables are
/// not changed by a question.
///
/// # Errors
/// A program could not be asked.
pub fn drifts(config: &Config, addresses: &[IpAddr]) -> Result<Vec<Drift>, Error> {
    Ok(accepted(config, addresses).verify()?)
}

/// Deletes the rules of an attachment, this suite's or the reference's.
///
/// # Errors
/// A program could not be run, or refused.
pub fn delete(nft: Option<&Nft>, removal: &Removal, addresses: &[IpAddr]) -> Result<(), Error> {
    Ok(rules::accept_no_more(nft, removal, addresses)?)
}

/// Deletes the rules of a network's attachments except `valid`.
///
/// # Errors
/// As [`delete`].
pub fn collect(nft: Option<&Nft>, network: &str, valid: &[Owner]) -> Result<(), Error> {
    Ok(rules::accept_only(nft, network, valid)?)
}

/// Checks that ADD could be served.
///
/// # Errors
/// The programs are missing.
pub fn require() -> Result<(), Error> {
    Ok(host::iptables::is_installed()?)
}
