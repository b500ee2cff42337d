//! What the record of an attachment says must exist, whoever made it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use netlink::Mac;
use runtime::{Conflist, Record};
use serde_json::{Map, Value};

use crate::subnets::masked;

/// What must exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    pub ifname: String,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub addresses: Vec<IpNetwork>,
    pub routes: Vec<ExpectedRoute>,
    /// The bridge that the host's link is a port of.
    pub bridge: Option<String>,
    /// Addresses of that bridge.
    pub gateways: Vec<IpNetwork>,
    /// The files of host-local, and the text that they hold.
    pub leases: Vec<PathBuf>,
    pub holder: String,
}

/// A route of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedRoute {
    pub to: IpNetwork,
    pub gateway: Option<IpAddr>,
    pub table: Option<u32>,
}

impl Expected {
    /// By the result and the list of the time of ADD.
    pub fn of(record: &Record, list: Option<&Conflist>, cache_dir: &Path) -> Self {
        let ifname = &record.attachment.ifname;
        let empty = Value::Null;
        let result = record.result.as_ref().unwrap_or(&empty);
        let own = array(result, "interfaces").iter().position(|one| {
            one.get("sandbox").is_some_and(|sandbox| sandbox != "") && text(one, "name") == Some(ifname)
        });
        let interface = own.and_then(|own| array(result, "interfaces").get(own)).unwrap_or(&empty);
        let ips = array(result, "ips").iter().filter(|ip| {
            let index = ip.get("interface").and_then(Value::as_u64);
            index.is_none() || index.and_then(|at| usize::try_from(at).ok()) == own
        });
        let ips: Vec<(IpNetwork, Option<IpAddr>)> = ips
            .filter_map(|ip| {
                Some((text(ip, "address")?.parse().ok()?, text(ip, "gateway").and_then(|gw| gw.parse().ok())))
            })
            .collect();
        let none = Map::new();
        let first = list.and_then(|list| list.plugins.first());
        let object = first.map_or(&none, |plugin| &plugin.object);
        let is = |key: &str| object.get(key).and_then(Value::as_bool) == Some(true);
        let is_bridge = first.is_some_and(|plugin| plugin.plugin_type == "bridge");
        let has_gateways = is_bridge && (is("isGateway") || is("isDefaultGateway"));
        let gateway =
            |(net, gateway): &(IpNetwork, Option<IpAddr>)| IpNetwork::new((*gateway)?, net.prefix()).ok();
        let mtu = |object: &Value| {
            object.get("mtu").and_then(Value::as_u64).and_then(|mtu| u32::try_from(mtu).ok())
        };
        let id = &record.attachment.container_id;
        Self {
            mac: text(interface, "mac").and_then(|mac| mac.parse().ok()),
            mtu: mtu(interface).filter(|mtu| *mtu > 0),
            addresses: ips.iter().map(|(net, _)| *net).collect(),
            routes: array(result, "routes").iter().filter_map(route).collect(),
            bridge: is_bridge
                .then(|| object.get("bridge").and_then(Value::as_str).unwrap_or("cni0").to_owned()),
            gateways: ips.iter().filter(|_| has_gateways).filter_map(gateway).collect(),
            leases: leases(object, cache_dir, &record.network, &ips),
            holder: format!("{}\r\n{ifname}", id.trim()),
            ifname: ifname.clone(),
        }
    }
}

fn array<'v>(object: &'v Value, key: &str) -> &'v [Value] {
    object.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn route(value: &Value) -> Option<ExpectedRoute> {
    let to = masked(text(value, "dst")?.parse().ok()?);
    let table = value.get("table").and_then(Value::as_u64).and_then(|table| u32::try_from(table).ok());
    Some(ExpectedRoute { to, gateway: text(value, "gw").and_then(|gw| gw.parse().ok()), table })
}

fn leases(
    object: &Map<String, Value>,
    cache_dir: &Path,
    network: &str,
    ips: &[(IpNetwork, Option<IpAddr>)],
) -> Vec<PathBuf> {
    let Some(ipam) = object.get("ipam").filter(|ipam| text(ipam, "type") == Some("host-local")) else {
        return Vec::new();
    };
    let is_one_name = !matches!(network, "" | "." | "..") && !network.contains(['/', '\0']);
    let dir = text(ipam, "dataDir").map_or_else(|| cache_dir.join("networks"), PathBuf::from).join(network);
    let file = |(net, _): &(IpNetwork, _)| dir.join(net.ip().to_string());
    ips.iter().filter(|_| is_one_name).map(file).collect()
}
