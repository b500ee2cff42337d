//! The services of a project: their networks and published ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::yaml::{Fault, Node, Place, Value};

use super::keys::{ensure_known, words};
use super::ports::{self, Published};

const KEYS: [&str; 9] = [
    "aliases",
    "driver_opts",
    "gw_priority",
    "interface_name",
    "ipv4_address",
    "ipv6_address",
    "link_local_ips",
    "mac_address",
    "priority",
];

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The name.
    pub name: String,
    /// Where it stands.
    pub at: Place,
    /// The name of its container, when the file gives one.
    pub container_name: Option<String>,
    /// Its networks; `default` when the file has none. Empty with a mode.
    pub members: Vec<Member>,
    /// What it has instead of networks of its own.
    pub mode: Option<Mode>,
    /// Its published ports.
    pub ports: Vec<Published>,
    /// The ports that it serves on its networks.
    pub expose: Vec<String>,
    /// Other services, by names that it alone is to know.
    pub links: Vec<Link>,
    /// A MAC address for one of its networks.
    pub mac_address: Option<Place>,
}

/// `network_mode`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mode {
    /// Where it stands.
    pub at: Place,
    /// What.
    pub kind: ModeKind,
}

/// What a service has instead of networks of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum ModeKind {
    /// `host`, `none` or `bridge`.
    Word(&'static str),
    /// The networks of another service.
    Service(String),
    /// The networks of a container.
    Container(String),
}

/// A service on a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The key of the network.
    pub network: String,
    /// Where it stands.
    pub at: Place,
    /// More names on this network.
    pub aliases: Vec<String>,
    /// Addresses, of each family at most one.
    pub addresses: Vec<(IpAddr, Place)>,
    /// The MAC address.
    pub mac: Option<(String, Place)>,
    /// The name of the interface in the container.
    pub ifname: Option<(String, Place)>,
    /// The network with the highest has the default route.
    pub gw_priority: Option<(i64, Place)>,
    /// The network with the highest comes first.
    pub priority: i64,
    /// Keys that nothing here can honour.
    pub ignored: Vec<(&'static str, Place)>,
}

/// A link.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Where it stands.
    pub at: Place,
    /// The other service.
    pub service: String,
    /// The name that it is to have.
    pub alias: String,
}

/// Reads the service of this name.
pub fn read(name: &str, at: Place, node: &Node) -> Result<Service, Fault> {
    let map = node.map(&format!("the service {name:?}"))?;
    let mut service = Service {
        name: name.into(),
        at,
        container_name: None,
        members: Vec::new(),
        mode: None,
        ports: Vec::new(),
        expose: Vec::new(),
        links: Vec::new(),
        mac_address: None,
    };
    ensure_name(name, at, "the service")?;
    let mut networks = None;
    for (key, value) in map.0.iter().filter(|(_, value)| !value.is_null()) {
        match &*key.text {
            "container_name" => {
                let name = value.text("\"container_name\"")?;
                ensure_name(name, value.at, "the container")?;
                service.container_name = Some(name.to_owned());
            }
            "expose" => service.expose = words(value, "\"expose\"")?,
            "links" => service.links = links(value)?,
            "mac_address" => service.mac_address = Some(key.at),
            "network_mode" => service.mode = Some(Mode { at: key.at, kind: mode(value)? }),
            "networks" => networks = Some(value),
            _ => {
                let ports = value.list("\"ports\"")?;
                service.ports = ports.iter().map(|node| ports::read(node)).collect::<Result<_, _>>()?;
            }
        }
    }
    match (networks, &service.mode) {
        (Some(networks), Some(_)) => {
            let text = "\"networks\" and \"network_mode\" exclude each other";
            return Err(Fault::new(networks.at, text));
        }
        (Some(networks), None) => service.members = members(networks)?,
        (None, Some(_)) => {}
        (None, None) => service.members = vec![member("default", at)],
    }
    Ok(service)
}

/// Names become those of containers and of DNS.
fn ensure_name(name: &str, at: Place, what: &str) -> Result<(), Fault> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_known) && name.len() < 200
    {
        return Ok(());
    }
    Err(Fault::new(at, format!("{what} {name:?} is no name of letters, digits and \"_.-\"")))
}

fn links(node: &Node) -> Result<Vec<Link>, Fault> {
    let link = |node: &std::rc::Rc<Node>| {
        let text = node.text("an entry of \"links\"")?;
        let (service, alias) = text.split_once(':').unwrap_or((text, text));
        Ok(Link { at: node.at, service: service.into(), alias: alias.into() })
    };
    node.list("\"links\"")?.iter().map(link).collect()
}

fn mode(node: &Node) -> Result<ModeKind, Fault> {
    let text = node.text("\"network_mode\"")?;
    match text.split_once(':') {
        Some(("service", name)) => Ok(ModeKind::Service(name.into())),
        Some(("container", name)) => {
            ensure_name(name, node.at, "the container")?;
            Ok(ModeKind::Container(name.into()))
        }
        _ => match ["host", "none", "bridge"].into_iter().find(|known| *known == text) {
            Some(word) => Ok(ModeKind::Word(word)),
            None => {
                let modes = "host, none, bridge, service:NAME, container:NAME";
                Err(Fault::new(node.at, format!("{text:?} is no mode of {modes}")))
            }
        },
    }
}

fn member(network: &str, at: Place) -> Member {
    Member {
        network: network.into(),
        at,
        aliases: Vec::new(),
        addresses: Vec::new(),
        mac: None,
        ifname: None,
        gw_priority: None,
        priority: 0,
        ignored: Vec::new(),
    }
}

/// The networks: those of higher priority first, then by name, as docker attaches them.
fn members(node: &Node) -> Result<Vec<Member>, Fault> {
    let mut members = Vec::<Member>::new();
    match &node.value {
        Value::List(list) => {
            for entry in list {
                let key = entry.text("an entry of \"networks\"")?;
                if members.iter().any(|member| member.network == key) {
                    return Err(Fault::new(entry.at, format!("the network {key:?} is there twice")));
                }
                members.push(member(key, entry.at));
            }
        }
        _ => {
            for (key, value) in &node.map("\"networks\"")?.0 {
                members.push(read_member(&key.text, key.at, value)?);
            }
        }
    }
    let order = |member: &Member| (std::cmp::Reverse(member.priority), member.network.clone());
    members.sort_by_key(order);
    Ok(members)
}

fn read_member(network: &str, at: Place, node: &Node) -> Result<Member, Fault> {
    let mut member = member(network, at);
    if node.is_null() {
        return Ok(member);
    }
    let map = node.map(&format!("the network {network:?} of a service"))?;
    ensure_known(map, &KEYS)?;
    for (key, value) in map.0.iter().filter(|(_, value)| !value.is_null()) {
        match &*key.text {
            "aliases" => {
                member.aliases = words(value, "\"aliases\"")?;
                for (alias, node) in member.aliases.iter().zip(value.list("\"aliases\"")?) {
                    ensure_name(alias, node.at, "the alias")?;
                }
            }
            "ipv4_address" => member.addresses.push((address::<Ipv4Addr>(value, "IPv4")?, value.at)),
            "ipv6_address" => member.addresses.push((address::<Ipv6Addr>(value, "IPv6")?, value.at)),
            "mac_address" => member.mac = Some((mac(value)?, key.at)),
            "interface_name" => member.ifname = Some((ifname(value)?, key.at)),
            "gw_priority" => member.gw_priority = Some((value.int("\"gw_priority\"")?, key.at)),
            "priority" => member.priority = value.int("\"priority\"")?,
            "link_local_ips" => member.ignored.push(("link_local_ips", key.at)),
            "driver_opts" => member.ignored.push(("driver_opts", key.at)),
            _ => {}
        }
    }
    Ok(member)
}

fn address<A: FromStr + Into<IpAddr>>(node: &Node, family: &str) -> Result<IpAddr, Fault> {
    let text = node.text("an address")?;
    let address =
        text.parse::<A>().map_err(|_| Fault::new(node.at, format!("{text:?} is no {family} address")))?;
    Ok(address.into())
}

fn mac(node: &Node) -> Result<String, Fault> {
    let text = node.text("\"mac_address\"")?;
    let parts: Vec<_> = text.split([':', '-']).collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.len() == 6 && parts.iter().all(is_byte) {
        return Ok(parts.join(":").to_ascii_lowercase());
    }
    Err(Fault::new(node.at, format!("{text:?} is no MAC address")))
}

fn ifname(node: &Node) -> Result<String, Fault> {
    let text = node.text("\"interface_name\"")?;
    let is_name = !matches!(text, "." | "..")
        && text.len() <= 15
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:,=".contains(&byte));
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(Fault::new(node.at, format!("{text:?} is no name of an interface")))
    }
}
