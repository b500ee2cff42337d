//! The host's state for a container's ports, read before any decision.

use std::net::IpAddr;

use cni::{AddResult, Error};
use host::piece::{Kernel, Published};
use host::rules::published;
use host::{Namespace, Owner};
use netlink::Netlink;

use crate::backend::Backend;
use crate::config::Config;
use crate::container;

/// The host's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The link that leads to each container address with ports to publish; `None` without a route.
    pub links: Vec<Option<String>>,
    /// The chain of iptables for the container's ports; `None` if nf_tables publishes them.
    pub chain: Option<String>,
    /// The container's network namespace, for the record.
    pub netns: Option<Namespace>,
}

/// Reads as little of the host's state as necessary.
///
/// # Errors
/// The kernel could not be asked, or the configuration does not fit the container.
pub fn look(config: &Config, owner: &Owner, result: &AddResult, kernel: &mut Kernel) -> Result<Facts, Error> {
    let mut facts = Facts::default();
    for (network, _) in container::published_at(config, result, &owner.ifname)? {
        facts.links.push(link_towards(network.ip(), kernel.host())?);
    }
    if !facts.links.is_empty() {
        facts.chain = chain(config, owner, kernel)?;
    }
    Ok(facts)
}

/// The chain of iptables, if iptables publishes the ports. It may be another one after rules are
/// made again.
///
/// # Errors
/// The kernel could not be asked.
pub fn chain(config: &Config, owner: &Owner, kernel: &mut Kernel) -> Result<Option<String>, Error> {
    match &config.backend {
        Backend::NfTables(_) => Ok(None),
        Backend::Iptables(_) => Ok(Some(published::chain_of(kernel.nft()?, owner)?)),
    }
}

/// Addresses with published ports that this host does not have: the rules apply as soon as it does.
///
/// # Errors
/// The kernel could not be asked.
pub fn absent_addresses<'p>(
    published: impl Iterator<Item = &'p Published>,
    netlink: &Netlink,
) -> Result<Vec<IpAddr>, Error> {
    let mappings = published.flat_map(|published| &published.publication.containers);
    let mappings = mappings.flat_map(|container| &container.mappings);
    let mut asked: Vec<IpAddr> = mappings.filter_map(|mapping| mapping.address).collect();
    asked.sort_unstable();
    asked.dedup();
    let mut absent = Vec::new();
    for ip in asked {
        if !netlink.look_up_route(ip)?.is_some_and(|found| found.local) {
            absent.push(ip);
        }
    }
    Ok(absent)
}

fn link_towards(address: IpAddr, netlink: &Netlink) -> Result<Option<String>, Error> {
    let Some(route) = netlink.look_up_route(address)?.filter(|found| !found.local) else { return Ok(None) };
    Ok(netlink.link_by_index(route.index)?.map(|link| link.name))
}
