//! `portmap`: publishes ports of a container at the host's addresses, by packet rules of nf_tables, or of iptables where
//! that is asked for. A chained plugin:
//! it never enters the container, whose address it takes from the previous plugin's result.

mod backend;
mod check;
mod config;
mod free;
mod hairpin;
mod iptables;
mod plan;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::IpAddr;

use attach::owner;
use cni::{AddResult, Code, Error, Plugin, Request, ValidAttachments};
use host::ports::Masquerade;
use host::rules::{self, published};
use host::{Namespace, Owner, piece};
use netlink::Netlink;
use nft::Nft;

use crate::backend::Backend;
pub use crate::config::Config;

/// The most differences that an error of CHECK names: a range may be thousands.
const DRIFTS_MAX: usize = 20;

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
            Error::new(Code::InvalidConfig, "must be called as chained plugin")
                .details("there is no prevResult")
        })?;
        previous.convertible_to(request.version)?;
        if config.wanted.is_empty() {
            return Ok(previous);
        }
        let netlink = Netlink::open()?;
        let owner = owner(request);
        let mut socket = None;
        for attempt in 1..=free::ATTEMPTS {
            // A repeated ADD keeps what it chose; what somebody else has taken is chosen anew.
            let (settled, chosen) = match free::recorded(&config, &owner) {
                Ok(recorded) if attempt == 1 => recorded,
                _ => free::chosen(&config, &owner, nft(&mut socket)?)?,
            };
            let mut publication = plan::plan(&settled, owner.clone(), &previous, &netlink)?;
            if publication.containers.is_empty() {
                break;
            }
            if attempt == 1 {
                log_absent(&plan::absent_addresses(&publication, &netlink)?);
            }
            publication.chosen = chosen;
            publication.netns = Namespace::at(&request.netns);
            let nft = nft(&mut socket)?;
            // Before the ports: where it fails, nothing is published.
            if settled.masquerade != Masquerade::Nobody {
                hairpin::allow(&previous, &netlink)?;
            }
            let published = match &settled.backend {
                Backend::NfTables(_) => published::publish(nft, &publication),
                Backend::Iptables(options) => {
                    let ports = iptables::ports(nft, &settled, options, &mut publication, &previous)?;
                    iptables::publish(nft, &publication, &ports)
                }
            };
            let is_last = publication.chosen.is_empty() || attempt == free::ATTEMPTS;
            match published {
                Err(published::Error::Taken { .. }) if !is_last => {}
                published => {
                    log_flows(published.map_err(refusal)?);
                    free::log(&owner, &publication.chosen);
                    break;
                }
            }
        }
        Ok(previous)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let previous = request
            .prev_result()?
            .ok_or_else(|| Error::new(Code::InvalidConfig, "Required prevResult missing"))?;
        if config.wanted.is_empty() {
            return Ok(());
        }
        let owner = owner(request);
        let (config, _) = free::recorded(&config, &owner)?;
        let mut publication = plan::plan(&config, owner, &previous, &Netlink::open()?)?;
        if publication.containers.is_empty() {
            return Ok(());
        }
        let drifts = check::drifts(&config, &mut publication, &previous)?;
        if drifts.is_empty() {
            return Ok(());
        }
        let mut told: Vec<String> = drifts.iter().take(DRIFTS_MAX).map(ToString::to_string).collect();
        if drifts.len() > DRIFTS_MAX {
            told.push(format!("and {} more", drifts.len() - DRIFTS_MAX));
        }
        Err(Error::internal(format!(
            "published ports of container {} ({}) have drifted: {}",
            request.container_id,
            request.ifname,
            told.join("; ")
        )))
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let removal = attach::removal(request);
        let owner = removal.owner();
        let mut chains = published::chains_of(owner).to_vec();
        // Both back ends: what ADD was told may be another thing than what is told now.
        let Some(nft) = if_there(rules::open())? else {
            return Ok(host::iptables::withdraw_from_old_tables(&chains, &|_| Ok(false))?);
        };
        let withdrawn = published::withdraw(&nft, &removal, config::hint(request).as_ref())?;
        log_flows(withdrawn.flows);
        chains.extend(withdrawn.chains);
        published::withdraw_of_reference(&nft, owner)?;
        let is_in_use = |chain: &str| published::is_in_use(&nft, owner, chain);
        host::iptables::withdraw_from_old_tables(&chains, &is_in_use)?;
        nft.close_in_background();
        Ok(())
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ValidAttachments::These(valid) = request.valid_attachments()? else { return Ok(()) };
        let Some(nft) = if_there(rules::open())? else { return Ok(()) };
        let owners = valid.into_iter().map(|valid| Owner {
            network: request.network.clone(),
            container_id: valid.container_id,
            ifname: valid.ifname,
        });
        let owners: Vec<Owner> = owners.collect();
        let withdrawn = published::withdraw_all_but(&nft, &request.network, &owners)?;
        log_flows(withdrawn.flows);
        nft.close_in_background();
        Ok(host::iptables::withdraw_from_old_tables(&withdrawn.chains, &|_| Ok(false))?)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let programs = match config.backend {
            Backend::NfTables(_) => Ok(()),
            Backend::Iptables(_) => host::iptables::is_installed(),
        };
        programs.and_then(|()| rules::open()).map(drop).map_err(|error| {
            let Error { msg, details, .. } = Error::from(error);
            Error::new(Code::NotAvailable, msg).details(details)
        })
    }

    fn command(&self, name: &str, arguments: &[OsString]) -> Result<(), Error> {
        match (name, arguments) {
            ("release", []) => rules::release(&rules::open()?, None)?.tell(Self::NAME),
            ("release", [network]) => {
                rules::release(&rules::open()?, Some(&network.to_string_lossy()))?.tell(Self::NAME);
            }
            ("release", _) => return Err(Error::internal("release takes one network's name, or none")),
            _ => {
                let routes = Netlink::open().and_then(|host| piece::restore_host_routes(&host));
                rules::reapply(&rules::open()?)?.tell(Self::NAME);
                routes?;
            }
        }
        Ok(())
    }
}

/// The socket for packet rules, opened when first asked for.
fn nft(socket: &mut Option<Nft>) -> Result<&Nft, Error> {
    let nft = match socket.take() {
        Some(nft) => nft,
        None => rules::open()?,
    };
    Ok(socket.insert(nft))
}

/// A kernel without nf_tables holds no rules of ours.
fn if_there(opened: sys::Result<Nft>) -> Result<Option<Nft>, Error> {
    match opened {
        Err(error) if rules::is_without_nf_tables(&error) => Ok(None),
        opened => Ok(opened.map(Some)?),
    }
}

fn refusal(error: published::Error) -> Error {
    match error {
        published::Error::Kernel(error) => error.into(),
        published::Error::NoneFree(_) => Error::internal(error.to_string()),
        published::Error::TooMany(_) | published::Error::TooManyMoved(_) => Error::new(Code::InvalidConfig, error.to_string()),
        published::Error::AddressInUse { .. } => Error::internal(error.to_string()),
        published::Error::Taken { .. } => Error::internal(error.to_string())
            .details("choose another host port, or delete that container; if it is gone, its DEL or a GC frees the port"),
    }
}

/// An address that comes later (VRRP, a cloud's floating address) is published all the same.
fn log_absent(addresses: &[IpAddr]) {
    for ip in addresses {
        eprintln!(
            "portmap: hostIP {ip} is not an address of this host: its ports are published as soon as it is"
        );
    }
}

/// That flows could not be forgotten is no failure of the ports (the reference's view too): it is said in the log.
fn log_flows(forgotten: sys::Result<usize>) {
    if let Err(error) = forgotten {
        eprintln!("portmap: UDP clients may have to begin anew: {error:#}");
    }
}
