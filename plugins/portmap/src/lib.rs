//! `portmap`: publishes ports of a container at the host's addresses, by packet rules of nf_tables,
//! or of iptables if configured. A chained plugin: it never enters the container, and takes its
//! address from the previous plugin's result.

mod add;
mod backend;
mod check;
mod config;
mod container;
mod error;
mod facts;
mod free;
mod plan;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use attach::owner;
use cni::{AddResult, Code, Error, Plugin, Request, ValidAttachments};
use host::piece;
use host::rules;
use host::rules::{FastPath, fast_path, published};
use netlink::Netlink;
use nft::Nft;

use crate::backend::Backend;
pub use crate::config::{Config, KEYS};

/// The plugin.
pub struct PortMap;

impl Plugin for PortMap {
    const NAME: &'static str = "portmap";
    const ABOUT: &'static str = "publishes ports of a container at the addresses of the host";
    const COMMANDS: &'static [(&'static str, &'static str)] = &[
        ("reapply", "makes all packet rules of containers again, of every plugin, that somebody has flushed"),
        (
            "release",
            "[NETWORK]: takes all packet rules and records of containers away, before another suite takes over",
        ),
    ];

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let previous = request.prev_result()?.ok_or_else(|| {
            Error::invalid_config("must be called as chained plugin").details("there is no prevResult")
        })?;
        previous.convertible_to(request.version)?;
        if config.wanted.is_empty() {
            return Ok(previous);
        }
        add::add(request, &config, &owner(request), &previous)?;
        Ok(previous)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let previous =
            request.prev_result()?.ok_or_else(|| Error::invalid_config("Required prevResult missing"))?;
        if config.wanted.is_empty() {
            return Ok(());
        }
        check::check(&config, &owner(request), &previous)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let removal = attach::removal(request);
        let owner = removal.owner();
        let mut chains = published::chains_of(owner).to_vec();
        // Both back ends: the configuration may have changed since ADD.
        let Some(nft) = if_there(rules::open())? else {
            return Ok(host::iptables::withdraw_from_old_tables(&chains, &|_| Ok(false))?);
        };
        let withdrawn = published::withdraw(&nft, &removal, config::hint(request).as_ref())?;
        withdrawn.forgotten.report();
        chains.extend(withdrawn.chains);
        published::withdraw_of_reference(&nft, owner)?;
        let is_in_use = |chain: &str| published::is_in_use(&nft, owner, chain);
        Ok(host::iptables::withdraw_from_old_tables(&chains, &is_in_use)?)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
        let Some(nft) = if_there(rules::open())? else { return Ok(()) };
        let owners = attach::valid_owners(request, valid);
        fast_path::withdraw_all_but(&nft, &request.network, &owners)?;
        let withdrawn = published::withdraw_all_but(&nft, &request.network, &owners)?;
        withdrawn.forgotten.report();
        Ok(host::iptables::withdraw_from_old_tables(&withdrawn.chains, &|_| Ok(false))?)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let programs = match config.backend {
            Backend::NfTables(_) => Ok(()),
            Backend::Iptables(_) => host::iptables::is_installed(),
        };
        let opened = programs.and_then(|()| rules::open());
        let fast = |nft| if config.fast_path { FastPath::require(&nft) } else { Ok(()) };
        opened.and_then(fast).map_err(|error| {
            let Error { msg, details, .. } = Error::from(error);
            Error::new(Code::NotAvailable, msg).details(details)
        })
    }

    fn command(&self, name: &str, arguments: &[OsString]) -> Result<(), Error> {
        match (name, arguments) {
            ("release", []) => rules::release(&rules::open()?, None)?.report(Self::NAME),
            ("release", [network]) => {
                rules::release(&rules::open()?, Some(&network.to_string_lossy()))?.report(Self::NAME);
            }
            ("release", _) => return Err(Error::internal("release takes one network's name, or none")),
            _ => {
                let routes = Netlink::open().and_then(|host| piece::restore_host_routes(&host));
                rules::reapply(&rules::open()?)?.report(Self::NAME);
                routes?;
            }
        }
        Ok(())
    }
}

/// A kernel without nf_tables has no rules of this suite.
fn if_there(opened: sys::Result<Nft>) -> Result<Option<Nft>, Error> {
    match opened {
        Err(error) if rules::is_without_nf_tables(&error) => Ok(None),
        opened => Ok(opened.map(Some)?),
    }
}
