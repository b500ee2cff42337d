//! `firewall`: lets a container's packets through the host's firewall, and isolates networks from
//! each other. A chained plugin: it never enters the container, and takes its addresses from the
//! previous plugin's result.

mod backend;
mod check;
mod config;
mod facts;
mod firewalld;
mod iptables;
mod plan;
mod policy;
#[cfg(test)]
mod tests;

use attach::owner;
use cni::{AddResult, Code, Error, Plugin, Request, ValidAttachments, Version};
use host::Isolation;
use host::piece::{Kernel, Making};
use host::rules::{self, firewall};
use nft::Nft;

use crate::config::Backend;
pub use crate::config::{Config, KEYS};
use crate::plan::addresses;

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
        let owner = owner(request);
        let mut kernel = Kernel::open_host()?;
        let facts = facts::look(&owner, &previous, &mut kernel)?;
        let backend = Backend::of(&config, facts.has_nf_tables)?;
        let pieces = plan::plan(&config, backend, &owner, &previous, &facts)?;
        let making = Making::begin(&mut kernel, &pieces)?;
        backend.add(&config, &owner, &addresses(&previous))?;
        making.keep();
        Ok(previous)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        check::check(&config, &owner(request), &previous(request)?)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let removal = attach::removal(request);
        // One socket for both, open to the end: see `nft`.
        let nft = if_there(rules::open())?;
        let withdrawn = firewall::withdraw(nft.as_ref(), &removal);
        let addresses = attach::previous_addresses(request);
        let deleted = backend::delete(request, nft.as_ref(), &removal, &addresses);
        // A failure is reported, so that DEL is tried again, but does not stop the other step.
        deleted.and(withdrawn.map_err(Error::from))
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
        let nft = if_there(rules::open())?;
        let owners = attach::valid_owners(request, valid);
        let withdrawn = firewall::withdraw_all_but(nft.as_ref(), &request.network, &owners);
        backend::collect(nft.as_ref(), &request.network, &owners).and(withdrawn.map_err(Error::from))
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let nf_tables = rules::open();
        let has_nf_tables = !matches!(&nf_tables, Err(error) if rules::is_without_nf_tables(error));
        let served = Backend::of(&config, has_nf_tables).and_then(|backend| {
            let has_policy = config.isolation != Isolation::Open || !config.policy.is_empty();
            if backend == Backend::Nftables || has_policy {
                nf_tables?;
            }
            backend.require(&config)
        });
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
    request.prev_result()?.ok_or_else(|| Error::invalid_config("missing prevResult from earlier plugin"))
}
