//! `firewall`: lets a container's packets through the host's firewall, and isolates networks from
//! each other. A chained plugin: it never enters the container, and takes its addresses from the
//! previous plugin's result.

mod backend;
mod config;
mod firewalld;
mod iptables;
mod plan;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use attach::owner;
use cni::{AddResult, Code, Error, Plugin, Request, ValidAttachments, Version};
use host::rules;
use nft::Nft;

use crate::config::Backend;
pub use crate::config::Config;

/// The plugin.
pub struct Firewall;

impl Plugin for Firewall {
    const NAME: &'static str = "firewall";
    const ABOUT: &'static str =
        "lets a container's packets through the host's firewall, and isolates networks";
    const VERSIONS: &'static [Version] = &[Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let previous = previous(request)?;
        previous.convertible_to(request.version)?;
        let backend = Backend::of(&config)?;
        let _ = plan::plan(&config, backend, &owner(request), &previous);
        if backend == Backend::Nftables {
            return Err(Error::new(Code::UnsupportedField, "backend \"nftables\" is not supported yet"));
        }
        backend.add(&config, &owner(request), &addresses(&previous))?;
        Ok(previous)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let previous = previous(request)?;
        let drifts = Backend::of(&config)?.drifts(&config, &owner(request), &addresses(&previous))?;
        match drifts.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::internal(drifts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
            }
        }
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let removal = attach::removal(request);
        let nft = if_there(rules::open())?;
        backend::delete(request, nft.as_ref(), &removal, &attach::previous_addresses(request))
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
        let nft = if_there(rules::open())?;
        backend::collect(nft.as_ref(), &request.network, &attach::valid_owners(request, valid))
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let served = Backend::of(&config).and_then(|backend| backend.require(&config));
        served.map_err(|Error { msg, details, .. }| Error::new(Code::NotAvailable, msg).details(details))
    }
}

/// A kernel without nf_tables has no rules of this suite there.
fn if_there(opened: sys::Result<Nft>) -> Result<Option<Nft>, Error> {
    match opened {
        Err(error) if rules::is_without_nf_tables(&error) => Ok(None),
        opened => Ok(opened.map(Some)?),
    }
}

fn previous(request: &Request) -> Result<AddResult, Error> {
    request
        .prev_result()?
        .ok_or_else(|| Error::new(Code::InvalidConfig, "missing prevResult from earlier plugin"))
}

/// All addresses of a result, whatever their interface.
fn addresses(result: &AddResult) -> Vec<IpAddr> {
    result.ips.iter().map(|ip| ip.address.ip()).collect()
}
