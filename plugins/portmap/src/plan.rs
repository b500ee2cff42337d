//! What must exist, from the configuration and the previous plugin's result.

use std::net::IpAddr;

use cni::{AddResult, Code, Error};
use host::Owner;
use host::ports::{Conditions, Container, Publication};
use ipnetwork::IpNetwork;
use netlink::Netlink;

use crate::backend::Backend;
use crate::config::{Config, HostIp};

/// The container's addresses: the first of each family that is on its interface, or of which no interface is told.
pub fn addresses(result: &AddResult, ifname: &str) -> Vec<IpAddr> {
    networks(result, ifname).iter().map(IpNetwork::ip).collect()
}

/// The same, with the lengths of their networks.
pub fn networks(result: &AddResult, ifname: &str) -> Vec<IpNetwork> {
    let qualifies = |interface: Option<usize>| match interface.and_then(|index| result.interfaces.get(index))
    {
        None => true,
        Some(link) => link.name == ifname && link.sandbox.as_ref().is_some_and(|path| !path.is_empty()),
    };
    let first = |v4: bool| {
        let mut ips = result.ips.iter().filter(|ip| qualifies(ip.interface)).map(|ip| ip.address);
        ips.find(|ip| ip.is_ipv4() == v4)
    };
    [true, false].into_iter().filter_map(first).collect()
}

/// The publication of an attachment; containers of it that have nothing to publish are left out.
///
/// # Errors
/// An address of the host is of a family that the container has no address of, or the kernel could not be asked.
pub fn plan(
    config: &Config,
    owner: Owner,
    result: &AddResult,
    netlink: &Netlink,
) -> Result<Publication, Error> {
    let addresses = addresses(result, &owner.ifname);
    families_fit(config, &addresses)?;
    let mut containers = Vec::new();
    for address in addresses {
        let mappings = config.mappings(address.is_ipv4())?;
        if !mappings.is_empty() {
            let link = link_towards(address, netlink)?;
            let conditions = match &config.backend {
                Backend::NfTables([v4, v6]) => if address.is_ipv4() { v4 } else { v6 }.clone(),
                Backend::Iptables(_) => Conditions::default(),
            };
            containers.push(Container { address, link, mappings, masquerade: config.masquerade, conditions });
        }
    }
    Ok(Publication { owner, containers, chain: None, chosen: Vec::new(), netns: None })
}

/// A port at an address of the host that cannot lead to the container would be silently closed.
pub fn families_fit(config: &Config, addresses: &[IpAddr]) -> Result<(), Error> {
    for wanted in &config.wanted {
        if let HostIp::This(ip) = wanted.at
            && !addresses.is_empty()
            && !addresses.iter().any(|address| address.is_ipv4() == ip.is_ipv4())
        {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(Error::new(
                Code::InvalidConfig,
                format!("hostIP {ip}: the container has no {family} address that it could lead to"),
            ));
        }
    }
    Ok(())
}

/// Addresses that ports are published at and that this host does not have: the rules are looked up once it has them.
///
/// # Errors
/// The kernel could not be asked.
pub fn absent_addresses(publication: &Publication, netlink: &Netlink) -> Result<Vec<IpAddr>, Error> {
    let mappings = publication.containers.iter().flat_map(|container| &container.mappings);
    let mut asked: Vec<IpAddr> = mappings.filter_map(|mapping| mapping.address).collect();
    asked.sort_unstable();
    asked.dedup();
    let mut absent = Vec::new();
    for ip in asked {
        if !netlink.towards(ip)?.is_some_and(|towards| towards.local) {
            absent.push(ip);
        }
    }
    Ok(absent)
}

fn link_towards(address: IpAddr, netlink: &Netlink) -> Result<Option<String>, Error> {
    let Some(towards) = netlink.towards(address)?.filter(|towards| !towards.local) else { return Ok(None) };
    Ok(netlink.link_by_index(towards.index)?.map(|link| link.name))
}
