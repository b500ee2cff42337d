//! What the result of an ADD claims about an attachment.

use std::net::IpAddr;

use netlink::Mac;
use serde_json::Value;

/// The part of a result that is about one interface of the container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    /// The path of the network namespace.
    pub sandbox: Option<String>,
    /// The MAC address.
    pub mac: Option<Mac>,
    /// The addresses, in the result's order.
    pub addresses: Vec<IpAddr>,
    /// The gateways.
    pub gateways: Vec<IpAddr>,
    /// The interfaces outside of the container.
    pub host_links: Vec<String>,
}

impl Claim {
    /// Reads a result of any version.
    pub fn of(result: Option<&Value>, ifname: &str) -> Self {
        let Some(result) = result else { return Self::default() };
        let mut claim = Self::default();
        let interfaces = list(result, "interfaces");
        let own = interfaces.iter().position(|one| is_inside(one) && text(one, "name") == Some(ifname));
        if let Some(one) = own.and_then(|own| interfaces.get(own)) {
            claim.sandbox = text(one, "sandbox").map(ToOwned::to_owned);
            claim.mac = text(one, "mac").and_then(|mac| mac.parse().ok());
        }
        let outside = interfaces.iter().filter(|one| !is_inside(one));
        claim.host_links = outside.filter_map(|one| text(one, "name")).map(ToOwned::to_owned).collect();
        for ip in list(result, "ips") {
            let index = ip.get("interface").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
            let is_own = match (index, own) {
                (Some(index), Some(own)) => index == own,
                (Some(index), None) => interfaces.get(index).is_some_and(is_inside),
                (None, _) => true,
            };
            if is_own {
                claim.add(text(ip, "address"), text(ip, "gateway"));
            }
        }
        // Before version 0.3.0.
        for ip in ["ip4", "ip6"].iter().filter_map(|key| result.get(key)) {
            claim.add(text(ip, "ip"), text(ip, "gateway"));
        }
        claim
    }

    fn add(&mut self, address: Option<&str>, gateway: Option<&str>) {
        let address = address.map(|address| address.split_once('/').map_or(address, |(ip, _)| ip));
        self.addresses.extend(address.and_then(|address| address.parse::<IpAddr>().ok()));
        self.gateways.extend(gateway.and_then(|gateway| gateway.parse::<IpAddr>().ok()));
    }
}

fn list<'v>(object: &'v Value, key: &str) -> &'v [Value] {
    object.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn is_inside(interface: &Value) -> bool {
    text(interface, "sandbox").is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_of_each_version_has_its_addresses() {
        let new = json!({"interfaces": [
            {"name": "br0"}, {"name": "veth1"},
            {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/c1"},
            {"name": "eth1", "sandbox": "/run/netns/c1"}],
            "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 2},
                {"address": "10.9.9.9/24", "interface": 3}]});
        let claim = Claim::of(Some(&new), "eth0");
        assert_eq!(claim.addresses, ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        assert_eq!(claim.gateways, ["10.1.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(claim.host_links, ["br0", "veth1"]);
        assert_eq!(claim.sandbox.as_deref(), Some("/run/netns/c1"));
        assert_eq!(claim.mac.unwrap().to_string(), "02:00:00:00:00:01");
        let old = json!({"ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1"}});
        assert_eq!(Claim::of(Some(&old), "eth0").addresses.len(), 1);
        let broken = json!({"interfaces": 3, "ips": [7, {"address": "x"}], "ip4": []});
        assert_eq!(Claim::of(Some(&broken), "eth0"), Claim::default());
    }
}
