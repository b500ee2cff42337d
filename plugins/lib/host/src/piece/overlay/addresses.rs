//! The host's addresses on a network's bridge: the gateways, which are the same on every host, and
//! the host's own ones, which nobody else has.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{Address, Link, NewAddress, Route};
use nix::errno::Errno;
use sys::{Error, Result};

use super::overlay_bridge;
use crate::Drift;
use crate::piece::{Kernel, Part, Place, Undo, sysctl};

/// The addresses of a network's bridge. What the host itself sends into the network has its own
/// address as its source: replies to a gateway's address would go to the replier's own host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayAddresses {
    /// The network's name.
    pub network: String,
    /// The host's own addresses, with the prefix lengths of their subnets.
    pub own: Vec<IpNetwork>,
    /// The gateways, likewise.
    pub gateways: Vec<IpNetwork>,
}

/// The metric of an IPv6 route with the host's own address as its source: lower than that of the
/// kernel's route (IP6_RT_PRIO_ADDRCONF, 256).
const PREFERRED: u32 = 128;
/// RFC 4291, section 2.5.6, in bits.
const LINK_LOCAL_PREFIX: u8 = 64;

impl OverlayAddresses {
    /// All addresses, in the order in which they are added: the kernel takes the first one of a
    /// subnet as the source of what it sends there.
    fn wanted(&self) -> impl Iterator<Item = &IpNetwork> {
        self.own.iter().chain(&self.gateways)
    }

    /// Addresses that must go before others can be added: those of ours that are not wanted any
    /// more, and a gateway that came before the host's own address.
    fn in_the_way<'a>(&self, have: &'a [Address]) -> Vec<&'a Address> {
        let is_there = |net: &IpNetwork| have.iter().any(|address| address.net == *net);
        let early = |address: &Address| {
            self.gateways.contains(&address.net)
                && self.own.iter().any(|own| own.is_ipv4() && address.net.is_ipv4() && !is_there(own))
        };
        let stale = |address: &Address| {
            address.marked && address.scope == 0 && !self.wanted().any(|wanted| *wanted == address.net)
        };
        have.iter().filter(|address| early(address) || stale(address)).collect()
    }

    fn routes(&self, index: u32) -> impl Iterator<Item = Route> {
        self.own.iter().filter(|own| own.is_ipv6()).filter_map(move |own| {
            let dst = IpNetwork::new(own.network(), own.prefix()).ok()?;
            let (source, priority) = (Some(own.ip()), Some(PREFERRED));
            Some(Route { index: Some(index), source, priority, ..Route::on_link(dst) })
        })
    }
}

impl Part for OverlayAddresses {
    // They go with the bridge.
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let link = kernel.link(Place::Host, &overlay_bridge(&self.network))?;
        let failed = |error: Error| error.within("failed to set bridge addr".into());
        let have = kernel.host.addresses(Some(link.index))?;
        let going = self.in_the_way(&have);
        for address in &going {
            match kernel.host.delete_address(link.index, address.net) {
                Err(error) if !error.is_not_found() => return Err(failed(error)),
                _ => {}
            }
        }
        let stays = |net: &IpNetwork| {
            have.iter().any(|address| address.net == *net) && going.iter().all(|gone| gone.net != *net)
        };
        for net in self.wanted().filter(|net| !stays(net)) {
            add(kernel, &link, *net).map_err(failed)?;
        }
        if self.wanted().any(IpNetwork::is_ipv6) {
            add_link_local(kernel, &link, &have).map_err(failed)?;
        }
        for route in self.routes(link.index) {
            match kernel.host.add_route(&route, true) {
                Err(error) if !error.is_exists() => return Err(failed(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let name = overlay_bridge(&self.network);
        let Some(link) = kernel.host.link_by_name(&name)? else { return Ok(Vec::new()) };
        let have = kernel.host.addresses(Some(link.index))?;
        let missing = self.wanted().filter(|wanted| have.iter().all(|address| address.net != **wanted));
        let mut drifts: Vec<Drift> =
            missing.map(|wanted| Drift::new(format!("address of {name}"), wanted, "missing")).collect();
        if !drifts.is_empty() {
            return Ok(drifts);
        }
        let routes = kernel.host.routes(Some(link.index), Some(Route::MAIN_TABLE))?;
        for own in &self.own {
            let to_subnet = routes
                .iter()
                .filter(|route| route.dst.ip() == own.network() && route.dst.prefix() == own.prefix());
            let first = to_subnet.min_by_key(|route| route.priority.unwrap_or(0));
            let text = |source: Option<IpAddr>| source.map_or_else(|| "none".into(), |ip| ip.to_string());
            let source = first.map_or_else(|| "no route".into(), |route| text(route.source));
            let what = format!("source of the host's packets by {name}");
            drifts.extend(Drift::unless_equal(what, own.ip().to_string(), source));
        }
        Ok(drifts)
    }
}

/// Adds an address without duplicate detection: gateways are on every host.
fn add(kernel: &Kernel, link: &Link, net: IpNetwork) -> Result<()> {
    let new = NewAddress { index: link.index, net, nodad: true };
    let added = match kernel.host.add_marked_address(&new) {
        Err(error) if net.is_ipv6() && error.errno() == Some(libc::EACCES) => {
            sysctl::best_effort(&format!("net/ipv6/conf/{}/disable_ipv6", link.name), "0");
            kernel.host.add_marked_address(&new)
        }
        added => added,
    };
    // Another first ADD was quicker.
    added.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
}

/// The host finds its IPv6 neighbours from the bridge's link-local address, which the kernel would
/// make only when the bridge has its carrier.
fn add_link_local(kernel: &Kernel, link: &Link, have: &[Address]) -> Result<()> {
    if have.iter().any(|address| address.net.is_ipv6() && address.scope == Route::SCOPE_LINK) {
        return Ok(());
    }
    let Some(mac) = link.mac else { return Ok(()) };
    let net = IpNetwork::new(mac.link_local().into(), LINK_LOCAL_PREFIX)
        .map_err(|_| Error::new("make a link-local address of", mac.to_string(), Errno::EINVAL))?;
    add(kernel, link, net)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn a_gateway_that_came_first_makes_way_for_the_hosts_own_address() {
        let wanted = OverlayAddresses {
            network: "front".into(),
            own: vec![net("10.9.0.65/16")],
            gateways: vec![net("10.9.0.1/16"), net("fd00:9::1/64")],
        };
        let at = |text| Address { index: 1, net: net(text), flags: 0, scope: 0, marked: true };
        let have = [at("10.9.0.1/16"), at("fd00:9::1/64")];
        assert_eq!(wanted.in_the_way(&have), [&have[0]]);
        let have = [at("10.9.0.65/16"), at("10.9.0.1/16"), at("10.9.0.97/16")];
        assert_eq!(wanted.in_the_way(&have), [&have[2]]);
        let others = [Address { marked: false, ..at("198.51.100.1/24") }];
        assert!(wanted.in_the_way(&others).is_empty());
    }
}
