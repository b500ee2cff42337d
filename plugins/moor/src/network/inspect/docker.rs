//! A network in docker's form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::model::{Attachment, Model, State};
use crate::networks::Network;
use crate::subnets::Subnet;

use super::super::create::AUX_LABEL;
use super::super::described::Described;
use super::super::rm::of_network;
use super::time::rfc3339;

/// A network, as docker prints it, and what docker does not have.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    containers: BTreeMap<String, Container>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    moor: Moor,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: String,
    options: BTreeMap<String, String>,
    config: Vec<Config>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    ip_range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4: String,
    #[serde(rename = "IPv6Address")]
    ipv6: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Moor {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    plugins: Vec<String>,
    first: bool,
    drift: Vec<Drift>,
}

/// Where kernel and record of a container differ.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Drift {
    container: String,
    what: &'static str,
    expected: String,
    actual: String,
}

impl Inspected {
    /// The network, and its containers of every runtime.
    pub fn new(network: &Network, model: &Model) -> Self {
        let described = Described::new(network, 0);
        let of_family = |v4: bool| described.subnets.iter().any(|subnet| subnet.subnet.is_ipv4() == v4);
        let created = network.file.metadata().and_then(|about| about.modified());
        let mut containers = BTreeMap::new();
        let mut drift = Vec::new();
        for one in of_network(model, network.name()) {
            // A container can have two interfaces in one network.
            let key = match containers.contains_key(&one.container_id) {
                false => one.container_id.clone(),
                true => format!("{}/{}", one.container_id, one.ifname),
            };
            containers.insert(key, container(one, &described.subnets));
            drift.extend(one.drift.iter().map(|drift| Drift {
                container: one.container_id.clone(),
                what: drift.what,
                expected: drift.expected.clone(),
                actual: drift.actual.clone(),
            }));
        }
        Self {
            name: described.name.clone(),
            id: described.id.clone(),
            created: created.map(rfc3339).unwrap_or_default(),
            scope: if described.driver == "overlay" { "global" } else { "local" },
            driver: described.driver.clone(),
            enable_ipv4: of_family(true),
            enable_ipv6: of_family(false),
            ipam: ipam(network, &described),
            internal: described.internal,
            attachable: true,
            ingress: false,
            config_only: false,
            containers,
            options: described.options.clone(),
            moor: Moor {
                file: network.file.display().to_string(),
                link: described.link,
                parent: described.parent,
                plugins: network.list.plugins.iter().map(|plugin| plugin.plugin_type.clone()).collect(),
                first: network.first,
                drift,
            },
            labels: described.labels,
        }
    }

    /// The same for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            if !value.is_empty() {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{key:<12} {}", crate::output::escaped(value).replace('\n', "\\n"));
            }
        };
        line("name", &self.name);
        line("id", &self.id);
        line("created", &self.created);
        line("file", &self.moor.file);
        line("plugins", &self.moor.plugins.join(" "));
        line("pods", if self.moor.first { "containerd and CRI-O give it to pods" } else { "" });
        line("internal", if self.internal { "yes" } else { "" });
        line("link", self.moor.link.as_deref().unwrap_or_default());
        line("parent", self.moor.parent.as_deref().unwrap_or_default());
        for config in &self.ipam.config {
            let gateway = config.gateway.iter().map(|gateway| format!(" gateway {gateway}"));
            let range = config.ip_range.iter().map(|range| format!(" range {range}"));
            line(
                "subnet",
                &[config.subnet.clone()].into_iter().chain(gateway).chain(range).collect::<String>(),
            );
            config.auxiliary_addresses.iter().for_each(|(name, ip)| line("taken", &format!("{ip} {name}")));
        }
        self.labels.iter().for_each(|(key, value)| line("label", &format!("{key}={value}")));
        self.options.iter().for_each(|(key, value)| line("option", &format!("{key}={value}")));
        for one in self.containers.values() {
            line("container", &format!("{} {} {} {}", one.name, one.ipv4, one.ipv6, one.mac_address));
        }
        for one in &self.moor.drift {
            let Drift { container, what, expected, actual } = one;
            line("drift", &format!("{container} {what}: expected {expected}, actual {actual}"));
        }
        text
    }
}

fn ipam(network: &Network, described: &Described) -> Ipam {
    let section = network.list.plugins.first().and_then(|plugin| plugin.object.get("ipam")?.as_object());
    let driver = section.and_then(|ipam| ipam.get("type")?.as_str()).unwrap_or("none");
    let structural =
        ["type", "routes", "ranges", "subnet", "subnets", "gateway", "rangeStart", "rangeEnd", "addresses"];
    let options = section.into_iter().flatten().filter(|(key, _)| !structural.contains(&key.as_str()));
    let text =
        |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let aux: BTreeMap<String, String> =
        described.labels.get(AUX_LABEL).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    Ipam {
        driver: if matches!(driver, "host-local" | "cluster") { "default" } else { driver }.to_owned(),
        options: options.map(|(key, value)| (key.clone(), text(value))).collect(),
        config: described.subnets.iter().map(|subnet| config(subnet, &aux)).collect(),
    }
}

fn config(subnet: &Subnet, aux: &BTreeMap<String, String>) -> Config {
    let is_here = |ip: &str| ip.parse().is_ok_and(|ip: IpAddr| subnet.subnet.contains(ip));
    let aux: BTreeMap<_, _> =
        aux.iter().filter(|(_, ip)| is_here(ip)).map(|(name, ip)| (name.clone(), ip.clone())).collect();
    let ends = subnet.ranges.first().zip(subnet.ranges.last()).map(|(first, last)| (first.first, last.last));
    let ip_range = ends.filter(|ends| !is_whole(subnet, &aux, *ends));
    Config {
        subnet: subnet.subnet.to_string(),
        ip_range: ip_range.map(|(first, last)| format!("{first}-{last}")),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()),
        auxiliary_addresses: aux,
    }
}

/// Whether only the subnet's own addresses and those of others are outside these ends: a range that
/// is split around them is no range of the network's.
fn is_whole(subnet: &Subnet, aux: &BTreeMap<String, String>, (first, last): (IpAddr, IpAddr)) -> bool {
    let (start, end) = (subnet.subnet.network(), subnet.subnet.broadcast());
    let mut taken: BTreeSet<IpAddr> = aux.values().filter_map(|ip| ip.parse().ok()).collect();
    taken.extend(subnet.gateway);
    taken.insert(start);
    taken.extend(Some(end).filter(IpAddr::is_ipv4));
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let count = |outside: &dyn Fn(&IpAddr) -> bool| taken.iter().filter(|ip| outside(ip)).count() as u128;
    let gap = |low: IpAddr, high: IpAddr| number(high).saturating_sub(number(low));
    gap(start, first) == count(&|ip| *ip < first) && gap(last, end) == count(&|ip| *ip > last)
}

fn container(one: &Attachment, subnets: &[Subnet]) -> Container {
    let shown = |v4: bool| {
        let address = one.addresses.iter().find(|ip| ip.is_ipv4() == v4)?;
        let subnet = subnets.iter().find(|subnet| subnet.subnet.contains(*address));
        let host = if v4 { 32 } else { 128 };
        Some(format!("{address}/{}", subnet.map_or(host, |subnet| subnet.subnet.prefix())))
    };
    let alive = |text: Option<String>| text.filter(|_| one.state != State::Gone).unwrap_or_default();
    let endpoint = Sha256::digest(format!("{}/{}/{}", one.network, one.container_id, one.ifname).as_bytes());
    Container {
        name: one.shown_name().to_owned(),
        endpoint_id: endpoint.iter().map(|byte| format!("{byte:02x}")).collect(),
        mac_address: alive(one.mac.clone()),
        ipv4: alive(shown(true)),
        ipv6: alive(shown(false)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;
    use crate::subnets::Range;

    #[test]
    fn a_range_that_is_split_around_others_alone_is_no_range() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut subnet = Subnet {
            subnet: cni::parse_cidr("10.1.0.0/24").unwrap(),
            gateway: Some(ip("10.1.0.1")),
            ranges: vec![Range { first: ip("10.1.0.3"), last: ip("10.1.0.254") }],
        };
        let aux = BTreeMap::from([("r".to_owned(), "10.1.0.2".to_owned())]);
        assert_eq!(config(&subnet, &aux).ip_range, None);
        assert_eq!(config(&subnet, &BTreeMap::new()).ip_range.as_deref(), Some("10.1.0.3-10.1.0.254"));
        subnet.ranges[0].last = ip("10.1.0.200");
        assert_eq!(config(&subnet, &aux).ip_range.as_deref(), Some("10.1.0.3-10.1.0.200"));
        assert_eq!(config(&subnet, &aux).auxiliary_addresses, aux);
    }
}
