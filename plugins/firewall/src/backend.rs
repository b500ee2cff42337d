//! Which back end lets the container's packets pass, and the one that does it.

use std::net::IpAddr;

use cni::{Error, Request};
use host::{Drift, Owner, Removal};
use nft::Nft;

use crate::config::{Backend, Config};
use crate::{config, firewalld, iptables};

impl Backend {
    /// The back end of a configuration. `auto` is firewalld where it runs, because its own chains
    /// refuse what is in none of its zones; else nf_tables.
    ///
    /// # Errors
    /// The system bus could not be asked.
    pub fn of(config: &Config) -> Result<Self, Error> {
        match config.backend {
            Some(backend) => Ok(backend),
            None if firewalld::is_running()? => Ok(Self::Firewalld),
            None => Ok(Self::Nftables),
        }
    }

    /// Lets the container's packets pass, by a back end that is outside of `plan`.
    ///
    /// # Errors
    /// The back end refused, and nothing is left.
    pub fn add(self, config: &Config, owner: &Owner, addresses: &[IpAddr]) -> Result<(), Error> {
        match self {
            Self::Nftables => Ok(()),
            Self::Iptables => iptables::add(config, owner, addresses),
            Self::Firewalld => firewalld::add(config, owner, addresses),
        }
    }

    /// The differences from what [`Backend::add`] made.
    ///
    /// # Errors
    /// The back end could not be asked.
    pub fn drifts(self, config: &Config, owner: &Owner, addresses: &[IpAddr]) -> Result<Vec<Drift>, Error> {
        match self {
            Self::Nftables => Ok(Vec::new()),
            Self::Iptables => iptables::drifts(config, addresses),
            Self::Firewalld => firewalld::drifts(config, owner, addresses),
        }
    }

    /// Checks that ADD could be served.
    ///
    /// # Errors
    /// It could not.
    pub fn require(self, config: &Config) -> Result<(), Error> {
        match self {
            Self::Nftables => Ok(()),
            Self::Iptables => iptables::require(),
            Self::Firewalld => firewalld::require(config),
        }
    }
}

/// Deletes what any of the back ends outside of `plan` made, this suite's or the reference's: the
/// configuration may have changed since ADD. Missing objects are no error. Without nf_tables there
/// is no socket.
///
/// # Errors
/// A back end could not be asked, and a retry could succeed. All others are asked nevertheless.
pub fn delete(
    request: &Request,
    nft: Option<&Nft>,
    removal: &Removal,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let iptables = iptables::delete(nft, removal, addresses);
    firewalld::delete(config::zone_of(request).as_deref(), removal, addresses).and(iptables)
}

/// The same for a network's attachments except `valid`.
///
/// # Errors
/// As [`delete`].
pub fn collect(nft: Option<&Nft>, network: &str, valid: &[Owner]) -> Result<(), Error> {
    let iptables = iptables::collect(nft, network, valid);
    firewalld::collect(network, valid).and(iptables)
}
