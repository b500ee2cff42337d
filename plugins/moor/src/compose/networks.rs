//! The networks of a project.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use ipnetwork::IpNetwork;

use crate::yaml::{Fault, Node, Place};

use super::keys::{ensure_known, pairs};

const KEYS: [&str; 10] = [
    "attachable",
    "driver",
    "driver_opts",
    "enable_ipv4",
    "enable_ipv6",
    "external",
    "internal",
    "ipam",
    "labels",
    "name",
];

/// A network of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The key that services name it by.
    pub key: String,
    /// Where it stands.
    pub at: Place,
    /// The name of the conflist.
    pub name: String,
    /// None for one that somebody else makes.
    pub settings: Option<Settings>,
}

/// What the file has about a network of the project.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `bridge`, `macvlan`, `ipvlan`.
    pub driver: Option<String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// The IPAM driver.
    pub ipam_driver: Option<String>,
    /// Its options.
    pub ipam_options: BTreeMap<String, String>,
    /// The subnets.
    pub subnets: Vec<Subnet>,
    /// No way outside.
    pub internal: bool,
    /// Whether there are IPv4 addresses.
    pub ipv4: Option<bool>,
    /// Whether there are IPv6 addresses.
    pub ipv6: Option<bool>,
    /// The labels of the file.
    pub labels: BTreeMap<String, String>,
    /// Where the driver's options stand, and those of the IPAM driver.
    pub places: Vec<(String, Place)>,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq)]
pub struct Subnet {
    /// The subnet, without host bits.
    pub subnet: IpNetwork,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The part that addresses are given of.
    pub range: Option<IpNetwork>,
    /// Addresses that are not given, by the names of their owners.
    pub aux: BTreeMap<String, IpAddr>,
}

impl Subnet {
    /// The gateway: that of the file, or the first address.
    pub fn gateway(&self) -> IpAddr {
        self.gateway.unwrap_or_else(|| match self.subnet.network() {
            IpAddr::V4(address) => IpAddr::V4(address.to_bits().wrapping_add(1).into()),
            IpAddr::V6(address) => IpAddr::V6(address.to_bits().wrapping_add(1).into()),
        })
    }
}

/// Reads the network of this key.
pub fn read(key: &str, at: Place, node: &Node, project: &str) -> Result<Network, Fault> {
    let own_name = format!("{project}_{key}");
    if node.is_null() {
        return Ok(Network { key: key.into(), at, name: own_name, settings: Some(Settings::default()) });
    }
    let map = node.map(&format!("the network {key:?}"))?;
    ensure_known(map, &KEYS)?;
    let name = map.get("name").map(|name| name.text("\"name\"").map(ToOwned::to_owned)).transpose()?;
    let external = map.get("external").map(|node| external(node)).transpose()?.unwrap_or_default();
    if external.is_external {
        let other = map.0.iter().find(|(key, _)| !matches!(&*key.text, "name" | "external"));
        if let Some((other, _)) = other.filter(|(other, _)| !other.text.starts_with("x-")) {
            let text =
                format!("{:?} has no effect on an external network: somebody else makes it", other.text);
            return Err(Fault::new(other.at, text));
        }
        let name = external.name.or(name).unwrap_or_else(|| key.into());
        return Ok(Network { key: key.into(), at, name, settings: None });
    }
    let name = name.unwrap_or(own_name);
    Ok(Network { key: key.into(), at, name, settings: Some(settings(node)?) })
}

#[derive(Default)]
struct External {
    is_external: bool,
    name: Option<String>,
}

/// `true`, or a map with a name, as files of version 2 have it.
fn external(node: &Node) -> Result<External, Fault> {
    let Ok(map) = node.map("") else {
        return Ok(External { is_external: node.bool("\"external\"")?, name: None });
    };
    ensure_known(map, &["name"])?;
    let name = map.get("name").map(|name| name.text("\"name\"").map(ToOwned::to_owned)).transpose()?;
    Ok(External { is_external: true, name })
}

fn settings(node: &Node) -> Result<Settings, Fault> {
    let mut settings = Settings::default();
    for (key, value) in node.map("a network")?.0.iter().filter(|(_, value)| !value.is_null()) {
        match &*key.text {
            "driver" => settings.driver = Some(driver(value)?),
            "driver_opts" => {
                settings.options = pairs(value, "\"driver_opts\"")?;
                settings.places.extend(places(value));
            }
            "enable_ipv4" => settings.ipv4 = Some(value.bool("\"enable_ipv4\"")?),
            "enable_ipv6" => settings.ipv6 = Some(value.bool("\"enable_ipv6\"")?),
            "internal" => settings.internal = value.bool("\"internal\"")?,
            "labels" => settings.labels = pairs(value, "\"labels\"")?,
            "attachable" => drop(value.bool("\"attachable\"")?),
            "ipam" => ipam(value, &mut settings)?,
            _ => {}
        }
    }
    Ok(settings)
}

fn places(node: &Node) -> impl Iterator<Item = (String, Place)> {
    let map = node.map("").ok();
    map.into_iter().flat_map(|map| &map.0).map(|(key, _)| (key.text.to_string(), key.at))
}

fn driver(node: &Node) -> Result<String, Fault> {
    let driver = node.text("\"driver\"")?;
    if matches!(driver, "host" | "none" | "null") {
        let text = format!("{driver:?} is no network of its own; give the service network_mode: {driver}");
        return Err(Fault::new(node.at, text));
    }
    // `default` is what the runtime makes without the key.
    Ok(if driver == "default" { "bridge".into() } else { driver.into() })
}

fn ipam(node: &Node, settings: &mut Settings) -> Result<(), Fault> {
    let map = node.map("\"ipam\"")?;
    ensure_known(map, &["driver", "config", "options"])?;
    if let Some(driver) = map.get("driver") {
        settings.ipam_driver = Some(driver.text("\"driver\"")?.to_owned());
    }
    if let Some(options) = map.get("options") {
        settings.ipam_options = pairs(options, "\"options\"")?;
        settings.places.extend(places(options));
    }
    for config in map.get("config").map(|config| config.list("\"config\"")).transpose()?.unwrap_or_default() {
        settings.subnets.push(subnet(config)?);
    }
    Ok(())
}

fn subnet(node: &Rc<Node>) -> Result<Subnet, Fault> {
    let map = node.map("an entry of \"config\"")?;
    ensure_known(map, &["subnet", "gateway", "ip_range", "aux_addresses"])?;
    let Some(subnet) = map.get("subnet") else {
        return Err(Fault::new(node.at, "an entry of \"config\" needs a \"subnet\""));
    };
    let subnet = prefix(subnet, "\"subnet\"")?;
    let inside = |node: &Node, text: &str, what: &str| -> Result<IpAddr, Fault> {
        let address: IpAddr =
            text.parse().map_err(|_| Fault::new(node.at, format!("{what} {text:?} is no address")))?;
        if !subnet.contains(address) {
            return Err(Fault::new(node.at, format!("{what} {address} is outside of {subnet}")));
        }
        Ok(address)
    };
    let gateway = map.get("gateway").map(|node| inside(node, node.text("\"gateway\"")?, "the gateway"));
    let mut aux = BTreeMap::new();
    if let Some(node) = map.get("aux_addresses") {
        for (name, text) in pairs(node, "\"aux_addresses\"")? {
            let at = node.map("").ok().and_then(|map| map.get(&name)).unwrap_or(node);
            let address = inside(at, &text, "the address")?;
            aux.insert(name, address);
        }
    }
    let range = map.get("ip_range").map(|node| range(node, subnet)).transpose()?;
    Ok(Subnet { subnet, gateway: gateway.transpose()?, range, aux })
}

fn range(node: &Node, subnet: IpNetwork) -> Result<IpNetwork, Fault> {
    let range = prefix(node, "\"ip_range\"")?;
    if range.prefix() < subnet.prefix() || !subnet.contains(range.network()) {
        return Err(Fault::new(node.at, format!("the range {range} is outside of {subnet}")));
    }
    Ok(range)
}

/// A prefix without host bits.
fn prefix(node: &Node, what: &str) -> Result<IpNetwork, Fault> {
    let text = node.text(what)?;
    let prefix = cni::parse_cidr(text).map_err(|_| {
        Fault::new(node.at, format!("{what} {text:?} is no address with a length of its prefix"))
    })?;
    let whole = crate::subnets::masked(prefix);
    if whole != prefix {
        let text = format!("{what} {prefix} has host bits; did you mean {whole}?");
        return Err(Fault::new(node.at, text));
    }
    Ok(prefix)
}
