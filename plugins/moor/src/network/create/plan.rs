//! A description as it is meant: every value checked, and what is contradictory refused.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cni::Json;

use crate::failure::Failure;
use crate::networks;
use crate::subnets::Subnet;
use crate::suggest::nearest;

use super::options::{self, Key};
use super::{Spec, address, driver, overlay};

pub use super::driver::Driver;

/// The longest name of a network, in bytes: it is a part of the names of files.
const NAME_MAX: usize = 200;
/// The longest name of a link, in bytes (IFNAMSIZ - 1, linux/if.h).
const LINK_MAX: usize = 15;

/// Who gives addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipam {
    /// Ranges of this host.
    HostLocal,
    /// Nobody: the network has no layer 3.
    Nobody,
    /// A server of the wire.
    Dhcp,
    /// Each attachment names its own.
    Static,
    /// Blocks that this host has of the cluster's subnets.
    Cluster,
}

impl Ipam {
    /// Whether it gives addresses of subnets that the network has.
    pub fn has_subnets(self) -> bool {
        matches!(self, Self::HostLocal | Self::Cluster)
    }

    /// The plugin's name.
    pub fn plugin(self) -> Option<&'static str> {
        match self {
            Self::HostLocal => Some("host-local"),
            Self::Nobody => None,
            Self::Dhcp => Some("dhcp"),
            Self::Static => Some("static"),
            Self::Cluster => Some("cluster"),
        }
    }
}

/// The checked description.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The network's name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The first plugin.
    pub driver: Driver,
    /// No way outside.
    pub internal: bool,
    /// Who gives addresses.
    pub ipam: Ipam,
    /// Keys of the IPAM plugin.
    pub ipam_keys: Vec<(String, Json)>,
    /// The subnets that are given, and later the chosen ones, too.
    pub subnets: Vec<Subnet>,
    /// An IPv4 subnet is still to be chosen.
    pub lacks_ipv4: bool,
    /// An IPv6 subnet is still to be chosen.
    pub lacks_ipv6: bool,
    /// Addresses that others have.
    pub aux: Vec<(String, String)>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The options as they were given.
    pub options: Vec<(String, String)>,
    /// The name of the bridge, when it is given.
    pub bridge: Option<String>,
    /// The parent, when it is given.
    pub parent: Option<String>,
    /// Keys of the first plugin, in order.
    pub keys: Vec<(&'static str, Json)>,
    /// The outside sees the host's address.
    pub ip_masq: bool,
    /// Other networks do not reach this one; `None` is as far as the plugins allow.
    pub isolate: Option<bool>,
    /// The VLAN.
    pub vlan: Option<u64>,
    /// Names of containers; `None` is as far as the plugins allow.
    pub dns: Option<bool>,
    /// Keys of `dns`.
    pub dns_keys: Vec<(&'static str, Json)>,
    /// Routes of the containers.
    pub routes: Vec<Json>,
    /// Mark it as nerdctl's.
    pub for_nerdctl: bool,
}

impl Plan {
    /// Checks a description. It looks at nothing else.
    pub fn of(spec: &Spec) -> Result<Self, Failure> {
        name(&spec.name)?;
        let driver = driver(&spec.driver)?;
        let ipam = ipam(&spec.ipam_driver, driver)?;
        let mut plan = Self {
            name: spec.name.clone(),
            id: networks::id(&spec.name),
            driver,
            internal: spec.internal,
            ipam,
            ipam_keys: Vec::new(),
            subnets: address::subnets(spec)?,
            lacks_ipv4: false,
            lacks_ipv6: false,
            aux: spec.aux_addresses.clone(),
            labels: spec.labels.clone(),
            options: spec.options.clone(),
            bridge: None,
            parent: None,
            keys: Vec::new(),
            ip_masq: true,
            isolate: None,
            vlan: None,
            dns: spec.disable_dns.then_some(false),
            dns_keys: Vec::new(),
            routes: spec.routes.iter().map(|text| route(text)).collect::<Result<_, _>>()?,
            for_nerdctl: spec.for_nerdctl,
        };
        plan.families(spec)?;
        if driver == Driver::Overlay {
            overlay::refine(&mut plan, spec)?;
        } else {
            address::refine(&mut plan.subnets, spec)?;
        }
        for (key, value) in &spec.ipam_options {
            let value = options::ipam(ipam.plugin().unwrap_or("none"), key, value)?;
            plan.ipam_keys.push((key.clone(), value));
        }
        plan.names(spec)?;
        let mut given = Vec::new();
        for (name, value) in &spec.options {
            let key = options::key(name)?;
            if given.contains(&key) {
                return Err(Failure::refused(format!("option {name} is given twice")));
            }
            given.push(key);
            plan.option(key, name, value)?;
        }
        plan.ensure_consistent()?;
        Ok(plan)
    }

    /// Which subnets are still to be chosen. Docker's `--ipv6` adds a family; a subnet of IPv6
    /// without it is the only family, as with podman.
    fn families(&mut self, spec: &Spec) -> Result<(), Failure> {
        let has = |v4: bool| self.subnets.iter().any(|subnet| subnet.subnet.is_ipv4() == v4);
        for (flag, asked, v4) in [("--ipv4", spec.ipv4, true), ("--ipv6", spec.ipv6, false)] {
            if asked == Some(false) && has(v4) {
                return Err(Failure::refused(format!("{flag}=false, and a subnet of this family")));
            }
        }
        if !self.ipam.has_subnets() {
            return match self.ipam.plugin() {
                _ if spec.subnets.is_empty() => Ok(()),
                Some(plugin) => Err(Failure::refused(format!("the IPAM driver {plugin} takes no subnets"))),
                None => Err(Failure::refused("the IPAM driver none gives no addresses: leave --subnet out")),
            };
        }
        let wants_v4 = spec.ipv4.unwrap_or(!has(false) || spec.ipv6 == Some(true));
        self.lacks_ipv4 = wants_v4 && !has(true);
        self.lacks_ipv6 = spec.ipv6 == Some(true) && !has(false);
        if self.subnets.is_empty() && !self.lacks_ipv4 && !self.lacks_ipv6 {
            return Err(Failure::refused("no family is left: --ipv6 or --ipam-driver none"));
        }
        Ok(())
    }

    fn names(&mut self, spec: &Spec) -> Result<(), Failure> {
        if self.internal {
            self.dns_keys.push(("internal", Json::Bool(true)));
        }
        if spec.dns.is_empty() {
            return Ok(());
        }
        // glibc uses no more servers (MAXNS, resolv.h), and neither does the plugin.
        if spec.dns.len() > 3 {
            return Err(Failure::refused("--dns: at most three servers"));
        }
        let server = |text: &String| address::address("--dns", text).map(|ip| Json::from(ip.to_string()));
        let servers = spec.dns.iter().map(server).collect::<Result<_, _>>()?;
        self.needs_dns("--dns")?;
        self.dns_keys.push(("upstreams", Json::Array(servers)));
        Ok(())
    }

    fn needs_dns(&mut self, what: &str) -> Result<(), Failure> {
        if self.dns == Some(false) {
            return Err(Failure::refused(format!("{what}: containers have no names here, by --disable-dns")));
        }
        self.dns = Some(true);
        Ok(())
    }

    fn option(&mut self, key: Key, name: &str, value: &str) -> Result<(), Failure> {
        driver::ensure_takes(self.driver, key, name)?;
        match key {
            Key::Bridge => self.bridge = Some(link_name(name, value)?),
            Key::Parent => self.parent = Some(link_name(name, value)?),
            Key::Mtu => self.keys.push(("mtu", driver::mtu(self.driver, name, value)?)),
            Key::IpMasq => self.ip_masq = options::flag(name, value)?,
            Key::Icc => {
                let together = options::flag(name, value)?;
                self.keys.extend((!together).then_some(("portIsolation", Json::Bool(true))));
            }
            Key::Mode => {
                let mode = options::word(name, value, self.driver.modes())?;
                self.keys.push(("mode", mode.into()));
            }
            Key::Flag => {
                let flag = options::word(name, value, driver::FLAGS)?;
                self.keys.push(("flag", flag.into()));
            }
            Key::Vlan => {
                let id = options::number(name, value, 1..=4094)?;
                self.vlan = Some(id);
                self.keys.push(("vlan", id.into()));
            }
            Key::VlanTrunk => self.keys.push(("vlanTrunk", options::trunk(name, value)?)),
            Key::Isolate => self.isolate = Some(options::flag(name, value)?),
            Key::HostAccess => {
                let access = options::flag(name, value)?;
                self.keys.extend(access.then_some(("hostAccess", Json::Bool(true))));
            }
            Key::DetectConflict => {
                let time = options::number(name, value, 1..=10_000)?;
                self.keys.push(("detectConflict", Json::Object(vec![("timeoutMs".into(), time.into())])));
            }
            Key::Cooldown => {
                let seconds = options::number(name, value, 0..=u32::MAX.into())?;
                self.ipam_keys.push(("cooldown".into(), seconds.into()));
            }
            Key::Domain => {
                self.needs_dns(name)?;
                self.dns_keys.push(("domainName", value.into()));
            }
            Key::Encrypted | Key::Multicast => {
                let key = if key == Key::Encrypted { "encrypted" } else { "multicast" };
                let is_set = options::flag(name, value)?;
                self.keys.extend(is_set.then_some((key, Json::Bool(true))));
            }
            Key::HostBinding | Key::InterfacePrefix | Key::BroadcastLimit | Key::VxlanIds => {}
        }
        Ok(())
    }

    fn ensure_consistent(&self) -> Result<(), Failure> {
        let layer3 = self.ipam != Ipam::Nobody;
        let has = |key: &str| self.keys.iter().any(|(known, _)| *known == key);
        for (contradiction, text) in [
            (self.internal && self.parent.is_some(), "an internal network has no parent"),
            (
                self.internal && self.vlan.is_some() && self.driver != Driver::Bridge,
                "an internal network has no VLAN of a parent",
            ),
            (self.internal && self.ipam == Ipam::Dhcp, "an internal network has no DHCP server"),
            (!layer3 && self.driver == Driver::Ipvlan, "ipvlan needs addresses: another --ipam-driver"),
            (!layer3 && !self.routes.is_empty(), "routes need addresses"),
            (!layer3 && has("hostAccess"), "hostAccess needs addresses"),
            (!layer3 && has("detectConflict"), "detectConflict needs addresses"),
            (
                !self.ipam.has_subnets() && self.ipam_keys.iter().any(|(key, _)| key == "cooldown"),
                "cooldown is host-local's, and cluster's",
            ),
            (
                self.vlan_link().is_some_and(|link| link.len() > LINK_MAX),
                "with its VLAN the bridge's name is longer than 15 bytes",
            ),
        ] {
            if contradiction {
                return Err(Failure::refused(text));
            }
        }
        Ok(())
    }

    /// The bridge's name: given, or derived from the id as nerdctl does. With a VLAN it is shorter,
    /// since the host's link in the VLAN is named after it.
    pub fn bridge_name(&self) -> String {
        let digits = if self.vlan.is_some() { 7 } else { 12 };
        let derived = || format!("br-{}", self.id.chars().take(digits).collect::<String>());
        self.bridge.clone().unwrap_or_else(derived)
    }

    fn vlan_link(&self) -> Option<String> {
        let vlan = self.vlan.filter(|_| self.driver == Driver::Bridge)?;
        Some(format!("{}.{vlan}", self.bridge_name()))
    }
}

/// The name of a network.
pub fn name(name: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let sound = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(plain)
        && name.len() <= NAME_MAX;
    if matches!(name, "none" | "host") {
        return Err(Failure::refused(format!("{name:?} is no network of its own")));
    }
    if sound {
        return Ok(());
    }
    let shown: String = name.chars().take(50).collect();
    Err(Failure::refused(format!(
        "bad name {shown:?}: letters, digits, and _ . - after the first, at most {NAME_MAX} bytes"
    )))
}

fn driver(name: &str) -> Result<Driver, Failure> {
    match name {
        "" | "bridge" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        "overlay" => Ok(Driver::Overlay),
        "none" | "host" => {
            Err(Failure::refused(format!("driver {name}: such containers have no network of their own")))
        }
        _ => {
            let failure =
                Failure::refused(format!("unknown driver {name:?}: bridge, macvlan, ipvlan or overlay"));
            Err(match nearest(name, ["bridge", "macvlan", "ipvlan", "overlay"]) {
                Some(meant) => failure.hint(format!("did you mean {meant:?}?")),
                None => failure,
            })
        }
    }
}

fn ipam(name: &str, driver: Driver) -> Result<Ipam, Failure> {
    match name {
        "" | "default" | "cluster" if driver == Driver::Overlay => Ok(Ipam::Cluster),
        "cluster" => Err(Failure::refused("the IPAM driver cluster is for driver overlay")),
        _ if driver == Driver::Overlay => Err(Failure::refused(format!(
            "driver overlay has its addresses from cluster, so that no two hosts give one: leave \
             --ipam-driver {name} out"
        ))),
        "" | "default" | "host-local" => Ok(Ipam::HostLocal),
        "none" => Ok(Ipam::Nobody),
        "dhcp" => Ok(Ipam::Dhcp),
        "static" => Ok(Ipam::Static),
        _ => Err(Failure::refused(format!(
            "unknown IPAM driver {name:?}: default, host-local, none, dhcp or static"
        ))),
    }
}

/// What the kernel takes as the name of a link (dev_valid_name, net/core/dev.c), in ASCII.
fn link_name(option: &str, name: &str) -> Result<String, Failure> {
    let odd = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'/' | b':');
    if name.is_empty() || name.len() > LINK_MAX || matches!(name, "." | "..") || name.bytes().any(odd) {
        return Err(Failure::refused(format!("option {option}: {name:?} is not the name of a link")));
    }
    Ok(name.to_owned())
}

/// `DESTINATION,GATEWAY[,METRIC]`.
fn route(text: &str) -> Result<Json, Failure> {
    let refused = |why: &str| Failure::refused(format!("route {text:?}: {why}"));
    let parts: Vec<&str> = text.split(',').collect();
    let (destination, gateway, metric) = match parts[..] {
        [destination, gateway] => (destination, gateway, None),
        [destination, gateway, metric] => (destination, gateway, Some(metric)),
        _ => return Err(refused("expected DESTINATION,GATEWAY or DESTINATION,GATEWAY,METRIC")),
    };
    let prefix = cni::parse_cidr(destination).map_err(|_| refused("the destination is no prefix"))?;
    let gateway: IpAddr = cni::parse_ip(gateway).map_err(|_| refused("the gateway is no address"))?;
    if prefix.is_ipv4() != gateway.is_ipv4() {
        return Err(refused("destination and gateway are of different families"));
    }
    let prefix = crate::subnets::masked(prefix);
    let mut route =
        vec![("dst".to_owned(), prefix.to_string().into()), ("gw".to_owned(), gateway.to_string().into())];
    if let Some(metric) = metric {
        let metric = options::number("metric", metric, 0..=u32::MAX.into())?;
        route.push(("priority".to_owned(), metric.into()));
    }
    Ok(Json::Object(route))
}
