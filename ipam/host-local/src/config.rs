//! The configuration: the keys as written, with addresses as text, and the checked settings.

use std::net::IpAddr;
use std::path::PathBuf;

use cni::keys::{Key, Keys, Kind, ROUTES, TEXTS, key};
use cni::{Route, Version};
use ipnetwork::IpNetwork;
use leases::{ConfigError, DATA_DIR, Exclude, Offer, Place, Range, RangeParts, RangeSet, text};
use serde::Deserialize;
use sys::IpFamily;

/// In messages.
const PLUGIN: &str = "host-local";

/// Limits on lists, so that time and memory are limited for any configuration. Far above those of
/// real networks.
const MAX_RANGES: usize = 1024;
const MAX_REQUESTED: usize = 65_536;
const MAX_EXCLUDED: usize = 4096;
const MAX_ROUTES: usize = 65_536;

/// The keys of the network configuration that host-local uses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    ipam: Option<IpamConf>,
    runtime_config: Option<RuntimeConf>,
    args: Option<ArgsConf>,
}

/// The `ipam` object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamConf {
    ranges: Option<Sets>,
    subnet: Option<String>,
    range_start: Option<String>,
    range_end: Option<String>,
    gateway: Option<String>,
    routes: Option<Vec<Option<RouteConf>>>,
    data_dir: Option<String>,
    resolv_conf: Option<String>,
    reclaim: Option<String>,
    exclude: Option<Vec<Option<String>>>,
    cooldown: Option<u64>,
}

type Sets = Vec<Option<Vec<Option<RangeConf>>>>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RangeConf {
    subnet: Option<String>,
    range_start: Option<String>,
    range_end: Option<String>,
    gateway: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct RouteConf {
    dst: Option<String>,
    gw: Option<String>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u8>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConf {
    ips: Option<Vec<Option<String>>>,
    ip_ranges: Option<Sets>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ArgsConf {
    cni: Option<CniArgsConf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct CniArgsConf {
    ips: Option<Vec<Option<String>>>,
}

/// The keys that DEL and GC need: no other key can make them fail.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PlaceConf {
    ipam: Option<PlaceIpamConf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlaceIpamConf {
    data_dir: Option<String>,
    reclaim: Option<Lenient>,
    cooldown: Option<Lenient>,
}

/// A value that may have a wrong type.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Lenient {
    Text(String),
    Number(u64),
    Other(serde::de::IgnoredAny),
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key("ipam", Kind::Object(IPAM)),
    key("runtimeConfig", Kind::Object(&[key("ips", TEXTS), key("ipRanges", SETS)])),
    key("args", Kind::Object(&[key("cni", Kind::Object(&[key("ips", TEXTS)]))])),
]];

const IPAM: &[Key] = &[
    key("ranges", SETS),
    key("subnet", Kind::Text),
    key("rangeStart", Kind::Text),
    key("rangeEnd", Kind::Text),
    key("gateway", Kind::Text),
    key("routes", ROUTES),
    key("dataDir", Kind::Text),
    key("resolvConf", Kind::Text),
    key("reclaim", Kind::OneOf(&["boot", "never"])),
    key("exclude", TEXTS),
    key("cooldown", Kind::Number(0, u64::MAX)),
];

const SETS: Kind = Kind::List(&Kind::List(&Kind::Object(&[
    key("subnet", Kind::Text),
    key("rangeStart", Kind::Text),
    key("rangeEnd", Kind::Text),
    key("gateway", Kind::Text),
])));

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The place of the leases.
    pub place: Place,
    /// The addresses that may be allocated.
    pub offer: Offer,
    /// The requested addresses without duplicates, in the order CNI_ARGS, `args.cni`,
    /// `runtimeConfig`.
    pub requested: Vec<IpAddr>,
    /// The result's routes.
    pub routes: Vec<Route>,
    /// The resolver configuration file for the result.
    pub resolv_conf: Option<PathBuf>,
}

impl Conf {
    /// Checks the configuration. `network` is its name, `requested_ip` the value of `IP` in
    /// CNI_ARGS.
    pub fn check(
        self,
        network: &str,
        version: Version,
        asked: Option<IpAddr>,
    ) -> Result<Settings, ConfigError> {
        let ipam = self.ipam.ok_or(ConfigError::NoIpam)?;
        let runtime = self.runtime_config.unwrap_or_default();
        let place = Place {
            plugin: PLUGIN,
            data_dir: data_dir(ipam.data_dir)?,
            network: network_name(network)?,
            reclaim: match ipam.reclaim.as_deref().map(str::trim) {
                None | Some("" | "boot") => true,
                Some("never") => false,
                Some(other) => return Err(ConfigError::BadReclaim(other.to_owned())),
            },
            cooldown: ipam.cooldown.is_some_and(|seconds| seconds > 0),
        };
        let mut requested = Vec::from_iter(asked);
        let lists = [self.args.and_then(|args| args.cni?.ips), runtime.ips];
        for asked in lists.into_iter().flatten().flatten() {
            requested.push(text::request(asked.as_deref().unwrap_or_default())?);
        }
        check_count("requested ips", requested.len(), MAX_REQUESTED)?;
        let mut seen = std::collections::HashSet::with_capacity(requested.len());
        requested.retain(|ip| seen.insert(*ip));

        let mut sets = runtime.ip_ranges.unwrap_or_default();
        if nonempty(&ipam.subnet).is_some() {
            let (subnet, gateway) = (ipam.subnet, ipam.gateway);
            let range =
                RangeConf { subnet, gateway, range_start: ipam.range_start, range_end: ipam.range_end };
            sets.push(Some(vec![Some(range)]));
        }
        sets.extend(ipam.ranges.unwrap_or_default());
        Ok(Settings {
            place,
            offer: Offer {
                sets: check_sets(sets, version)?,
                exclude: exclude(ipam.exclude.unwrap_or_default())?,
                keep: false,
                cooldown: ipam.cooldown.unwrap_or(0),
            },
            requested,
            routes: routes(ipam.routes.unwrap_or_default())?,
            resolv_conf: nonempty(&ipam.resolv_conf).map(PathBuf::from),
        })
    }
}

impl PlaceConf {
    /// The place of the leases, independent of the rest of the configuration.
    pub fn check(self, network: &str) -> Result<Place, ConfigError> {
        let ipam = self.ipam.unwrap_or_default();
        Ok(Place {
            plugin: PLUGIN,
            data_dir: data_dir(ipam.data_dir)?,
            network: network_name(network)?,
            reclaim: !matches!(ipam.reclaim, Some(Lenient::Text(text)) if text == "never"),
            cooldown: matches!(ipam.cooldown, Some(Lenient::Number(1..))),
        })
    }
}

/// `""` and `null` mean absent.
fn nonempty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn check_count(key: &'static str, count: usize, bound: usize) -> Result<(), ConfigError> {
    if count > bound { Err(ConfigError::TooMany(key, count, bound)) } else { Ok(()) }
}

fn data_dir(text: Option<String>) -> Result<PathBuf, ConfigError> {
    let text = nonempty(&text).unwrap_or(DATA_DIR);
    if text.contains('\0') {
        return Err(ConfigError::BadPath("dataDir", text.to_owned()));
    }
    Ok(PathBuf::from(text))
}

/// The protocol library checks the name too, but a path must not depend on that.
fn network_name(name: &str) -> Result<String, ConfigError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(ConfigError::BadPath("network name", name.to_owned()));
    }
    Ok(name.to_owned())
}

fn check_sets(sets: Sets, version: Version) -> Result<Vec<RangeSet>, ConfigError> {
    if sets.is_empty() {
        return Err(ConfigError::NoRanges);
    }
    check_count("ranges", sets.iter().map(|set| set.as_ref().map_or(1, Vec::len).max(1)).sum(), MAX_RANGES)?;
    let mut checked = Vec::with_capacity(sets.len());
    for (index, set) in sets.into_iter().enumerate() {
        let ranges = set.unwrap_or_default().into_iter().map(|range| check_range(range.unwrap_or_default()));
        let set = ranges.collect::<Result<_, _>>().and_then(RangeSet::new);
        checked.push(set.map_err(|cause| match cause {
            // The reference fails here while it decodes, so this error has no index of a set.
            ConfigError::BadText(_) => cause,
            cause => ConfigError::InSet(index, Box::new(cause)),
        })?);
    }
    let v4 = checked.iter().filter(|set| set.family() == IpFamily::V4).count();
    let old = match version {
        Version::V0_1_0 => Some("0.1.0"),
        Version::V0_2_0 => Some("0.2.0"),
        _ => None,
    };
    if let Some(version) = old
        && (v4 > 1 || checked.len() - v4 > 1)
    {
        return Err(ConfigError::OnePerFamily(version));
    }
    for (i, one) in checked.iter().enumerate() {
        if let Some(j) = checked.iter().skip(i + 1).position(|other| one.overlaps(other)) {
            return Err(ConfigError::SetsOverlap(i, i + 1 + j));
        }
    }
    Ok(checked)
}

fn check_range(range: RangeConf) -> Result<Range, ConfigError> {
    let ip = |text: &Option<String>| nonempty(text).map(cni::parse_ip).transpose();
    Range::new(RangeParts {
        subnet: nonempty(&range.subnet).map(text::subnet).transpose()?,
        start: ip(&range.range_start)?,
        end: ip(&range.range_end)?,
        gateway: ip(&range.gateway)?,
    })
}

fn exclude(list: Vec<Option<String>>) -> Result<Exclude, ConfigError> {
    check_count("exclude", list.len(), MAX_EXCLUDED)?;
    let nets: Vec<IpNetwork> = list
        .iter()
        .map(|text| text::excluded(text.as_deref().unwrap_or_default()))
        .collect::<Result<_, _>>()?;
    Ok(Exclude::new(&nets))
}

fn routes(list: Vec<Option<RouteConf>>) -> Result<Vec<Route>, ConfigError> {
    check_count("routes", list.len(), MAX_ROUTES)?;
    let in_route = |index, cause| ConfigError::InRoute(index, Box::new(cause));
    let mut routes = Vec::with_capacity(list.len());
    for (index, route) in list.into_iter().enumerate() {
        let route = route.unwrap_or_default();
        let dst = nonempty(&route.dst).ok_or(ConfigError::RouteWithoutDst(index))?;
        routes.push(Route {
            dst: cni::parse_cidr(dst).map_err(|cause| in_route(index, cause.into()))?,
            gw: nonempty(&route.gw)
                .map(cni::parse_ip)
                .transpose()
                .map_err(|cause| in_route(index, cause.into()))?,
            mtu: route.mtu.unwrap_or(0),
            advmss: route.advmss.unwrap_or(0),
            priority: route.priority.unwrap_or(0),
            table: route.table,
            scope: route.scope,
        });
    }
    Ok(routes)
}

#[cfg(test)]
mod tests;
