//! The configuration: the keys as written, with addresses as text, and the checked settings.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;

use cluster::block::Limits;
use cluster::net;
use cluster::record::Net;
use cni::keys::{Keys, Kind, ROUTES, TEXTS, key};
use cni::{Error, Json, Request, Route};
use ipnetwork::IpNetwork;
use leases::text;
use serde::Deserialize;
use sys::IpFamily;

use crate::error::ConfigError;

/// The default of `cooldown`, in seconds.
pub const COOLDOWN: u64 = 30;
/// Limits time and memory for any configuration. Far above those of real networks.
const MAX_EXCLUDED: usize = 4096;
const MAX_ROUTES: usize = 65_536;
const MAX_REQUESTED: usize = 1024;

/// The keys of the network configuration that cluster uses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    cluster: Option<String>,
    ipam: Option<IpamConf>,
    runtime_config: Option<RuntimeConf>,
    args: Option<ArgsConf>,
}

/// The `ipam` object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamConf {
    subnets: Option<Vec<Option<String>>>,
    gateway: Option<Json>,
    block_size: Option<u32>,
    exclude: Option<Vec<Option<String>>>,
    range_start: Option<String>,
    range_end: Option<String>,
    cooldown: Option<u64>,
    routes: Option<Vec<Route>>,
    resolv_conf: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConf {
    ips: Option<Vec<Option<String>>>,
    ip_ranges: Option<Json>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ArgsConf {
    cni: Option<CniArgsConf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct CniArgsConf {
    ips: Option<Vec<Option<String>>>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key("cluster", Kind::Text),
    key(
        "ipam",
        Kind::Object(&[
            key("subnets", TEXTS),
            key("gateway", Kind::Any),
            key("blockSize", Kind::Number(net::BLOCK_SIZES.0 as i64, net::BLOCK_SIZES.1 as u64)),
            key("exclude", TEXTS),
            key("rangeStart", Kind::Text),
            key("rangeEnd", Kind::Text),
            key("cooldown", Kind::Number(0, u64::MAX)),
            key("routes", ROUTES),
            key("resolvConf", Kind::Text),
        ]),
    ),
    key("runtimeConfig", Kind::Object(&[key("ips", TEXTS), key("ipRanges", Kind::Any)])),
    key("args", Kind::Object(&[key("cni", Kind::Object(&[key("ips", TEXTS)]))])),
]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Subnets, gateways and size of blocks, as the network's record has them; the rest is of no
    /// meaning here.
    pub want: Net,
    /// What is kept back.
    pub limits: Limits,
    /// For so many seconds a released address is not given again, unless no other is free.
    pub cooldown: u64,
    /// The address asked for of each subnet.
    pub asked: Vec<Option<IpAddr>>,
    /// The result's routes.
    pub routes: Vec<Route>,
    /// The resolver configuration file for the result.
    pub resolv_conf: Option<PathBuf>,
    /// The configuration of the host; the usual place if absent.
    pub host_conf: Option<PathBuf>,
}

impl Conf {
    /// Checks the configuration. `asked` is the value of `IP` in CNI_ARGS.
    pub fn check(self, asked: Option<IpAddr>) -> Result<Settings, ConfigError> {
        let ipam = self.ipam.ok_or(ConfigError::Lease(leases::ConfigError::NoIpam))?;
        let runtime = self.runtime_config.unwrap_or_default();
        if runtime.ip_ranges.is_some_and(|ranges| !is_empty(&ranges)) {
            return Err(ConfigError::IpRanges);
        }
        let subnets = subnets(ipam.subnets.unwrap_or_default())?;
        let gateways = gateways(ipam.gateway, &subnets)?;
        let want = Net {
            v: cluster::VERSION,
            vni: None,
            block_size: block_size(ipam.block_size, &subnets)?,
            subnets,
            gateways,
            mtu: None,
            encrypted: false,
            multicast: false,
            internal: false,
        };
        let lists = [self.args.and_then(|args| args.cni?.ips), runtime.ips];
        let mut requested = Vec::from_iter(asked);
        for list in lists.into_iter().flatten() {
            check_count("ips", list.len(), MAX_REQUESTED)?;
            for ip in list {
                requested.push(text::request(ip.as_deref().unwrap_or_default())?);
            }
        }
        let limits = Limits {
            exclude: exclude(ipam.exclude.unwrap_or_default())?,
            start: bound("rangeStart", &ipam.range_start, &want.subnets)?,
            end: bound("rangeEnd", &ipam.range_end, &want.subnets)?,
        };
        ensure_order(&limits)?;
        let routes = ipam.routes.unwrap_or_default();
        check_count("routes", routes.len(), MAX_ROUTES)?;
        Ok(Settings {
            asked: assign(&want, &limits, requested)?,
            limits,
            cooldown: ipam.cooldown.unwrap_or(COOLDOWN),
            routes,
            resolv_conf: path("resolvConf", &ipam.resolv_conf)?,
            host_conf: path("cluster", &self.cluster)?,
            want,
        })
    }
}

/// `""` and `null` mean absent.
fn nonempty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// Runtimes that have no ranges may send an empty list.
fn is_empty(ranges: &Json) -> bool {
    match ranges {
        Json::Null => true,
        Json::Array(sets) => sets.is_empty(),
        _ => false,
    }
}

fn check_count(key: &'static str, count: usize, bound: usize) -> Result<(), ConfigError> {
    if count > bound {
        Err(ConfigError::Lease(leases::ConfigError::TooMany(key, count, bound)))
    } else {
        Ok(())
    }
}

fn path(key: &'static str, text: &Option<String>) -> Result<Option<PathBuf>, ConfigError> {
    match nonempty(text) {
        None => Ok(None),
        Some(text) if text.starts_with('/') && !text.contains('\0') => Ok(Some(PathBuf::from(text))),
        Some(text) => Err(ConfigError::NotAbsolute(key, text.to_owned())),
    }
}

fn subnets(list: Vec<Option<String>>) -> Result<Vec<IpNetwork>, ConfigError> {
    if list.is_empty() || list.len() > 2 {
        return Err(ConfigError::CountOfSubnets(list.len()));
    }
    let mut subnets = Vec::with_capacity(list.len());
    for text in list {
        let subnet = text::subnet(text.as_deref().unwrap_or_default())?;
        let lengths = if subnet.is_ipv4() { 8..=29 } else { 32..=120 };
        if !lengths.contains(&subnet.prefix()) {
            return Err(ConfigError::SubnetLength(subnet));
        }
        if subnet.ip() != subnet.network() {
            return Err(ConfigError::Lease(leases::ConfigError::HostBits(subnet)));
        }
        subnets.push(subnet);
    }
    match subnets.as_slice() {
        [one, other] if one.is_ipv4() == other.is_ipv4() => Err(ConfigError::OneOfAFamily(*one, *other)),
        _ => Ok(subnets),
    }
}

/// A gateway of each subnet: a text, or a list of texts in any order; the first address where none is
/// given.
fn gateways(given: Option<Json>, subnets: &[IpNetwork]) -> Result<Vec<IpAddr>, ConfigError> {
    let texts = match given {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(texts)) => texts,
        Some(text) => vec![text],
    };
    let mut given = Vec::with_capacity(texts.len());
    check_count("gateway", texts.len(), 2)?;
    for text in texts {
        match text {
            Json::String(text) if text.is_empty() => {}
            Json::String(text) => given.push(cni::parse_ip(&text)?),
            _ => return Err(ConfigError::GatewayType),
        }
    }
    let mut gateways = Vec::with_capacity(subnets.len());
    for subnet in subnets {
        let at = given.iter().position(|ip| ip.is_ipv4() == subnet.is_ipv4());
        let gateway = at.map(|at| given.remove(at)).or_else(|| net::default_gateway(*subnet));
        let gateway = gateway.ok_or(ConfigError::SubnetLength(*subnet))?;
        let is_special = gateway == subnet.network() || subnet.is_ipv4() && gateway == subnet.broadcast();
        if !subnet.contains(gateway) || is_special {
            return Err(ConfigError::Gateway(gateway, *subnet));
        }
        gateways.push(gateway);
    }
    match given.first() {
        Some(left) => Err(ConfigError::GatewayOfNone(*left)),
        None => Ok(gateways),
    }
}

fn block_size(given: Option<u32>, subnets: &[IpNetwork]) -> Result<u32, ConfigError> {
    let size = given.unwrap_or_else(|| net::default_block_size(subnets));
    let (least, most) = net::BLOCK_SIZES;
    if !size.is_power_of_two() || !(least..=most).contains(&size) {
        return Err(ConfigError::BlockSize(size));
    }
    let bits = |subnet: &IpNetwork| IpFamily::of(subnet.ip()).bits() - subnet.prefix();
    match subnets.iter().find(|subnet| u128::from(size) > 1_u128 << bits(subnet).min(32)) {
        Some(subnet) => Err(ConfigError::BlockOfSubnet(size, *subnet)),
        None => Ok(size),
    }
}

fn exclude(list: Vec<Option<String>>) -> Result<Vec<IpNetwork>, ConfigError> {
    check_count("exclude", list.len(), MAX_EXCLUDED)?;
    let parse = |text: &Option<String>| Ok(text::excluded(text.as_deref().unwrap_or_default())?);
    list.iter().map(parse).collect()
}

fn bound(
    key: &'static str,
    text: &Option<String>,
    subnets: &[IpNetwork],
) -> Result<Option<IpAddr>, ConfigError> {
    let Some(text) = nonempty(text) else { return Ok(None) };
    let ip = cni::parse_ip(text)?;
    match subnets.iter().any(|subnet| subnet.contains(ip)) {
        true => Ok(Some(ip)),
        false => Err(ConfigError::BoundOutside(key, ip)),
    }
}

fn ensure_order(limits: &Limits) -> Result<(), ConfigError> {
    match (limits.start, limits.end) {
        (Some(start), Some(end)) if start.is_ipv4() == end.is_ipv4() && start > end => {
            Err(ConfigError::BoundsOrder(start, end))
        }
        _ => Ok(()),
    }
}

/// The address asked for of each subnet. Asked for twice is asked for once.
fn assign(want: &Net, limits: &Limits, requested: Vec<IpAddr>) -> Result<Vec<Option<IpAddr>>, ConfigError> {
    let mut seen = HashSet::with_capacity(requested.len());
    let mut asked = vec![None; want.subnets.len()];
    let mut left = Vec::new();
    for ip in requested.into_iter().filter(|ip| seen.insert(*ip)) {
        let at = want.subnets.iter().position(|subnet| subnet.contains(ip));
        let place = at.and_then(|at| asked.get_mut(at));
        match place {
            Some(place @ None) => *place = Some(ip),
            _ => left.push(ip),
        }
        let Some((subnet, gateway)) = at.and_then(|at| Some((want.subnets.get(at)?, want.gateways.get(at)?)))
        else {
            continue;
        };
        let why = match () {
            () if ip == *gateway => "the gateway",
            () if ip == subnet.network() => "the network address",
            () if subnet.is_ipv4() && ip == subnet.broadcast() => "the broadcast address",
            () if limits.excludes(ip) => "in the list \"exclude\"",
            () => continue,
        };
        return Err(ConfigError::NeverGiven(ip, why, *subnet));
    }
    if left.is_empty() { Ok(asked) } else { Err(ConfigError::Unserved(left)) }
}

/// The checked configuration of a request.
///
/// # Errors
/// It is invalid.
pub fn settings(request: &Request) -> Result<Settings, Error> {
    let conf: Conf = request.config()?;
    let asked = leases::requested_ip(&request.args(&["IP"])?)?;
    conf.check(asked).map_err(|error| error.to_cni_error())
}

#[cfg(test)]
mod tests;
