//! The array that `docker network inspect` prints.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::network::create::Spec;
use crate::subnets::masked;

use super::found::{Found, Imported};

/// A network, as docker 20.10 and later print it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    name: String,
    driver: String,
    #[serde(default)]
    scope: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6", default)]
    enable_ipv6: bool,
    #[serde(rename = "IPAM", default)]
    ipam: Ipam,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    ingress: bool,
    #[serde(default)]
    config_only: bool,
    config_from: Option<ConfigFrom>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: Option<String>,
    options: Option<BTreeMap<String, String>>,
    config: Option<Vec<Config>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    subnet: String,
    #[serde(rename = "IPRange", default)]
    ip_range: String,
    #[serde(default)]
    gateway: String,
    auxiliary_addresses: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    #[serde(default)]
    network: String,
}

/// Reads the array.
pub fn read(bytes: &[u8]) -> Result<Vec<Found>, String> {
    let networks: Vec<Network> = serde_json::from_slice(bytes)
        .map_err(|error| format!("not what \"docker network inspect\" prints: {error}"))?;
    Ok(networks.into_iter().map(found).collect())
}

fn found(network: Network) -> Found {
    match skip(&network) {
        Some(reason) => Found::Skipped { name: network.name, reason },
        None => Found::Network(Box::new(imported(network))),
    }
}

fn skip(network: &Network) -> Option<&'static str> {
    Some(match (network.name.as_str(), network.driver.as_str()) {
        ("bridge", "bridge") => "docker's default network, which every docker has",
        ("docker_gwbridge", _) => "the way outside of Swarm's networks",
        _ if network.ingress => "the entry of Swarm's services",
        _ if network.config_only => "settings alone, and no network",
        (_, "host" | "null") => "no network of its own",
        (_, "overlay") => "a network over several hosts",
        _ if network.scope == "swarm" => "a network of Swarm",
        _ => return None,
    })
}

fn imported(network: Network) -> Imported {
    let mut imported = Imported {
        spec: Spec {
            name: network.name,
            driver: network.driver,
            ipv4: network.enable_ipv4.filter(|enabled| !enabled),
            ipv6: network.enable_ipv6.then_some(true),
            internal: network.internal,
            ipam_driver: match network.ipam.driver.as_deref() {
                Some("null") => "none".into(),
                driver => driver.unwrap_or_default().into(),
            },
            labels: network.labels.unwrap_or_default(),
            ..Spec::default()
        },
        lost: Vec::new(),
    };
    for config in network.ipam.config.unwrap_or_default() {
        subnet(&mut imported.spec, config);
    }
    if let Some(from) = network.config_from.filter(|from| !from.network.is_empty()) {
        imported.lose("ConfigFrom", format!("the settings are those of {:?}", from.network));
    }
    let options = network.options.unwrap_or_default();
    imported.options(options.into_iter().filter(|(key, value)| !is_usual(key, value)).collect());
    imported.ipam_options(network.ipam.options.unwrap_or_default());
    imported
}

/// Early releases print the gateway as the subnet's address, or with the length of its prefix.
fn subnet(spec: &mut Spec, config: Config) {
    if config.subnet.is_empty() {
        return;
    }
    let whole = cni::parse_cidr(&config.subnet).map(|prefix| masked(prefix).to_string());
    spec.subnets.push(whole.unwrap_or(config.subnet));
    spec.gateways.extend(
        [config.gateway.split('/').next().unwrap_or_default()]
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(ToOwned::to_owned),
    );
    spec.ip_ranges.extend([config.ip_range].into_iter().filter(|text| !text.is_empty()));
    spec.aux_addresses.extend(config.auxiliary_addresses.unwrap_or_default());
}

/// An option that has the value that it has when it is absent, or that stands in a key of its own.
fn is_usual(key: &str, value: &str) -> bool {
    match key {
        "com.docker.network.enable_ipv4" | "com.docker.network.enable_ipv6" => true,
        "com.docker.network.bridge.default_bridge" | "com.docker.network.bridge.inhibit_ipv4" => {
            value == "false"
        }
        "com.docker.network.bridge.gateway_mode_ipv4" | "com.docker.network.bridge.gateway_mode_ipv6" => {
            value == "nat"
        }
        "com.docker.network.bridge.host_binding_ipv4" => value == "0.0.0.0",
        _ => false,
    }
}
