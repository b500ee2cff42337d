//! What conflists ask for, from their keys.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::super::facts::{NetworkFacts, RangeFacts};
use super::names;
use crate::networks::Network;
use crate::subnets::{self, Subnet};

pub fn facts(network: &Network, cache_dir: &Path) -> NetworkFacts {
    let first = network.list.plugins.first();
    let empty = Map::new();
    let object = first.map_or(&empty, |plugin| &plugin.object);
    let kind = first.map_or("", |plugin| plugin.plugin_type.as_str());
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let flag = |key: &str| object.get(key).and_then(Value::as_bool) == Some(true);
    let mut types: Vec<String> =
        network.list.plugins.iter().map(|plugin| plugin.plugin_type.clone()).collect();
    let ipam = object.get("ipam").and_then(Value::as_object);
    types.extend(ipam.and_then(|ipam| ipam.get("type")?.as_str()).map(str::to_owned));
    let subnets = subnets::of(&network.list);
    let leases = leases(ipam, cache_dir, network.name());
    NetworkFacts {
        name: network.name().to_owned(),
        file: network.file.clone(),
        bridge: (kind == "bridge").then(|| text("bridge").unwrap_or_else(|| "cni0".into())),
        master: text("master"),
        subnets: subnets.iter().map(|subnet| subnet.subnet).collect(),
        gateways: subnets.iter().map(gateway).collect(),
        routed: kind == "ptp" || flag("isGateway") || flag("isDefaultGateway"),
        hairpin: flag("hairpinMode"),
        host_access: flag("hostAccess"),
        ranges: subnets.iter().map(|subnet| range(subnet, &leases)).collect(),
        types,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The gateway that the list names, or else the first address.
fn gateway(subnet: &Subnet) -> IpAddr {
    subnet.gateway.unwrap_or_else(|| match subnet.subnet.network() {
        IpAddr::V4(v4) => std::net::Ipv4Addr::from(u32::from(v4).saturating_add(1)).into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6).saturating_add(1)).into(),
    })
}

/// How many addresses containers can get, and how many are leased.
fn range(subnet: &Subnet, leases: &[IpAddr]) -> RangeFacts {
    let net = subnet.subnet;
    // Neither the subnet's own address nor an IPv4 broadcast address.
    let least = number(net.network()).saturating_add(1);
    let most = number(net.broadcast()).saturating_sub(u128::from(net.is_ipv4()));
    let bounds = |range: &subnets::Range| (number(range.first).max(least), number(range.last).min(most));
    let mut parts: Vec<(u128, u128)> = subnet.ranges.iter().map(bounds).collect();
    if parts.is_empty() {
        parts.push((least, most));
    }
    let is_in = |address: &IpAddr| {
        let value = number(*address);
        address.is_ipv4() == net.is_ipv4()
            && parts.iter().any(|(first, last)| (*first..=*last).contains(&value))
    };
    let sizes = parts.iter().map(|(first, last)| last.saturating_add(1).saturating_sub(*first));
    let gateway = gateway(subnet);
    let size = sizes.fold(0, u128::saturating_add).saturating_sub(u128::from(is_in(&gateway)));
    RangeFacts {
        text: net.to_string(),
        size: u64::try_from(size).unwrap_or(u64::MAX),
        used: leases.iter().filter(|lease| **lease != gateway && is_in(lease)).count() as u64,
    }
}

/// The leases of a network: files with the name of an address.
fn leases(ipam: Option<&Map<String, Value>>, cache_dir: &Path, network: &str) -> Vec<IpAddr> {
    let is_one_name = !matches!(network, "" | "." | "..") && !network.contains(['/', '\0']);
    let data_dir = ipam.and_then(|ipam| ipam.get("dataDir")?.as_str()).filter(|dir| !dir.is_empty());
    let data_dir = data_dir.map_or_else(|| cache_dir.join("networks"), PathBuf::from);
    if !is_one_name {
        return Vec::new();
    }
    names(&data_dir.join(network)).iter().filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_what_containers_can_get() {
        let leases = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let of = |ipam: &str| {
            let list = format!(r#"{{"name":"n","plugins":[{{"type":"bridge","ipam":{ipam}}}]}}"#);
            let list = runtime::Conflist::from_bytes(list.as_bytes()).unwrap();
            range(&subnets::of(&list)[0], &leases)
        };
        // Of 256: without network, broadcast and gateway.
        assert_eq!(of(r#"{"subnet": "10.0.0.0/24"}"#).size, 253);
        assert_eq!(of(r#"{"subnet": "10.0.0.0/24"}"#).used, 1);
        let part = of(r#"{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.2", "rangeEnd": "10.0.0.3"}"#);
        assert_eq!((part.size, part.used), (2, 1));
        assert_eq!(of(r#"{"subnet": "fd00::/64"}"#).size, u64::MAX - 1);
        assert_eq!(of(r#"{"subnet": "10.0.0.0/32"}"#).size, 0);
    }
}
