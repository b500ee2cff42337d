//! What is near an address that nobody has: the network of its subnet, and the route that leads
//! there.

use std::net::IpAddr;

use netlink::Netlink;

use crate::subnets;

use super::meaning::Meaning;
use super::owner::Finder;

/// A phrase to append, empty when nothing is near.
pub fn near(finder: &Finder<'_>, meanings: &[Meaning]) -> String {
    let address = meanings.iter().find_map(|meaning| match meaning {
        Meaning::Address(address) => Some(*address),
        _ => None,
    });
    let Some(address) = address else { return String::new() };
    let mut near = Vec::new();
    for network in &finder.networks.all {
        for subnet in subnets::of(&network.list).iter().filter(|subnet| subnet.subnet.contains(address)) {
            near.push(format!("it is in {} of network {}", subnet.subnet, network.name()));
        }
    }
    near.extend(route(finder, address));
    if near.is_empty() { String::new() } else { format!("; {}", near.join("; ")) }
}

fn route(finder: &Finder<'_>, address: IpAddr) -> Option<String> {
    let route = Netlink::open().ok()?.look_up_route(address).ok()?;
    let Some(route) = route else { return Some("no route leads there".into()) };
    let link = finder.model.kernel.host_link(route.index)?;
    Some(format!("the route there leads by {}", link.name))
}
