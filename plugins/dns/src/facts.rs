//! Gathers the host's facts about a container's network.

use cni::{AddResult, Error};
use netlink::{Link, Netlink};

use crate::plan::{self, Arrival, Facts};

/// Reads addresses and links of the host, as few as possible.
///
/// # Errors
/// The kernel refused, or the result is inconsistent.
pub fn look(result: &AddResult) -> Result<Facts, Error> {
    let containers = plan::addresses(result)?;
    let gateways = plan::gateways(result);
    let Some(name) = plan::host_link(result).or((!gateways.is_empty()).then_some("")) else {
        return Ok(Facts::default());
    };
    let netlink = Netlink::open()?;
    let mut facts = Facts::default();
    let mut elsewhere = false;
    for gateway in gateways {
        if netlink.look_up_route(gateway)?.is_some_and(|found| found.local) {
            facts.addresses.push(gateway);
        } else {
            elsewhere = true;
        }
    }
    let link = if facts.addresses.is_empty() || elsewhere { netlink.link_by_name(name)? } else { None };
    if let Some(link) = &link {
        of_link(result, link, &netlink, &mut facts)?;
    }
    if facts.addresses.is_empty() {
        return Ok(facts);
    }
    let route = match containers.first() {
        Some(container) => netlink.look_up_route(container.ip())?.filter(|found| !found.local),
        None => None,
    };
    let arrival = match (route, link) {
        (Some(route), Some(link)) if link.index == route.index => Some(link),
        (Some(route), _) => netlink.link_by_index(route.index)?,
        (None, link) => link,
    };
    // A veth leads to one container. A link to many is a bridge, or a link on top of one.
    facts.arrival =
        arrival.map(|link| Arrival { own: link.kind.as_deref() == Some("veth"), link: link.name });
    Ok(facts)
}

/// Finds addresses without a route, such as tentative ones, and addresses of a bridge that are
/// no gateway.
fn of_link(result: &AddResult, link: &Link, netlink: &Netlink, facts: &mut Facts) -> Result<(), Error> {
    let gateways = plan::gateways(result);
    let addresses = netlink.addresses(Some(link.index))?;
    let have = |ip: &std::net::IpAddr| addresses.iter().any(|address| address.net.ip() == *ip);
    let found: Vec<_> = gateways.into_iter().filter(|ip| have(ip) && !facts.addresses.contains(ip)).collect();
    facts.addresses.extend(found);
    if facts.addresses.is_empty() && link.kind.as_deref() == Some("bridge") {
        let near = |ip| result.ips.iter().any(|container| container.address.contains(ip));
        let own = addresses.iter().map(|address| address.net.ip());
        facts.addresses.extend(own.filter(|ip| !plan::is_link_local(*ip) && near(*ip)));
    }
    Ok(())
}

/// Whether an address is this host's.
///
/// # Errors
/// The kernel refused.
pub fn is_here(ip: std::net::IpAddr) -> sys::Result<bool> {
    Ok(Netlink::open()?.look_up_route(ip)?.is_some_and(|found| found.local))
}
