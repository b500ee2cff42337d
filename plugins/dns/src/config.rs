//! The configuration: as written ([`Conf`]), and checked ([`Config`]).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use cni::keys::{Keys, Kind, TEXTS, key};
use cni::{Error, Json, Request, shortened};
use names::{Rules, Sources};
use serde::Deserialize;

use crate::record::{ANSWERS_KEPT, CrossNetwork, Mode};

/// The keys as written. `null` is the same as absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    domain_name: Option<String>,
    mode: Option<String>,
    port: Option<i64>,
    ttl: Option<i64>,
    cache: Option<i64>,
    internal: Option<bool>,
    upstreams: Option<Vec<String>>,
    forward_single_label: Option<bool>,
    cross_network: Option<String>,
    dotted_names: Option<String>,
    #[serde(rename = "type")]
    plugin: Option<String>,
    keep_nameservers: Option<bool>,
    optional: Option<bool>,
    state_dir: Option<String>,
    runtime_config: RuntimeConf,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuntimeConf {
    dns: Option<RuntimeDns>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuntimeDns {
    servers: Option<Vec<String>>,
}

/// The only key that DEL needs.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DelConf {
    state_dir: Option<Json>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key("domainName", Kind::Text),
    key("mode", Kind::OneOf(&["auto", "gateway", "netns"])),
    key("port", Kind::Number(1, u16::MAX as u64)),
    key("ttl", Kind::Number(0, TTL_MAX as u64)),
    key("cache", Kind::Number(0, CACHE_MAX as u64)),
    key("internal", Kind::Bool),
    key("upstreams", TEXTS),
    key("forwardSingleLabel", Kind::Bool),
    key("crossNetwork", Kind::OneOf(&["first", "union", "none"])),
    key("shortId", Kind::Bool),
    key("invalidNames", Kind::OneOf(&["error", "skip"])),
    key("dottedNames", Kind::OneOf(&["allow", "refuse"])),
    key("type", Kind::Text),
    key("keepNameservers", Kind::Bool),
    key("optional", Kind::Bool),
    key("stateDir", Kind::Text),
    key(
        "runtimeConfig",
        Kind::Object(&[key("aliases", Kind::Any), key("dns", Kind::Object(&[key("servers", TEXTS)]))]),
    ),
    key("args", Kind::Object(&[key("cni", Kind::Object(&[key("names", TEXTS)]))])),
]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// In lower case, without duplicates, the primary name first; never empty.
    pub names: Vec<String>,
    /// A domain that names are also found under.
    pub domain: Option<String>,
    /// Where containers send queries; decided by the host's addresses if absent.
    pub mode: Option<Mode>,
    /// The responder's port in mode [`Mode::Gateway`]; containers use port 53.
    pub port: u16,
    /// The TTL of answers, in seconds.
    pub ttl: u32,
    /// How many answers of upstream servers the network keeps.
    pub cache: u32,
    /// Nothing is forwarded.
    pub internal: bool,
    /// The network's upstream servers.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// This container's upstream servers.
    pub own_upstreams: Option<Vec<SocketAddr>>,
    /// Whether an unknown name without dots is forwarded.
    pub forward_single_label: bool,
    /// What a container on several networks learns of them.
    pub cross_network: CrossNetwork,
    /// Whether the name servers of the previous result stay, after ours.
    pub keep_nameservers: bool,
    /// Whether a failure passes the previous result on instead.
    pub optional: bool,
    /// The root of the state directories, if not the default.
    pub state_dir: Option<PathBuf>,
}

/// RFC 2181, section 8, allows more; but addresses of containers change.
const TTL_MAX: u32 = 3600;
/// More do not fit into a network's part of the cache.
const CACHE_MAX: u32 = 4096;
/// glibc uses no more servers of resolv.conf (MAXNS, resolv.h).
const UPSTREAMS_MAX: usize = 3;
/// The rest of a socket's path must fit too (108 bytes, sys/un.h).
const STATE_DIR_MAX: usize = 70;
const DNS_PORT: u16 = 53;

impl Config {
    /// Reads and checks all keys.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let domain = match conf.domain_name.as_deref().unwrap_or_default() {
            "" => None,
            text => Some(names::domain(text).map_err(|why| {
                Error::invalid_config(format!("invalid domainName {:?}: {}", shortened(text), why.reason()))
            })?),
        };
        let mode = match conf.mode.as_deref().unwrap_or_default() {
            "" | "auto" => None,
            "gateway" => Some(Mode::Gateway),
            "netns" => Some(Mode::Netns),
            other => return Err(one_of("mode", other, "auto, gateway or netns")),
        };
        let cross_network = match conf.cross_network.as_deref().unwrap_or_default() {
            "" | "first" => CrossNetwork::First,
            "union" => CrossNetwork::Union,
            "none" => CrossNetwork::None,
            other => return Err(one_of("crossNetwork", other, "first, union or none")),
        };
        let dotted = match conf.dotted_names.as_deref().unwrap_or_default() {
            "" | "allow" => true,
            "refuse" => false,
            other => return Err(one_of("dottedNames", other, "allow or refuse")),
        };
        let port = in_range("port", conf.port.unwrap_or(DNS_PORT.into()), 1, u16::MAX)?;
        let ttl = in_range("ttl", conf.ttl.unwrap_or(0), 0, TTL_MAX)?;
        let cache = in_range("cache", conf.cache.unwrap_or(ANSWERS_KEPT.into()), 0, CACHE_MAX)?;
        let own_upstreams = conf.runtime_config.dns.and_then(|dns| dns.servers).unwrap_or_default();
        let upstreams = conf.upstreams.unwrap_or_default();
        let rules = Rules {
            plugin: "dns",
            domain: domain.as_deref(),
            // dnsname accepted any name: its containers must not fail to start.
            skip_invalid: conf.plugin.as_deref() == Some("dnsname"),
            refuse_external: !dotted,
        };
        let names = Sources::of(request)?.names(rules)?;
        Ok(Self {
            names,
            domain,
            mode,
            port,
            ttl,
            cache,
            internal: conf.internal.unwrap_or(false),
            upstreams: servers("upstreams", &upstreams)?,
            own_upstreams: servers("runtimeConfig.dns.servers", &own_upstreams)?,
            forward_single_label: conf.forward_single_label.unwrap_or(true),
            cross_network,
            keep_nameservers: conf.keep_nameservers.unwrap_or(true),
            optional: conf.optional.unwrap_or(false),
            state_dir: conf.state_dir.as_deref().filter(|dir| !dir.is_empty()).map(state_dir).transpose()?,
        })
    }
}

/// `stateDir`, if it is usable. No other key can make DEL fail.
pub fn state_dir_for_del(request: &Request) -> Option<PathBuf> {
    let conf: DelConf = request.config().ok()?;
    state_dir(conf.state_dir?.as_str()?).ok()
}

fn state_dir(text: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(text);
    if !path.is_absolute() || text.contains('\0') {
        return Err(Error::invalid_config(format!(
            "invalid stateDir {:?}: an absolute path is needed",
            shortened(text)
        )));
    }
    if text.len() > STATE_DIR_MAX {
        return Err(Error::invalid_config(format!(
            "stateDir is {} bytes long: at most {STATE_DIR_MAX}",
            text.len()
        )));
    }
    Ok(path)
}

fn servers(key: &str, list: &[String]) -> Result<Option<Vec<SocketAddr>>, Error> {
    if list.len() > UPSTREAMS_MAX {
        return Err(Error::invalid_config(format!(
            "{key}: at most {UPSTREAMS_MAX} servers, but there are {}",
            list.len()
        )));
    }
    let read = |text: &String| {
        let address = cni::parse_ip(text).map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT)).ok();
        let usable = |at: &SocketAddr| at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast();
        address.or_else(|| text.parse().ok()).filter(usable).ok_or_else(|| {
            let shown = shortened(text);
            Error::invalid_config(format!(
                "{key}: {shown:?} is not a server: expected address or address:port ([v6]:port)"
            ))
        })
    };
    let servers = list.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(servers).filter(|servers| !servers.is_empty()))
}

fn in_range<T: TryFrom<i64> + Into<u32> + Copy>(
    key: &str,
    value: i64,
    least: u32,
    most: T,
) -> Result<T, Error> {
    let fits = value >= i64::from(least) && value <= i64::from(most.into());
    T::try_from(value)
        .ok()
        .filter(|_| fits)
        .ok_or_else(|| Error::invalid_config(format!("invalid {key} {value}: {least} to {}", most.into())))
}

fn one_of(key: &str, value: &str, these: &str) -> Error {
    Error::invalid_config(format!("invalid {key} {:?}: {these}", shortened(value)))
}

#[cfg(test)]
mod tests;
