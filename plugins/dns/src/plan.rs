//! Plans the records, from the configuration and the previous plugin's result.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use cni::{AddResult, Error, Request};
use ipnetwork::IpNetwork;

use crate::config::Config;
use crate::record::{Attachment, Key, Mode, Network, VERSION};

/// The link by which a container's queries arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its name.
    pub link: String,
    /// Whether it leads to this container only.
    pub own: bool,
}

/// The host's facts about the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Addresses of this host that the container can reach.
    pub addresses: Vec<IpAddr>,
    /// The link by which they are reached.
    pub arrival: Option<Arrival>,
}

/// The records to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The network.
    pub network: Network,
    /// The attachment. Its order is set later.
    pub attachment: Attachment,
}

/// The container's addresses in a result, with prefix lengths: those on interfaces in the
/// container, and those without an interface.
///
/// # Errors
/// There are none, or the result is inconsistent.
pub fn addresses(result: &AddResult) -> Result<Vec<IpNetwork>, Error> {
    let mut addresses = Vec::new();
    for ip in &result.ips {
        let of_container = match ip.interface {
            None => true,
            Some(index) => {
                let link = result.interfaces.get(index).ok_or_else(|| {
                    Error::invalid_config(format!(
                        "prevResult: address {} is on interface {index}, but there are {}",
                        ip.address,
                        result.interfaces.len()
                    ))
                })?;
                link.sandbox.as_ref().is_some_and(|path| !path.is_empty())
            }
        };
        if of_container {
            addresses.push(ip.address);
        }
    }
    if addresses.is_empty() {
        return Err(Error::invalid_config("prevResult has no address of the container"));
    }
    Ok(addresses)
}

/// Gateways in a result that may be addresses of this host. Not link-local ones: resolv.conf
/// would need to name a link.
pub fn gateways(result: &AddResult) -> Vec<IpAddr> {
    let mut gateways: Vec<IpAddr> = Vec::new();
    // macvlan and ipvlan report no link of the host. Their gateway may be the host's own
    // address, but a child cannot reach its parent.
    let all_inside =
        result.interfaces.iter().all(|link| link.sandbox.as_ref().is_some_and(|path| !path.is_empty()));
    if all_inside && !result.interfaces.is_empty() {
        return gateways;
    }
    for gateway in result.ips.iter().filter_map(|ip| ip.gateway) {
        if !is_link_local(gateway) && !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    gateways
}

/// The first link of the host in a result.
pub fn host_link(result: &AddResult) -> Option<&str> {
    let on_host = |link: &&cni::Interface| link.sandbox.as_ref().is_none_or(String::is_empty);
    result.interfaces.iter().find(on_host).map(|link| link.name.as_str())
}

/// Whether an address is link-local.
pub fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Plans the records of an attachment.
///
/// # Errors
/// The result has no address of the container, or the configured mode is impossible.
pub fn plan(config: &Config, request: &Request, result: &AddResult, facts: &Facts) -> Result<Plan, Error> {
    let addresses = addresses(result)?;
    let mode = match config.mode {
        Some(Mode::Gateway) if facts.addresses.is_empty() => {
            return Err(Error::invalid_config(
                "mode gateway: this host has no address that the container can reach",
            )
            .details(
                "prevResult's gateways are not addresses of this host; leave mode out, or set it to netns",
            ));
        }
        Some(mode) => mode,
        None if facts.addresses.is_empty() => Mode::Netns,
        None => Mode::Gateway,
    };
    let gateway = mode == Mode::Gateway;
    let mut subnets: Vec<IpNetwork> = Vec::new();
    for address in &addresses {
        // A prefix length of a network is valid.
        let subnet = IpNetwork::new(address.network(), address.prefix()).unwrap_or(*address);
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
    }
    let arrival = facts.arrival.as_ref().filter(|_| gateway);
    let link = |own: bool| arrival.filter(|arrival| arrival.own == own).map(|arrival| arrival.link.clone());
    let network = Network {
        v: VERSION,
        name: request.network.clone(),
        mode,
        listen: if gateway { facts.addresses.clone() } else { Vec::new() },
        port: config.port,
        subnets,
        ingress: link(false).into_iter().collect(),
        domain: config.domain.clone(),
        upstreams: config.upstreams.clone(),
        internal: config.internal,
        ttl: config.ttl,
        cache: config.cache,
        forward_single_label: config.forward_single_label,
        cross_network: config.cross_network,
        from_dnsname: false,
    };
    let attachment = Attachment {
        v: VERSION,
        network: request.network.clone(),
        key: key(request),
        names: config.names.clone(),
        ips: addresses.iter().map(IpNetwork::ip).collect(),
        upstreams: config.own_upstreams.clone(),
        ingress: link(true),
        netns: (!gateway).then(|| request.netns.clone()),
        namespace: None,
        order: 0,
    };
    Ok(Plan { network, attachment })
}

/// The identity of the request's attachment.
pub fn key(request: &Request) -> Key {
    Key { container: request.container_id.clone(), ifname: request.ifname.clone() }
}

impl Plan {
    /// The network's record, merged with a `former` one: listening addresses that are still
    /// the host's, subnets and links are kept, because other attachments need them.
    pub fn merged_with(&self, former: Option<&Network>, is_here: impl Fn(IpAddr) -> bool) -> Network {
        let mut network = self.network.clone();
        let Some(former) = former.filter(|former| former.mode == network.mode) else { return network };
        let ours = network.listen.clone();
        merge(&mut network.listen, former.listen.iter().filter(|ip| ours.contains(ip) || is_here(**ip)));
        merge(&mut network.subnets, &former.subnets);
        merge(&mut network.ingress, &former.ingress);
        network.from_dnsname = former.from_dnsname;
        network
    }
}

/// Merges two lists. Former elements keep their order, so that an unchanged record stays
/// identical.
fn merge<'a, T: Clone + PartialEq + 'a>(ours: &mut Vec<T>, former: impl IntoIterator<Item = &'a T>) {
    let mut all: Vec<T> = former.into_iter().cloned().collect();
    for one in ours.drain(..) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    *ours = all;
}

/// The result with our name servers and domain.
pub fn with_name_servers(config: &Config, mut result: AddResult, servers: &[IpAddr]) -> AddResult {
    let ours: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let former = std::mem::take(&mut result.dns.nameservers);
    let former = former.into_iter().filter(|server| config.keep_nameservers && !ours.contains(server));
    result.dns.nameservers = ours.iter().cloned().chain(former).collect();
    if let Some(domain) = &config.domain
        && !result.dns.search.iter().any(|known| known.eq_ignore_ascii_case(domain))
    {
        result.dns.search.push(domain.clone());
    }
    result
}
