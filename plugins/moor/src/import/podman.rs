//! The files of podman's netavark back end: `/etc/containers/networks/*.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::network::create::Spec;

use super::found::{Found, Imported};

/// A network. Keys that are not listed are noted as lost.
#[derive(Deserialize)]
struct Network {
    name: String,
    #[serde(default)]
    driver: String,
    #[serde(default)]
    network_interface: String,
    subnets: Option<Vec<Subnet>>,
    routes: Option<Vec<Route>>,
    #[serde(default)]
    ipv6_enabled: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    dns_enabled: bool,
    network_dns_servers: Option<Vec<String>>,
    ipam_options: Option<BTreeMap<String, String>>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Subnet {
    subnet: String,
    #[serde(default)]
    gateway: String,
    lease_range: Option<LeaseRange>,
}

#[derive(Deserialize)]
struct LeaseRange {
    #[serde(default)]
    start_ip: String,
    #[serde(default)]
    end_ip: String,
}

#[derive(Deserialize)]
struct Route {
    destination: String,
    gateway: Option<String>,
    metric: Option<u32>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Reads a file.
pub fn read(bytes: &[u8]) -> Result<Vec<Found>, String> {
    let network: Network =
        serde_json::from_slice(bytes).map_err(|error| format!("not a network of podman's: {error}"))?;
    Ok(vec![Found::Network(Box::new(imported(network)))])
}

fn imported(network: Network) -> Imported {
    let mut imported = Imported {
        spec: Spec {
            name: network.name,
            driver: network.driver,
            ipv6: network.ipv6_enabled.then_some(true),
            internal: network.internal,
            disable_dns: !network.dns_enabled,
            dns: network.network_dns_servers.filter(|_| network.dns_enabled).unwrap_or_default(),
            labels: network.labels.unwrap_or_default(),
            ..Spec::default()
        },
        lost: Vec::new(),
    };
    for subnet in network.subnets.unwrap_or_default() {
        add_subnet(&mut imported, subnet);
    }
    for (key, value) in network.ipam_options.unwrap_or_default() {
        match key.as_str() {
            "driver" => imported.spec.ipam_driver = value,
            _ => imported.lose(format!("ipam_options.{key}"), "no counterpart"),
        }
    }
    for route in network.routes.unwrap_or_default() {
        add_route(&mut imported, route);
    }
    for key in network.others.into_keys().filter(|key| !matches!(key.as_str(), "id" | "created")) {
        imported.lose(key, "unknown key");
    }
    let mut options = network.options.unwrap_or_default();
    if !network.network_interface.is_empty() {
        options.entry(interface_key(&imported.spec.driver).into()).or_insert(network.network_interface);
    }
    imported.options(options);
    imported
}

/// What the interface of a network is: the bridge itself, or the parent.
pub fn interface_key(driver: &str) -> &'static str {
    if matches!(driver, "" | "bridge") { "interface-name" } else { "parent" }
}

fn add_subnet(imported: &mut Imported, subnet: Subnet) {
    if let Some(range) = subnet.lease_range {
        match (range.start_ip.as_str(), range.end_ip.as_str()) {
            ("", "") => {}
            ("", _) | (_, "") => imported.lose("lease_range", "a range needs its first and its last address"),
            (first, last) => imported.spec.ip_ranges.push(format!("{first}-{last}")),
        }
    }
    imported.spec.subnets.push(subnet.subnet);
    imported.spec.gateways.extend([subnet.gateway].into_iter().filter(|gateway| !gateway.is_empty()));
}

fn add_route(imported: &mut Imported, route: Route) {
    let is_unicast = route.others.iter().all(|(key, value)| key == "route_type" && value == "unicast");
    match route.gateway.filter(|_| is_unicast) {
        None => {
            let reason = format!("the route to {} has no gateway", route.destination);
            imported.lose("routes", reason);
        }
        Some(gateway) => {
            let metric = route.metric.map(|metric| format!(",{metric}")).unwrap_or_default();
            imported.spec.routes.push(format!("{},{gateway}{metric}", route.destination));
        }
    }
}
