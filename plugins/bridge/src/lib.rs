//! `bridge`: connects a container to a Linux bridge of the host by a veth pair, and makes the host
//! its gateway.

mod answer;
mod check;
mod config;
mod plan;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use attach::{conflict, ipam_type, lease, owner, removal};
use cni::{AddResult, Code, Command, Error, Plugin, Request, ValidAttachments};
use host::piece::{self, Kernel, Making, Origin, Place};
use host::{Conflict, rules};
use netlink::{Mac, Netlink};
use sys::NetNs;

use crate::answer::Links;
pub use crate::config::{Config, KEYS};
use crate::plan::Facts;

/// The plugin.
pub struct Bridge;

impl Plugin for Bridge {
    const NAME: &'static str = "bridge";
    const ABOUT: &'static str = "connects a container to a bridge of the host";
    const COMMANDS: &'static [(&'static str, &'static str)] =
        &[("reapply", "restores flushed packet rules of all containers, of every plugin")];

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let mut config = Config::of(request)?;
        if config.ipam.is_none() {
            AddResult::default().convertible_to(request.version)?;
        }
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        let mtu = match config.mtu {
            Some(mtu) => mtu.resolve(kernel.host())?,
            None => None,
        };
        attach::mtu::refuse_for_config(request, mtu)?;
        if config.mac_filter {
            kernel.nft()?;
        }
        config.outside.prepare(&mut kernel)?;
        // The configured name may be an alternative name, which cannot be used in the result or in
        // the path of a parameter.
        if let Some(name) = kernel.bridge_name(&config.bridge)? {
            config.bridge = name;
        }
        let owner = owner(request);
        // This fails if the attachment exists. It runs before the IPAM plugin is called: the
        // roll-back of its ADD would release that attachment's lease.
        let host_veth = piece::choose_host_veth(&kernel, &owner)?;
        let links = Links {
            bridge_mac: Mac::random()?,
            host_veth,
            host_mac: Mac::random()?.of_port(),
            ifname: owner.ifname.clone(),
            container_mac: config.mac.map_or_else(Mac::random, Ok)?,
            netns: request.netns.clone(),
            vlan_mac: None,
        };
        let facts = Facts { owner: &owner, links: &links, mtu, vlan_port: plan::vlan_port(&config) };
        let first = plan::links(&config, &facts);
        let finish = |making: &mut Making<'_>, result| finish(request, &config, &facts, making, result);
        match &config.ipam {
            None => conflict::without_lease(&mut kernel, &first, AddResult::default(), finish),
            Some(ipam) => conflict::with_lease(request, ipam, config.detection, &mut kernel, &first, finish),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let mut config = Config::of(request)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        if let Some(link) = kernel.host().link_by_name(&config.bridge)? {
            config.bridge = link.name;
        }
        if let Some(ipam) = &config.ipam {
            request.delegate(ipam, Command::Check)?;
        }
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
                let host = Netlink::open()?;
                let links = piece::delete_veths_but(&host, &request.network, &owners);
                let links = links.and(piece::delete_dead_host_routes(&host));
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
        let host = Netlink::open()?;
        attach::require(&host, config.features())?;
        let link = host.link_by_name(&config.bridge)?;
        if let Some(link) = link
            && link.kind.as_deref() != Some("bridge")
        {
            let error = Conflict::NotABridge { name: config.bridge };
            return Err(Error::new(Code::NotAvailable, error.to_string()));
        }
        if config.mac_filter {
            rules::open().map_err(|error| Error::new(Code::NotAvailable, format!("{error:#}")))?;
        }
        config.outside.require()?;
        match &config.ipam {
            Some(ipam) => request.delegate(ipam, Command::Status),
            None => Ok(()),
        }
    }

    fn command(&self, _: &str, _: &[OsString]) -> Result<(), Error> {
        let routes = Netlink::open().and_then(|host| piece::restore_host_routes(&host));
        rules::reapply(&rules::open()?)?.report(Self::NAME);
        Ok(routes.map(drop)?)
    }
}

/// The rest of ADD, after the IPAM plugin's.
fn finish(
    request: &Request,
    config: &Config,
    facts: &Facts<'_>,
    making: &mut Making<'_>,
    mut result: AddResult,
) -> Result<AddResult, Error> {
    if config.ipam.is_some() {
        result = answer::complete(config, result)?;
        result.convertible_to(request.version)?;
    }
    attach::mtu::refuse_for(facts.mtu, result.ips.iter().map(|ip| &ip.address))?;
    making.add(&plan::rest(config, facts, &result)).map_err(conflict::to_cni_error)?;
    // These two links may be older than this ADD, with other MAC addresses.
    let mac = |name: &str| making.kernel().link(Place::Host, name).ok().and_then(|link| link.mac);
    let bridge_mac = mac(&config.bridge).unwrap_or(facts.links.bridge_mac);
    let vlan_mac = config.vlan_link().and_then(|name| mac(&name));
    if let Some(announcement) = plan::announcement(config, facts, &result) {
        making.add(&[announcement])?;
    }
    let links = Links { bridge_mac, vlan_mac, ..facts.links.clone() };
    Ok(answer::with_links(result, config, &links))
}

/// Deletes the veth pair, and the host's routes to it.
fn delete_link(request: &Request) -> Result<(), Error> {
    let host = Netlink::open()?;
    delete_veth(request, &host)?;
    Ok(piece::delete_host_routes(&host, &owner(request))?)
}

/// Deletes the veth pair: finds it by its owner, on the host. The pair of an ADD of the reference
/// is found in the container.
fn delete_veth(request: &Request, host: &Netlink) -> Result<(), Error> {
    let removal = removal(request);
    if piece::delete_veth(host, &removal)? {
        return Ok(());
    }
    match NetNs::open_if_there(&request.netns)? {
        Some(netns) => {
            let bridge = config::bridge_to_leave(request);
            Ok(piece::delete_container_veth(host, &netns, &removal, Origin::Bridge(&bridge))?)
        }
        None => Ok(()),
    }
}
