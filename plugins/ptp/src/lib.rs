//! `ptp`: connects a container to the host by a veth pair of its own, over which the host routes.

mod answer;
mod check;
mod config;
mod plan;
#[cfg(test)]
mod tests;

use attach::{conflict, ipam_type, lease, owner, removal};
use cni::{AddResult, Code, Command, Error, Plugin, Request, ValidAttachments};
use host::piece::{self, Feature, Kernel, Making, Origin};
use host::rules;
use netlink::{Mac, Netlink};
use sys::NetNs;

use crate::answer::Links;
pub use crate::config::{Config, KEYS};
use crate::plan::Facts;

/// The plugin.
pub struct Ptp;

impl Plugin for Ptp {
    const NAME: &'static str = "ptp";
    const ABOUT: &'static str = "connects a container to the host by a routed veth pair";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        let mtu = match config.mtu {
            Some(mtu) => mtu.resolve(kernel.host())?,
            None => None,
        };
        attach::mtu::refuse_for_config(request, mtu)?;
        if config.source_filter {
            kernel.nft()?;
        }
        config.outside.prepare(&mut kernel)?;
        let owner = owner(request);
        // This fails if the attachment exists. It runs before the IPAM plugin is called: the
        // roll-back of its ADD would release that attachment's lease.
        let host_veth = piece::choose_host_veth(&kernel, &owner)?;
        let links = Links {
            host_veth,
            host_mac: Mac::random()?,
            container_mac: config.mac.map_or_else(Mac::random, Ok)?,
            netns: request.netns.clone(),
        };
        let facts = Facts { owner: &owner, links: &links, mtu };
        let finish = |making: &mut Making<'_>, result| finish(request, &config, &facts, making, result);
        conflict::with_lease(request, &config.ipam, None, &mut kernel, &[plan::link(&facts)], finish)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        request.delegate(&config.ipam, Command::Check)?;
        check::check(request, &config, &mut kernel, &owner(request))
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let ipam = ipam_type(request)?;
        // The socket of the rules stays open to the end, so that the kernel removes rules and link
        // at the same time.
        let rules = rules::delete(&removal(request), &attach::previous_addresses(request));
        let lease = lease::release(request, ipam.as_deref(), || delete_link(request));
        // A failure is reported, so that DEL is tried again, but does not stop the other steps.
        lease.and(rules.map(drop).map_err(Error::from))
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ipam = ipam_type(request)?;
        let links = match request.valid_attachments()? {
            ValidAttachments::NotGiven => Ok(()),
            ValidAttachments::Only(valid) => {
                let owners = attach::valid_owners(request, valid);
                let rules = rules::delete_but(&request.network, &owners);
                let links = piece::delete_veths_but(&Netlink::open()?, &request.network, &owners);
                links.and(rules.map(drop)).map_err(Error::from)
            }
        };
        let leases = match ipam {
            Some(ipam) => request.delegate(&ipam, Command::Gc),
            None => Ok(()),
        };
        links.and(leases)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        attach::require(&Netlink::open()?, &[Feature::Links("veth")])?;
        if config.source_filter {
            rules::open().map_err(|error| Error::new(Code::NotAvailable, format!("{error:#}")))?;
        }
        config.outside.require()?;
        request.delegate(&config.ipam, Command::Status)
    }
}

/// The rest of ADD, after the IPAM plugin's.
fn finish(
    request: &Request,
    config: &Config,
    facts: &Facts<'_>,
    making: &mut Making<'_>,
    result: AddResult,
) -> Result<AddResult, Error> {
    let result = answer::complete(result)?;
    result.convertible_to(request.version)?;
    attach::mtu::refuse_for(facts.mtu, result.ips.iter().map(|ip| &ip.address))?;
    making.add(&plan::rest(config, facts, &result))?;
    Ok(answer::with_links(result, config, &request.ifname, facts.links))
}

/// Deletes the veth pair, and with it the host's routes: finds it by its owner, on the host. The
/// pair of an ADD of the reference is found in the container.
fn delete_link(request: &Request) -> Result<(), Error> {
    let host = Netlink::open()?;
    let removal = removal(request);
    if piece::delete_veth(&host, &removal)? {
        return Ok(());
    }
    match NetNs::open_if_there(&request.netns)? {
        Some(netns) => {
            let subnets = attach::ipam_gateways(request).unwrap_or_default();
            Ok(piece::delete_container_veth(&host, &netns, &removal, Origin::Routed(&subnets))?)
        }
        None => Ok(()),
    }
}
