//! The configuration of an ipvlan network: the keys as written ([`Conf`]), and checked
//! ([`Config`]).

use attach::child::{Addresses, Child};
use attach::conflict::Detection;
use attach::{Master, Parent};
use cni::keys::{self, Keys, Kind, key};
use cni::{AddResult, Error, Request, shortened};
use host::piece::ChildKind;
use netlink::{Ipvlan, IpvlanFlag, IpvlanMode};
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    mode: Option<String>,
    flag: Option<String>,
    mtu: Option<i64>,
    default_route: Option<bool>,
    enabledad: Option<bool>,
    dns: Option<cni::DnsConf>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[
    &[
        key("mode", Kind::OneOf(&["l2", "l3", "l3s"])),
        key("flag", Kind::OneOf(&["bridge", "private", "vepa"])),
        key("mtu", keys::INTEGER),
        key("defaultRoute", Kind::Bool),
        key("enabledad", Kind::Bool),
        key("ipam", Kind::Ipam),
        key("dns", keys::DNS),
    ],
    attach::MASTER_KEYS,
    attach::conflict::KEYS,
];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The configured parent; it may have no name.
    pub master: Master,
    /// Mode and flag.
    pub ipvlan: Ipvlan,
    /// The MTU in bytes; `None` is the kernel's default, the parent's.
    pub mtu: Option<i64>,
    /// Whether the kernel detects duplicates of IPv6 addresses.
    pub dad: bool,
    /// Whether a family without a route gets a default route.
    pub default_route: bool,
    /// How duplicates of all addresses are detected, if they are.
    pub detection: Option<Detection>,
    /// The IPAM plugin.
    pub ipam: Option<String>,
    /// Replaces the IPAM plugin's.
    pub dns: Option<cni::DnsConf>,
}

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let mode = named(&IpvlanMode::ALL, conf.mode.as_deref(), "unknown ipvlan mode")?;
        let flag = named(&IpvlanFlag::ALL, conf.flag.as_deref(), "unknown ipvlan flag")?;
        let master = Master::of(request)?;
        if master.host_access.is_some() && flag != IpvlanFlag::Bridge {
            let msg = format!(
                "hostAccess needs flag bridge: with flag {} the host's link would not be reached either",
                flag.name()
            );
            return Err(Error::invalid_config(msg));
        }
        // In l2 a default route needs a gateway; an internal network has no outside.
        let default_route = conf.default_route.unwrap_or(true) && mode != IpvlanMode::L2 && !master.internal;
        let detection = Detection::of(request)?;
        if detection.is_some() && mode != IpvlanMode::L2 {
            let msg =
                format!("detectConflict is for mode l2: mode {} does not resolve neighbours", mode.name());
            return Err(Error::invalid_config(msg));
        }
        Ok(Self {
            master,
            default_route,
            ipvlan: Ipvlan { mode, flag },
            // Like the reference, this ignores a negative one.
            mtu: conf.mtu.filter(|mtu| *mtu > 0),
            dad: conf.enabledad.unwrap_or(true),
            detection,
            ipam: attach::ipam_type(request)?,
            dns: conf.dns,
        })
    }

    /// The parent for ADD: the configured one, otherwise the only interface of the previous
    /// plugins, otherwise the link of the default route (IV-K1).
    pub fn master(&self, previous: Option<&AddResult>) -> Result<Master, Error> {
        let Some(previous) = previous.filter(|_| self.master.is_unnamed()) else {
            return Ok(self.master.clone());
        };
        match previous.interfaces.as_slice() {
            [one] if !one.name.is_empty() => {
                Ok(Master { name: Some(one.name.clone()), ..self.master.clone() })
            }
            _ => Err(Error::internal("chained master failure. PrevResult lacks a single named interface")),
        }
    }

    /// The source of ADD's addresses: the IPAM plugin, otherwise the previous plugins.
    pub fn addresses(&self, previous: Option<AddResult>) -> Result<Addresses, Error> {
        match (&self.ipam, previous) {
            (Some(ipam), _) => Ok(Addresses::Ipam(ipam.clone())),
            (None, Some(previous)) if !previous.ips.is_empty() => Ok(Addresses::Known(Box::new(previous))),
            (None, _) => Err(Error::internal("no plugin name provided").details(
                "ipvlan needs addresses: from an IPAM plugin (ipam.type), or from a plugin before it",
            )),
        }
    }

    /// The attachment.
    pub fn child(&self, parent: &Parent) -> Result<Child, Error> {
        let kind = ChildKind::Ipvlan(self.ipvlan);
        Ok(Child {
            kind,
            mac: None,
            mtu: parent.mtu_for(self.mtu)?,
            dad: self.dad,
            default_route: self.default_route,
            host_access: self.master.host_access.clone(),
            detection: self.detection,
        })
    }
}

/// The value of that name; without a name, the first value.
fn named<T: Copy>(all: &[(&'static str, T)], name: Option<&str>, unknown: &str) -> Result<T, Error> {
    let name = name.unwrap_or_default();
    let known = all.iter().find(|(known, _)| *known == name || name.is_empty());
    known.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        let name = shortened(name);
        Error::invalid_config(format!("{unknown}: {name:?}")).details(format!("one of {}", names.join(", ")))
    })
}
