//! The configuration of published ports: as written ([`Conf`]), and as checked ([`Config`]).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::keys::{self, Key, Kind, TEXTS, key};
use cni::{Error, Json, Request, shortened};
use host::ports::{Chosen, Mapping, Masquerade};
use host::rules::published::Hint;
use nft::Protocol;
use serde::Deserialize;
use sys::IpFamily;

use crate::backend::{Backend, Keys};

/// The keys as written. `null` and absent are the same.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    runtime_config: Option<RuntimeConf>,
    backend: Option<String>,
    snat: Option<bool>,
    masq_all: Option<bool>,
    fast_path: Option<bool>,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    conditions_v4: Option<Vec<String>>,
    conditions_v6: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConf {
    port_mappings: Option<Vec<MappingConf>>,
}

/// Just enough for DEL, and nothing that must be valid.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DelConf {
    runtime_config: Option<Json>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MappingConf {
    host_port: Option<i64>,
    host_port_end: Option<i64>,
    container_port: i64,
    container_port_end: Option<i64>,
    protocol: Option<String>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
}

/// The keys, and their values.
pub const KEYS: keys::Keys = &[&[
    key("backend", Kind::OneOf(&["iptables", "nftables"])),
    key("snat", Kind::Bool),
    key("masqAll", Kind::Bool),
    key("fastPath", Kind::Bool),
    key("markMasqBit", Kind::Number(0, 31)),
    key("externalSetMarkChain", Kind::Text),
    key("conditionsV4", TEXTS),
    key("conditionsV6", TEXTS),
    key("runtimeConfig", Kind::Object(&[key("portMappings", Kind::List(&Kind::Object(MAPPING)))])),
]];

const MAPPING: &[Key] = &[
    key("hostPort", Kind::Number(0, u16::MAX as u64)),
    key("hostPortEnd", Kind::Number(1, u16::MAX as u64)),
    key("containerPort", Kind::Number(1, u16::MAX as u64)),
    key("containerPortEnd", Kind::Number(1, u16::MAX as u64)),
    key("protocol", Kind::Text),
    key("hostIP", Kind::Text),
];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The ports.
    pub wanted: Vec<Wanted>,
    /// Which connections are masqueraded.
    pub masquerade: Masquerade,
    /// Established connections bypass the rules.
    pub fast_path: bool,
    /// The back end that publishes the ports.
    pub backend: Backend,
    /// The ports of each family that have numbers: sorted, each once.
    mappings: ByFamily,
}

/// Mappings for containers with an IPv4 address, and for those with an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ByFamily {
    v4: Vec<Mapping>,
    v6: Vec<Mapping>,
}

/// Ports of the host, before the container's addresses are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The transport protocol (IPPROTO_TCP, …).
    pub proto: u8,
    /// The addresses of the host.
    pub at: HostIp,
    /// Ports of the host: first and last. Both are 0 for any free port.
    pub ports: (u16, u16),
    /// The container's port that the first one leads to.
    pub target: u16,
}

/// Addresses of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostIp {
    /// All.
    Any,
    /// All of IPv4 (`0.0.0.0`).
    AnyV4,
    /// All of IPv6 (`::`).
    AnyV6,
    /// This one.
    This(IpAddr),
}

/// More entries than ports are a mistake.
const ENTRIES_MAX: usize = 65_535;

impl HostIp {
    /// As written in the configuration; `None` if absent.
    fn written(self) -> Option<IpAddr> {
        match self {
            Self::Any => None,
            Self::AnyV4 => Some(Ipv4Addr::UNSPECIFIED.into()),
            Self::AnyV6 => Some(Ipv6Addr::UNSPECIFIED.into()),
            Self::This(ip) => Some(ip),
        }
    }
}

impl Config {
    /// Reads and checks all of it; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let backend = Backend::of(Keys {
            backend: conf.backend,
            mark_masq_bit: conf.mark_masq_bit,
            external_set_mark_chain: conf.external_set_mark_chain,
            conditions_v4: conf.conditions_v4,
            conditions_v6: conf.conditions_v6,
        })?;
        let masquerade = match (conf.snat.unwrap_or(true), conf.masq_all.unwrap_or(false)) {
            (false, _) => Masquerade::Nobody,
            (true, false) => Masquerade::Needed,
            (true, true) => Masquerade::Everybody,
        };
        let entries = conf.runtime_config.and_then(|runtime| runtime.port_mappings).unwrap_or_default();
        if entries.len() > ENTRIES_MAX {
            return Err(Error::invalid_config(format!(
                "{} port mappings are too many: at most {ENTRIES_MAX}; use hostPortEnd and containerPortEnd for ranges",
                entries.len()
            )));
        }
        let wanted = entries.iter().map(wanted).collect::<Result<Vec<_>, _>>()?;
        // Contradictions are found before anything is changed, whatever families the container has.
        let mappings = ByFamily::of(&wanted)?;
        let fast_path = conf.fast_path.unwrap_or(false);
        Ok(Self { wanted, masquerade, fast_path, backend, mappings })
    }

    /// The mappings of one family: sorted, each port once; without ports that are yet to be chosen.
    pub fn mappings(&self, family: IpFamily) -> &[Mapping] {
        family.choose(&self.mappings.v4, &self.mappings.v6)
    }

    /// For each wanted free port, the first of these that matches; `None` if there are too few.
    pub fn assigned(&self, known: &[Chosen]) -> Option<Vec<Chosen>> {
        let mut left = known.to_vec();
        let mut assigned = Vec::new();
        for wanted in self.wanted.iter().filter(|wanted| wanted.is_free()) {
            let at = left.iter().position(|chosen| *chosen == wanted.at_port(chosen.port))?;
            assigned.push(left.remove(at));
        }
        Some(assigned)
    }

    /// The same with the chosen ports, one for each wanted free port, in order.
    ///
    /// # Errors
    /// One of them already leads elsewhere.
    pub fn settled(&self, chosen: &[Chosen]) -> Result<Cow<'_, Self>, Error> {
        if chosen.is_empty() {
            return Ok(Cow::Borrowed(self));
        }
        let mut wanted = self.wanted.clone();
        for (free, chosen) in wanted.iter_mut().filter(|wanted| wanted.is_free()).zip(chosen) {
            free.ports = (chosen.port, chosen.port);
        }
        let mappings = ByFamily::of(&wanted)?;
        Ok(Cow::Owned(Self { wanted, mappings, ..self.clone() }))
    }
}

impl ByFamily {
    fn of(wanted: &[Wanted]) -> Result<Self, Error> {
        Ok(Self { v4: Self::of_family(wanted, IpFamily::V4)?, v6: Self::of_family(wanted, IpFamily::V6)? })
    }

    fn of_family(wanted: &[Wanted], family: IpFamily) -> Result<Vec<Mapping>, Error> {
        let known = wanted.iter().filter(|wanted| !wanted.is_free());
        let mut all: Vec<Mapping> = known.filter_map(|wanted| wanted.of_family(family)).collect();
        all.sort_unstable_by_key(|mapping| (mapping.proto, mapping.address, mapping.ports, mapping.target));
        let mut once: Vec<Mapping> = Vec::with_capacity(all.len());
        for mapping in all {
            let last = once.last_mut().filter(|last| {
                (last.proto, last.address) == (mapping.proto, mapping.address) && last.overlaps(&mapping)
            });
            match last {
                None => once.push(mapping),
                Some(last) if distance(last) == distance(&mapping) => {
                    last.ports.1 = last.ports.1.max(mapping.ports.1);
                }
                Some(_) => {
                    return Err(Error::invalid_config(format!(
                        "host port {} leads to two container ports",
                        mapping.ports.0
                    )));
                }
            }
        }
        Ok(once)
    }
}

/// The hint for DEL, if the configuration still has the ports. Nothing in it may make DEL fail.
pub fn hint(request: &Request) -> Option<Hint> {
    let conf: DelConf = request.config().ok()?;
    let runtime: RuntimeConf = conf.runtime_config?.decode().ok()?;
    let wanted = runtime.port_mappings?.iter().map(wanted).collect::<Result<Vec<_>, _>>().ok()?;
    // The chosen ports are in the record.
    if wanted.iter().any(Wanted::is_free) {
        return None;
    }
    let ByFamily { v4, v6 } = ByFamily::of(&wanted).ok()?;
    Some(Hint { v4, v6 })
}

impl Wanted {
    /// Whether any free port is wanted.
    pub fn is_free(&self) -> bool {
        self.ports.0 == 0
    }

    /// The choice of `port` for it.
    pub fn at_port(&self, port: u16) -> Chosen {
        Chosen { proto: self.proto, at: self.at.written(), target: self.target, port }
    }

    /// The mapping for a container's address of that family; `None` if it is for the other family.
    pub fn of_family(&self, family: IpFamily) -> Option<Mapping> {
        let address = match self.at {
            HostIp::Any => None,
            HostIp::AnyV4 if family == IpFamily::V4 => None,
            HostIp::AnyV6 if family == IpFamily::V6 => None,
            HostIp::This(ip) if IpFamily::of(ip) == family => Some(ip),
            _ => return None,
        };
        Some(Mapping { proto: self.proto, address, ports: self.ports, target: self.target })
    }
}

fn distance(mapping: &Mapping) -> i32 {
    i32::from(mapping.target) - i32::from(mapping.ports.0)
}

fn wanted(conf: &MappingConf) -> Result<Wanted, Error> {
    let first = match conf.host_port {
        Some(0) if conf.host_port_end.is_some() || conf.container_port_end.is_some() => {
            return Err(Error::invalid_config(
                "hostPort 0 is one free port, and no range: leave hostPortEnd and containerPortEnd out",
            ));
        }
        Some(0) => 0,
        number => port("host", number.unwrap_or_default())?,
    };
    let target = port("container", conf.container_port)?;
    let last = conf.host_port_end.map_or(Ok(first), |end| port("host", end))?;
    let target_last = conf.container_port_end.map_or(Ok(target), |end| port("container", end))?;
    let count = last
        .checked_sub(first)
        .ok_or_else(|| Error::invalid_config(format!("hostPortEnd {last} is below hostPort {first}")))?;
    // Without containerPortEnd, the container's last port follows from the host's.
    if conf.container_port_end.is_some() && target_last.checked_sub(target) != Some(count) {
        return Err(Error::invalid_config(format!(
            "host ports {first}-{last} and container ports {target}-{target_last} are not equally many"
        )));
    }
    if target.checked_add(count).is_none() {
        return Err(Error::invalid_config(format!(
            "host ports {first}-{last} lead beyond container port 65535"
        )));
    }
    let name = conf.protocol.as_deref().filter(|name| !name.is_empty()).unwrap_or("tcp");
    let proto = Protocol::named(name).ok_or_else(|| {
        Error::invalid_config(format!("unknown protocol {:?}: tcp, udp or sctp", shortened(name)))
    })?;
    let at = match conf.host_ip.as_deref().unwrap_or_default() {
        "" => HostIp::Any,
        text => match cni::parse_ip(text) {
            Ok(ip) if ip.is_unspecified() && ip.is_ipv4() => HostIp::AnyV4,
            Ok(ip) if ip.is_unspecified() => HostIp::AnyV6,
            // A packet from ::1 never leaves a host (RFC 4291, section 2.5.3), and the kernel has
            // no route_localnet for it.
            Ok(ip) if ip.is_ipv6() && ip.is_loopback() => {
                return Err(Error::invalid_config(
                    "hostIP ::1 cannot lead to a container; use 127.0.0.1, or leave it out",
                ));
            }
            Ok(ip) if ip.is_multicast() || ip == IpAddr::from(Ipv4Addr::BROADCAST) => {
                return Err(Error::invalid_config(format!("hostIP {ip} is no address that a host can have")));
            }
            Ok(ip) => HostIp::This(ip),
            Err(_) => return Err(Error::invalid_config(format!("invalid hostIP {:?}", shortened(text)))),
        },
    };
    Ok(Wanted { proto, at, ports: (first, last), target })
}

fn port(side: &str, number: i64) -> Result<u16, Error> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Error::invalid_config(format!("Invalid {side} port number: {number}")))
}
