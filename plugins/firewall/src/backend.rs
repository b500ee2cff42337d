//! Which back end lets the container's packets pass, and the one that does it.

use std::net::IpAddr;

use cni::{Error, Request};
use host::{Drift, Owner, Removal};
use nft::Nft;

use crate::config::{Backend, Config};
use crate::{config, firewalld, iptables};

impl Backend {
    /// The back end of a configuration: see [`Backend::choose`].
    ///
    /// # Errors
    /// The system bus could not be asked.
    pub fn of(config: &Config, has_nf_tables: bool) -> Result<Self, Error> {
        Self::choose(config.backend, has_nf_tables, firewalld::is_running)
    }

    /// The requested back end. `auto` is firewalld where it runs, because its own chains refuse what
    /// is in none of its zones; else nf_tables, or iptables on a kernel without.
    fn choose(
        requested: Option<Self>,
        has_nf_tables: bool,
        runs_firewalld: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<Self, Error> {
        match requested {
            Some(backend) => Ok(backend),
            None if runs_firewalld()? => Ok(Self::Firewalld),
            None if has_nf_tables => Ok(Self::Nftables),
            None => Ok(Self::Iptables),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// FW-11, FW-66.
    #[test]
    fn auto_is_firewalld_where_it_runs_and_iptables_without_nf_tables() {
        const AUTO: Option<Backend> = None;
        let choose = |requested, nf_tables, firewalld| {
            Backend::choose(requested, nf_tables, || Ok(firewalld)).unwrap()
        };
        assert_eq!(choose(AUTO, true, true), Backend::Firewalld);
        assert_eq!(choose(AUTO, false, true), Backend::Firewalld);
        assert_eq!(choose(AUTO, true, false), Backend::Nftables);
        assert_eq!(choose(AUTO, false, false), Backend::Iptables);
        for backend in [Backend::Nftables, Backend::Iptables, Backend::Firewalld] {
            assert_eq!(choose(Some(backend), false, true), backend);
        }
    }

    #[test]
    fn the_bus_is_asked_for_auto_alone() {
        let fails = || Err(Error::internal("the bus does not answer"));
        assert!(Backend::choose(None, true, fails).is_err());
        assert_eq!(Backend::choose(Some(Backend::Iptables), true, fails).unwrap(), Backend::Iptables);
    }
}
