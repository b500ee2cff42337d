//! The subnets that a conflist gives addresses of: the ranges of host-local, the addresses of
//! static, and any IPAM plugin's section that has the same keys.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use runtime::Conflist;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subnet {
    /// The subnet, without host bits.
    #[serde(serialize_with = "as_text")]
    pub subnet: IpNetwork,
    /// The gateway, where the list names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The first and last addresses of its ranges. Empty means the whole subnet.
    #[serde(serialize_with = "as_ranges", skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
}

/// A part of a subnet, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub first: IpAddr,
    /// The last one.
    pub last: IpAddr,
}

impl Subnet {
    /// Whether an address of one is an address of the other.
    pub fn overlaps(&self, other: IpNetwork) -> bool {
        overlap(self.subnet, other)
    }
}

/// Whether two prefixes share an address.
pub fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    if one.prefix() <= other.prefix() { one.contains(other.ip()) } else { other.contains(one.ip()) }
}

/// The prefix without its host bits.
pub fn masked(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).unwrap_or(prefix)
}

/// The subnets of the list, in its order. Text that is no address is passed over: the plugin
/// reports it, and so does `moor lint`.
pub fn of(list: &Conflist) -> Vec<Subnet> {
    let mut found = Vec::new();
    for ipam in list.plugins.iter().filter_map(|plugin| plugin.object.get("ipam")?.as_object()) {
        read_range(&mut found, ipam);
        read_list(&mut found, ipam);
        objects(ipam.get("ranges")).for_each(|range| read_range(&mut found, range));
        objects(ipam.get("addresses")).for_each(|address| read_address(&mut found, address));
    }
    found
}

/// The objects of an array, or of arrays in an array.
fn objects(value: Option<&Value>) -> Box<dyn Iterator<Item = &Map<String, Value>> + '_> {
    let entries = value.and_then(Value::as_array).into_iter().flatten();
    Box::new(entries.flat_map(|entry| match entry {
        Value::Array(inner) => inner.iter().filter_map(Value::as_object).collect(),
        other => Vec::from_iter(other.as_object()),
    }))
}

fn read_range(found: &mut Vec<Subnet>, range: &Map<String, Value>) {
    let Some(subnet) = text(range, "subnet").and_then(|text| cni::parse_cidr(text).ok()).map(masked) else {
        return;
    };
    let (first, last) = (address(range, "rangeStart"), address(range, "rangeEnd"));
    let part = (first.is_some() || last.is_some()).then(|| Range {
        first: first.unwrap_or(subnet.network()),
        last: last.unwrap_or(subnet.broadcast()),
    });
    add(found, subnet, address(range, "gateway"), part);
}

/// `subnets` of cluster, each with the gateway that it holds.
fn read_list(found: &mut Vec<Subnet>, ipam: &Map<String, Value>) {
    let texts = |key: &str| match ipam.get(key) {
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
        other => Vec::from_iter(other.and_then(Value::as_str)),
    };
    let gateways: Vec<IpAddr> = texts("gateway").iter().filter_map(|text| cni::parse_ip(text).ok()).collect();
    let ends = (address(ipam, "rangeStart"), address(ipam, "rangeEnd"));
    for subnet in texts("subnets").iter().filter_map(|text| cni::parse_cidr(text).ok()).map(masked) {
        let holds = |end: Option<IpAddr>| end.filter(|ip| subnet.contains(*ip));
        let (first, last) = (holds(ends.0), holds(ends.1));
        let part = (first.is_some() || last.is_some()).then(|| Range {
            first: first.unwrap_or(subnet.network()),
            last: last.unwrap_or(subnet.broadcast()),
        });
        add(found, subnet, gateways.iter().copied().find(|ip| subnet.contains(*ip)), part);
    }
}

fn read_address(found: &mut Vec<Subnet>, entry: &Map<String, Value>) {
    if let Some(own) = text(entry, "address").and_then(|text| cni::parse_cidr(text).ok()) {
        let part = Range { first: own.ip(), last: own.ip() };
        add(found, masked(own), address(entry, "gateway"), Some(part));
    }
}

/// A range that is split around addresses is one subnet.
fn add(found: &mut Vec<Subnet>, subnet: IpNetwork, gateway: Option<IpAddr>, part: Option<Range>) {
    match found.iter_mut().find(|known| known.subnet == subnet) {
        Some(known) => {
            known.gateway = known.gateway.or(gateway);
            known.ranges.extend(part);
        }
        None => found.push(Subnet { subnet, gateway, ranges: Vec::from_iter(part) }),
    }
}

fn text<'o>(object: &'o Map<String, Value>, key: &str) -> Option<&'o str> {
    object.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn address(object: &Map<String, Value>, key: &str) -> Option<IpAddr> {
    cni::parse_ip(text(object, key)?).ok()
}

fn as_text<S: Serializer>(subnet: &IpNetwork, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(subnet)
}

fn as_ranges<S: Serializer>(ranges: &[Range], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(ranges.iter().map(|range| format!("{}-{}", range.first, range.last)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn subnets(ipam: &str) -> Vec<String> {
        let list = format!(r#"{{"name":"n","plugins":[{{"type":"bridge","ipam":{ipam}}}]}}"#);
        let shown = |subnet: &Subnet| serde_json::to_string(subnet).unwrap();
        of(&Conflist::from_bytes(list.as_bytes()).unwrap()).iter().map(shown).collect()
    }

    #[test]
    fn every_form_of_host_local_and_static_is_read() {
        let flat =
            r#"{"type":"host-local","subnet":"10.1.0.0/16","rangeStart":"10.1.2.0","gateway":"10.1.0.1"}"#;
        let expected = r#"{"subnet":"10.1.0.0/16","gateway":"10.1.0.1","ranges":["10.1.2.0-10.1.255.255"]}"#;
        assert_eq!(subnets(flat), [expected]);
        let two = r#"{"ranges":[[{"subnet":"10.2.0.0/24"}],[{"subnet":"fd00::/64"}]]}"#;
        assert_eq!(subnets(two), [r#"{"subnet":"10.2.0.0/24"}"#, r#"{"subnet":"fd00::/64"}"#]);
        let fixed = r#"{"type":"static","addresses":[{"address":"10.3.0.5/24","gateway":"10.3.0.1"}]}"#;
        let expected = r#"{"subnet":"10.3.0.0/24","gateway":"10.3.0.1","ranges":["10.3.0.5-10.3.0.5"]}"#;
        assert_eq!(subnets(fixed), [expected]);
    }

    #[test]
    fn the_subnets_of_a_cluster_are_read_with_their_gateways() {
        let two = r#"{"type":"cluster","subnets":["10.9.0.0/16","fd00:9::/64"],"gateway":["fd00:9::5","10.9.0.1"],
            "rangeStart":"10.9.1.0"}"#;
        let expected = [
            r#"{"subnet":"10.9.0.0/16","gateway":"10.9.0.1","ranges":["10.9.1.0-10.9.255.255"]}"#,
            r#"{"subnet":"fd00:9::/64","gateway":"fd00:9::5"}"#,
        ];
        assert_eq!(subnets(two), expected);
        let one = r#"{"type":"cluster","subnets":["10.9.0.0/16",7,"x"],"gateway":"10.9.0.9"}"#;
        assert_eq!(subnets(one), [r#"{"subnet":"10.9.0.0/16","gateway":"10.9.0.9"}"#]);
    }

    #[test]
    fn a_split_range_is_one_subnet() {
        let split = r#"{"ranges":[[{"subnet":"10.2.0.0/24","rangeEnd":"10.2.0.4","gateway":"10.2.0.1"},
            {"subnet":"10.2.0.0/24","rangeStart":"10.2.0.6"}]]}"#;
        let expected = r#"{"subnet":"10.2.0.0/24","gateway":"10.2.0.1","ranges":["10.2.0.0-10.2.0.4","10.2.0.6-10.2.0.255"]}"#;
        assert_eq!(subnets(split), [expected]);
    }

    #[test]
    fn what_is_no_subnet_is_passed_over() {
        let odd =
            r#"{"subnet":7,"ranges":[{"subnet":"x"},null,[null,{"subnet":"10.0.0.0/33"}]],"addresses":{}}"#;
        assert!(subnets(odd).is_empty());
    }

    #[test]
    fn prefixes_overlap_when_one_holds_the_other() {
        let at = |text: &str| cni::parse_cidr(text).unwrap();
        assert!(
            overlap(at("10.0.0.0/8"), at("10.90.1.0/24")) && overlap(at("10.90.1.0/24"), at("10.0.0.0/8"))
        );
        assert!(!overlap(at("10.90.1.0/24"), at("10.90.2.0/24")) && !overlap(at("0.0.0.0/0"), at("::/0")));
    }
}
