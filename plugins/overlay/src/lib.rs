//! `overlay`: connects a container to a network of many hosts, by a bridge and a VXLAN device of
//! this host. Who the other hosts and their containers are, the agent knows: it is told of each
//! attachment by its record.

mod answer;
mod cluster_side;
mod config;
mod exec;
mod plan;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use attach::{conflict, ipam_type, lease, owner, removal};
use cni::{AddResult, Code, Command, Error, Plugin, Request, ValidAttachments, Version};
use host::piece::{self, Kernel, Making, overlay_bridge};
use host::rules;
use netlink::{Mac, Netlink};
use sys::{IpFamily, NetNs};

use crate::answer::Links;
use crate::cluster_side::{Cluster, Known};
pub use crate::config::{Config, KEYS};
use crate::plan::Facts;

/// The plugin.
pub struct Overlay;

impl Plugin for Overlay {
    const NAME: &'static str = "overlay";
    const ABOUT: &'static str = "connects a container to a network of many hosts";
    const COMMANDS: &'static [(&'static str, &'static str)] = &[
        ("serve", "runs the agent of this host"),
        ("status", "shows this host's part in the cluster"),
        ("ls", "lists the cluster's containers"),
        ("network", "lists or removes networks of the cluster"),
        ("host", "lists or removes hosts of the cluster"),
        ("leave", "takes this host out of the cluster"),
    ];

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let cluster = Cluster::of(request, &config)?;
        let netns = NetNs::open(&request.netns)?;
        let mut kernel = Kernel::open(netns)?;
        kernel.nft()?;
        let owner = owner(request);
        // This fails if the attachment exists. It runs before the IPAM plugin is called: the
        // roll-back of its ADD would release that attachment's lease.
        let host_veth = piece::choose_host_veth(&kernel, &owner)?;
        let known = cluster.network(&request.network, &config)?;
        let local = cluster.source(kernel.host(), &request.network)?;
        warn_of_small_link(kernel.host(), local, &known)?;
        let mut links = links(request, &known);
        links.host_veth = host_veth;
        links.host_mac = Mac::random()?.of_port();
        links.container_mac = config.mac.map_or_else(Mac::random, Ok)?;
        // Another IPAM plugin may need the link; ours gives the address that the MAC follows from.
        let first = match config.is_of_cluster() {
            true => Vec::new(),
            false => plan::links(&config, &facts(&owner, &links, &known, local, &cluster)),
        };
        let finish = |making: &mut Making<'_>, result: AddResult| {
            let result = answer::complete(&config, &known.net, result)?;
            result.convertible_to(request.version)?;
            let mut links = links.clone();
            if config.is_of_cluster() {
                let first = result.ips.first().map(|ip| cluster_mac(ip.address.ip()));
                links.container_mac = config.mac.or(first).unwrap_or(links.container_mac);
            }
            let facts = facts(&owner, &links, &known, local, &cluster);
            if config.is_of_cluster() {
                making.add(&plan::links(&config, &facts)).map_err(conflict::to_cni_error)?;
            }
            making.add(&plan::rest(&config, &facts, &result)).map_err(conflict::to_cni_error)?;
            making.add(&[plan::announcement(&facts, &result)])?;
            let published = cluster.publish(request, &config, &links, &result);
            if published.is_err() {
                // The error to report is that one.
                let _ = cluster_side::withdraw(request, &config.cluster);
            }
            let says_mtu = request.version >= Version::V1_1_0;
            published.map(|()| answer::with_links(result, &config, &links, says_mtu))
        };
        conflict::with_lease(request, &config.ipam, None, &mut kernel, &first, finish)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let cluster = Cluster::of(request, &config)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        request.delegate(&config.ipam, Command::Check)?;
        let result = request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
        let known = cluster.network(&request.network, &config)?;
        let owner = owner(request);
        let mut links = links(request, &known);
        let host_veth = attach::host_veth(&owner, &result, kernel.host(), &[&links.bridge]);
        let host_veth = host_veth.ok_or_else(|| {
            Error::internal(format!("CNI veth created for bridge {} was not found", links.bridge))
        })?;
        links.host_veth = host_veth.name.clone();
        links.host_mac = attach::previous_mac(host_veth)?;
        links.container_mac = attach::previous_mac(attach::container_link(request, &result)?)?;
        let local = cluster.wanted_source()?;
        let plan = plan::plan(&config, &facts(&owner, &links, &known, local, &cluster), &result);
        let drifts = attach::drifts("overlay", &plan, &mut kernel, &owner)?;
        let mut all: Vec<String> = drifts.iter().map(ToString::to_string).collect();
        all.extend(cluster.check(request, &links, &result)?);
        match all.is_empty() {
            true => Ok(()),
            false => Err(Error::internal(format!(
                "attachment {} of container {} has drifted: {}",
                owner.ifname,
                owner.container_id,
                all.join("; ")
            ))),
        }
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let ipam = ipam_type(request)?;
        // First: nobody sends to it any more.
        let record = cluster_side::withdraw(request, &config::settings_of(request));
        // The socket of the rules stays open to the end, so that the kernel removes rules and link
        // at the same time.
        let rules = rules::delete(&removal(request), &attach::previous_addresses(request));
        let lease = lease::release(request, ipam.as_deref(), || delete_links(request));
        // A failure is reported, so that DEL is tried again, but does not stop the other steps.
        lease.and(rules.map(drop).map_err(Error::from)).and(record)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ipam = ipam_type(request)?;
        let links = match request.valid_attachments()? {
            ValidAttachments::NotGiven => Ok(()),
            ValidAttachments::Only(valid) => gc(request, &attach::valid_owners(request, valid)),
        };
        let leases = match ipam {
            Some(ipam) => request.delegate(&ipam, Command::Gc),
            None => Ok(()),
        };
        links.and(leases)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let cluster = Cluster::of(request, &config)?;
        attach::require(&Netlink::open()?, Config::features())?;
        config.outside.require()?;
        let unavailable = |error| Error::new(Code::NotAvailable, format!("{error:#}"));
        rules::open().and_then(|nft| rules::require_own(&nft)).map_err(unavailable)?;
        cluster.status()?;
        request.delegate(&config.ipam, Command::Status)
    }

    fn command(&self, name: &str, arguments: &[OsString]) -> Result<(), Error> {
        match exec::agent(name, arguments)? {}
    }
}

/// The links of an attachment, as far as they follow from the network: the host's end and the MAC
/// addresses of the pair are the caller's to set.
fn links(request: &Request, known: &Known) -> Links {
    let own = known.own.first().copied();
    let bridge_mac = own.map(cluster_mac).unwrap_or(Mac([0; 6]));
    Links {
        bridge: overlay_bridge(&request.network),
        bridge_mac,
        host_veth: String::new(),
        host_mac: bridge_mac,
        ifname: request.ifname.clone(),
        container_mac: bridge_mac,
        netns: request.netns.clone(),
        mtu: known.net.mtu.unwrap_or_default(),
    }
}

/// The network's MTU is one for all hosts. A host whose link carries less joins all the same.
fn warn_of_small_link(host: &Netlink, local: std::net::IpAddr, known: &Known) -> Result<(), Error> {
    let addresses = host.addresses(None)?;
    let Some(address) = addresses.iter().find(|address| address.net.ip() == local) else { return Ok(()) };
    let Some(link) = host.link_by_index(address.index)? else { return Ok(()) };
    let carried = ::cluster::net::mtu_of_underlay(link.mtu, IpFamily::of(local), known.net.encrypted);
    let mtu = known.net.mtu.unwrap_or_default();
    if carried < mtu {
        eprintln!(
            "overlay: the network's MTU is {mtu}, and {} of this host carries {carried} at most: longer packets to \
             other hosts are lost",
            link.name
        );
    }
    Ok(())
}

fn facts<'a>(
    owner: &'a host::Owner,
    links: &'a Links,
    known: &'a Known,
    local: std::net::IpAddr,
    cluster: &Cluster,
) -> Facts<'a> {
    Facts { owner, links, net: &known.net, own: &known.own, local, port: cluster.port() }
}

/// The MAC of whoever has this first address.
fn cluster_mac(first: std::net::IpAddr) -> Mac {
    ::cluster::mac::of_address(first)
}

/// Deletes the veth pair, and the network's links with its last attachment.
fn delete_links(request: &Request) -> Result<(), Error> {
    let host = Netlink::open()?;
    let veth = piece::delete_veth(&host, &removal(request));
    let links = piece::release_overlay(&host, &request.network);
    Ok(veth.map(drop).and(links)?)
}

fn gc(request: &Request, valid: &[host::Owner]) -> Result<(), Error> {
    let names: Vec<String> =
        valid.iter().map(|owner| format!("{}@{}", owner.container_id, owner.ifname)).collect();
    let records = cluster_side::withdraw_but(request, &config::settings_of(request), &names);
    let rules = rules::delete_but(&request.network, valid);
    let host = Netlink::open()?;
    let links = piece::delete_veths_but(&host, &request.network, valid);
    let links = links.and(piece::release_overlay(&host, &request.network));
    records.and(links.and(rules.map(drop)).map_err(Error::from))
}
