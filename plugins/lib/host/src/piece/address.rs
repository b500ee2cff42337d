//! Addresses and routes of the container's link.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{LinkChange, Mac, Netlink, NewAddress};
use sys::{Error, Result};

use super::{Kernel, Part, Place, Undo};
use crate::Drift;

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where the link is.
    pub place: Place,
    /// Its name.
    pub link: String,
    /// The address and its prefix length.
    pub net: IpNetwork,
    /// IPv6: whether duplicate address detection runs before it is used.
    pub dad: bool,
}

impl Part for Address {
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(self.place, &self.link)?;
        let address = NewAddress { index, net: self.net, nodad: !self.dad };
        add_or_adopt(kernel.netlink(self.place)?, &address)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        drifts(kernel.netlink(self.place)?, &self.link, self.net)
    }
}

/// Adds an address. One that the kernel has made already, by a router's advertisement, stays as it
/// is: it remains the kernel's, with its lifetime.
pub(super) fn add_or_adopt(netlink: &Netlink, address: &NewAddress) -> Result<()> {
    match netlink.add_address(address) {
        Err(error) if error.is_exists() && address.net.is_ipv6() => {
            let held = netlink.addresses(Some(address.index))?;
            let is_kernels = held.iter().any(|held| held.net == address.net && held.advertised());
            if is_kernels { Ok(()) } else { Err(error) }
        }
        done => done,
    }
}

/// The drift of an address that a link lacks.
pub(super) fn drifts(netlink: &Netlink, link: &str, net: IpNetwork) -> Result<Vec<Drift>> {
    let Some(there) = netlink.link_by_name(link)? else { return Ok(Vec::new()) };
    let addresses = netlink.addresses(Some(there.index))?;
    if addresses.iter().any(|address| address.net == net) {
        return Ok(Vec::new());
    }
    let have: Vec<_> = addresses.iter().map(|address| address.net.to_string()).collect();
    let actual = if have.is_empty() { "none".into() } else { have.join(", ") };
    Ok(vec![Drift::new(format!("address of {link}"), net, actual)])
}

/// A link that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// Where the link is.
    pub place: Place,
    /// Its name.
    pub link: String,
}

impl Part for Up {
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(self.place, &self.link)?;
        let change = LinkChange { up: Some(true), ..LinkChange::default() };
        kernel.netlink(self.place)?.set_link(index, &change)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let link = kernel.netlink(self.place)?.link_by_name(&self.link)?;
        let down = link.is_some_and(|link| !link.up());
        Ok(down.then(|| Drift::new(format!("state of {}", self.link), "up", "down")).into_iter().collect())
    }
}

/// A route through a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where the link is.
    pub place: Place,
    /// Its name.
    pub link: String,
    /// The route; its link index is filled in here.
    pub route: netlink::Route,
    /// Whether a route in another table will do: the plan names no table, and a chained plugin may
    /// have moved the link's routes into its own.
    pub any_table: bool,
}

/// RT_TABLE_LOCAL (linux/rtnetlink.h): the kernel's own.
const LOCAL_TABLE: u32 = 255;

impl Part for Route {
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(self.place, &self.link)?;
        let route = netlink::Route { index: Some(index), ..self.route };
        let netlink = kernel.netlink(self.place)?;
        if self.is_advertised(netlink, index)? {
            return Ok(());
        }
        netlink.add_route(&route, false).map_err(|error| self.failed(error))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.netlink(self.place)?.link_by_name(&self.link)? else { return Ok(Vec::new()) };
        let table = (!self.any_table).then_some(self.route.table);
        let routes = kernel.netlink(self.place)?.routes(Some(link.index), table)?;
        let mut same_dst = routes
            .iter()
            .filter(|route| route.dst == self.route.dst && (table.is_some() || route.table != LOCAL_TABLE))
            .peekable();
        let what = || format!("route {} on {}", self.route.dst, self.link);
        if same_dst.peek().is_none() {
            return Ok(vec![Drift::new(what(), self.text(), "missing")]);
        }
        let matches = |have: &&netlink::Route| {
            // A router's advertisements change the MTU of the link, and not always of the route.
            let by_router = have.protocol == netlink::Route::BY_ADVERTISEMENT;
            have.gateway == self.route.gateway
                && self.route.mtu.is_none_or(|mtu| by_router || have.mtu == Some(mtu))
                && self.route.advmss.is_none_or(|advmss| have.advmss == Some(advmss))
                && self.route.priority.is_none_or(|priority| have.priority == Some(priority))
        };
        let found: Vec<_> = same_dst.collect();
        if found.iter().any(matches) {
            return Ok(Vec::new());
        }
        let actual: Vec<_> = found.iter().map(|have| text(have)).collect();
        Ok(vec![Drift::new(what(), self.text(), actual.join(", "))])
    }
}

impl Route {
    /// Whether the kernel has the route already, by a router's advertisement. Adding it would end
    /// its lifetime (fib6_add_rt2node, net/ipv6/ip6_fib.c).
    fn is_advertised(&self, netlink: &Netlink, index: u32) -> Result<bool> {
        let by_router =
            |gateway| matches!(gateway, Some(IpAddr::V6(gateway)) if gateway.is_unicast_link_local());
        if !by_router(self.route.gateway) {
            return Ok(false);
        }
        let held = netlink.routes(Some(index), Some(self.route.table))?;
        Ok(held.iter().any(|held| {
            held.protocol == netlink::Route::BY_ADVERTISEMENT
                && (held.dst, held.gateway) == (self.route.dst, self.route.gateway)
                && self.route.priority.is_none_or(|priority| held.priority == Some(priority))
        }))
    }

    fn text(&self) -> String {
        text(&self.route)
    }

    /// The reference's text, which people search for.
    fn failed(&self, error: Error) -> Error {
        let netlink::Route { dst, gateway, priority, scope, table, .. } = &self.route;
        let gateway = gateway.map_or_else(|| "<nil>".into(), |gateway| gateway.to_string());
        let metric = priority.unwrap_or(0);
        let scope = match scope {
            0 => "universe".into(),
            200 => "site".into(),
            253 => "link".into(),
            254 => "host".into(),
            255 => "nowhere".into(),
            other => other.to_string(),
        };
        error.within(format!(
            "failed to add route '{dst} via {gateway} dev {} metric {metric} (Scope: {scope}, Table: {table})'",
            self.link
        ))
    }
}

fn text(route: &netlink::Route) -> String {
    let mut text = match route.gateway {
        Some(gateway) => format!("via {gateway}"),
        None => "on link".into(),
    };
    for (name, value) in [("metric", route.priority), ("mtu", route.mtu), ("advmss", route.advmss)] {
        if let Some(value) = value {
            text.push_str(&format!(" {name} {value}"));
        }
    }
    text
}

/// Updated neighbours, which no longer send to an address's previous owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The container's link.
    pub link: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The addresses on the link now.
    pub addresses: Vec<IpAddr>,
    /// The host's link in the same segment; its own neighbour table is updated without a packet.
    pub host_link: String,
}

impl Part for Announcement {
    // Neighbours that miss it learn by themselves within seconds, so a failure does not fail the
    // attachment.
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let host_index = kernel.index(Place::Host, &self.host_link)?;
        for address in &self.addresses {
            let _ = kernel.host.delete_neighbour(host_index, *address);
        }
        let index = kernel.index(Place::Sandbox, &self.link)?;
        let _ = kernel.netlink(Place::Sandbox)?.announce(index, self.mac);
        Ok(())
    }

    fn verify(&self, _: &mut Kernel) -> Result<Vec<Drift>> {
        Ok(Vec::new())
    }
}
