//! What of this host is in a new network's way: links, addresses, routes, name servers.

use std::net::IpAddr;
use std::path::Path;

use cluster::record::Net;
use ipnetwork::IpNetwork;
use netlink::{Link, Netlink, Route};

use crate::failure::Failure;
use crate::files;
use crate::networks::{Network, Networks};
use crate::resolv;
use crate::subnets::{self, overlap};

use super::overlay;
use super::plan::{Driver, Plan};

/// A route to more than this is the default route in two halves, as tunnels set it.
const DEFAULT_ROUTE: u8 = 8;
/// The largest file of settings that is read, in bytes.
const FILE_MAX: u64 = 64 * 1024;

/// What was read of the host.
#[derive(Debug, Default)]
pub struct Host {
    links: Vec<Link>,
    addresses: Vec<(u32, IpNetwork)>,
    routes: Vec<Route>,
    servers: Vec<IpAddr>,
    uplink: Option<u32>,
    /// The cluster's networks that this host knows of.
    cluster: Vec<(String, Net)>,
}

impl Host {
    /// Reads it.
    pub fn read() -> Result<Self, Failure> {
        let fault = |error: sys::Error| Failure::incomplete(format!("look at the host: {error:#}"));
        let netlink = Netlink::open().map_err(fault)?;
        let addresses = netlink.addresses(None).map_err(fault)?;
        Ok(Self {
            links: netlink.links().map_err(fault)?,
            addresses: addresses.into_iter().map(|address| (address.index, address.net)).collect(),
            routes: netlink.routes(None, None).map_err(fault)?,
            servers: resolv::name_servers(),
            uplink: netlink.default_route_link().map_err(fault)?,
            cluster: crate::overlay::networks(),
        })
    }

    /// The links whose routes lead to the network itself: its bridge, or its parent.
    fn own_links(&self, plan: &Plan) -> Vec<u32> {
        let named = |name: &str| self.links.iter().find(|link| link.name == name).map(|link| link.index);
        match plan.driver {
            Driver::Bridge => {
                let bridge = plan.bridge_name();
                let vlan = plan.vlan.map(|vlan| format!("{bridge}.{vlan}"));
                [named(&bridge), vlan.as_deref().and_then(named)].into_iter().flatten().collect()
            }
            Driver::Overlay => Vec::new(),
            _ if plan.internal => Vec::new(),
            _ => plan.parent.as_deref().map_or(self.uplink, named).into_iter().collect(),
        }
    }

    /// What of the host has addresses of the subnet. A link of the network's own is not in its way.
    fn in_the_way(&self, subnet: IpNetwork, own: &[u32]) -> Option<String> {
        let foreign = |index: Option<u32>| index.is_none_or(|index| !own.contains(&index));
        let address = self
            .addresses
            .iter()
            .find(|(index, net)| foreign(Some(*index)) && overlap(subnets::masked(*net), subnet));
        if let Some((index, net)) = address {
            return Some(format!("the address {net} of {}", self.link_name(Some(*index))));
        }
        let route = self.routes.iter().find(|route| {
            foreign(route.index) && route.dst.prefix() >= DEFAULT_ROUTE && overlap(route.dst, subnet)
        })?;
        let table = if route.table == Route::MAIN_TABLE {
            String::new()
        } else {
            format!(" (table {})", route.table)
        };
        Some(format!("the route to {} by {}{table}", route.dst, self.link_name(route.index)))
    }

    fn link_name(&self, index: Option<u32>) -> &str {
        let found = self.links.iter().find(|link| Some(link.index) == index);
        found.map_or("no link", |link| link.name.as_str())
    }

    /// Whether nothing that is known has an address of the subnet.
    pub fn is_free(&self, subnet: IpNetwork, networks: &Networks) -> bool {
        let server = self.servers.iter().any(|server| subnet.contains(*server));
        !server
            && self.in_the_way(subnet, &[]).is_none()
            && of_network(subnet, networks).is_none()
            && overlay::of_cluster(subnet, &self.cluster, None).is_none()
    }

    /// Refuses a given subnet that another network or another link has.
    pub fn ensure_no_overlap(&self, plan: &Plan, networks: &Networks) -> Result<(), Failure> {
        let own = self.own_links(plan);
        for subnet in plan.subnets.iter().map(|subnet| subnet.subnet) {
            // A network of the cluster that runs here already has its bridge.
            let runs =
                self.cluster.iter().any(|(name, net)| *name == plan.name && net.subnets.contains(&subnet));
            let other = of_network(subnet, networks)
                .or_else(|| overlay::of_cluster(subnet, &self.cluster, Some(&plan.name)))
                .or_else(|| if runs { None } else { self.in_the_way(subnet, &own) });
            if let Some(other) = other {
                return Err(Failure::refused(format!("subnet {subnet} overlaps {other}"))
                    .hint("--allow-overlap insists"));
            }
        }
        Ok(())
    }

    /// Refuses a bridge that is another network's or no bridge, and a parent that is not there.
    pub fn ensure_links(&self, plan: &Plan, networks: &Networks) -> Result<(), Failure> {
        if plan.driver == Driver::Bridge {
            return self.ensure_bridge(&plan.bridge_name(), networks);
        }
        let Some(parent) = &plan.parent else { return Ok(()) };
        let has = |name: &str| self.links.iter().any(|link| link.name == name);
        // A VLAN's link is made by need, on the link that its name begins with.
        let by_need = || parent.rsplit_once('.').is_some_and(|(below, id)| has(below) && is_vlan(id));
        if has(parent) || by_need() {
            return Ok(());
        }
        let failure = Failure::refused(format!("parent {parent}: this host has no such link"));
        let names = self.links.iter().map(|link| link.name.as_str());
        Err(match crate::suggest::nearest(parent, names) {
            Some(meant) => failure.hint(format!("did you mean {meant:?}?")),
            None => failure,
        })
    }

    fn ensure_bridge(&self, bridge: &str, networks: &Networks) -> Result<(), Failure> {
        if let Some(other) = networks.all.iter().find(|other| bridges(other).any(|name| name == bridge)) {
            let file = other.file.display();
            return Err(Failure::refused(format!("bridge {bridge} is of network {} ({file})", other.name())));
        }
        let link = self.links.iter().find(|link| link.name == bridge);
        match link.map(|link| link.kind.as_deref().unwrap_or("hardware")) {
            None | Some("bridge") => Ok(()),
            Some(kind) => Err(Failure::refused(format!("{bridge} is no bridge, but a link of kind {kind}"))),
        }
    }

    /// The record of a network of the cluster, if this host knows it.
    pub fn of_cluster(&self, name: &str) -> Option<&Net> {
        self.cluster.iter().find(|(known, _)| known == name).map(|(_, net)| net)
    }

    /// Whether a macvlan or ipvlan network without a parent has one by the default route.
    pub fn has_uplink(&self) -> bool {
        self.uplink.is_some()
    }
}

fn is_vlan(id: &str) -> bool {
    id.parse::<u16>().is_ok_and(|id| (1..=4094).contains(&id))
}

/// The bridges that a network names.
pub fn bridges(network: &Network) -> impl Iterator<Item = &str> {
    let of_bridge = network.list.plugins.iter().filter(|plugin| plugin.plugin_type == "bridge");
    of_bridge.map(|plugin| plugin.object.get("bridge").and_then(|name| name.as_str()).unwrap_or("cni0"))
}

fn of_network(subnet: IpNetwork, networks: &Networks) -> Option<String> {
    let other = networks
        .all
        .iter()
        .find(|network| subnets::of(&network.list).iter().any(|other| other.overlaps(subnet)))?;
    Some(format!("network {} ({})", other.name(), other.file.display()))
}

fn read_text(path: &str) -> String {
    let bytes = files::read(Path::new(path), FILE_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What this machine is called by, for addresses that are its own.
pub fn machine_id() -> String {
    read_text("/etc/machine-id").trim().to_owned()
}

/// Whether podman keeps its networks in this directory: its `network prune` removes every network
/// that none of its containers uses.
pub fn podman_prunes(dir: &Path) -> bool {
    let uses_cni = |path: &str| {
        let text = read_text(path);
        let mut lines = text.lines().map(|line| line.replace([' ', '\t'], ""));
        lines.any(|line| line.starts_with("network_backend=\"cni\""))
    };
    let settings = ["/etc/containers/containers.conf", "/usr/share/containers/containers.conf"];
    dir.join("cni.lock").exists() || settings.into_iter().any(uses_cni)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::super::Spec;
    use super::*;

    fn at(text: &str) -> IpNetwork {
        cni::parse_cidr(text).unwrap()
    }

    fn route(dst: &str, index: u32, table: u32) -> Route {
        Route { index: Some(index), table, ..Route::new(at(dst)) }
    }

    #[test]
    fn a_short_route_is_a_default_route_and_any_table_counts() {
        let routes =
            vec![route("0.0.0.0/1", 2, 254), route("128.0.0.0/1", 2, 254), route("10.90.1.0/24", 3, 52)];
        let host = Host { routes, servers: vec!["10.90.2.53".parse().unwrap()], ..Host::default() };
        let none = Networks::default();
        assert!(host.is_free(at("10.90.0.0/24"), &none));
        assert!(!host.is_free(at("10.90.1.0/24"), &none) && !host.is_free(at("10.90.2.0/24"), &none));
        let why = host.in_the_way(at("10.90.1.0/25"), &[]).unwrap();
        assert_eq!(why, "the route to 10.90.1.0/24 by no link (table 52)");
        assert!(host.in_the_way(at("10.90.1.0/25"), &[3]).is_none());
    }

    #[test]
    fn a_network_on_a_parent_may_have_the_wires_subnet() {
        let spec = Spec {
            name: "lan".into(),
            driver: "macvlan".into(),
            subnets: vec!["192.168.1.0/24".into()],
            ..Spec::default()
        };
        let routes = vec![route("192.168.1.0/24", 2, 254)];
        let host = Host { routes, uplink: Some(2), ..Host::default() };
        host.ensure_no_overlap(&Plan::of(&spec).unwrap(), &Networks::default()).unwrap();
        let bridge = Plan::of(&Spec { driver: "bridge".into(), ..spec }).unwrap();
        let refused = host.ensure_no_overlap(&bridge, &Networks::default()).unwrap_err();
        assert!(refused.text.contains("the route to 192.168.1.0/24"), "{refused}");
    }
}
