//! The configuration of a macvlan network: the keys as written ([`Conf`]), and checked
//! ([`Config`]).

use attach::child::Child;
use attach::conflict::Detection;
use attach::{Master, Parent};
use cni::keys::{self, Keys, Kind, key};
use cni::{Error, Request, shortened};
use host::piece::ChildKind;
use netlink::Mac;
use netlink::MacvlanMode;
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    mode: Option<String>,
    source_macs: Option<Vec<String>>,
    mtu: Option<i64>,
    mac: Option<String>,
    bcqueuelen: Option<u32>,
    enabledad: Option<bool>,
    dns: Option<cni::DnsConf>,
    runtime_config: Option<MacConf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MacConf {
    mac: Option<String>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[
    &[
        key("mode", Kind::OneOf(&["bridge", "private", "vepa", "passthru", "source"])),
        key("sourceMacs", keys::TEXTS),
        key("mtu", Kind::Number(0, i32::MAX as u64)),
        key("mac", Kind::Text),
        key("bcqueuelen", Kind::Number(0, u32::MAX as u64)),
        key("enabledad", Kind::Bool),
        key("ipam", Kind::Ipam),
        key("dns", keys::DNS),
        key("runtimeConfig", keys::MAC),
    ],
    attach::MASTER_KEYS,
    attach::conflict::KEYS,
];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The parent.
    pub master: Master,
    /// The mode: which links on the parent reach each other.
    pub mode: MacvlanMode,
    /// Mode source: the source addresses of accepted frames.
    pub sources: Vec<Mac>,
    /// The MTU in bytes; `None` is the kernel's default, the parent's.
    pub mtu: Option<i64>,
    /// The configured MAC address.
    pub mac: Option<Mac>,
    /// The length of the queue of broadcasts.
    pub bc_queue_len: Option<u32>,
    /// Whether the kernel detects duplicates of IPv6 addresses.
    pub dad: bool,
    /// How duplicates of all addresses are detected, if they are.
    pub detection: Option<Detection>,
    /// The IPAM plugin; `None` is layer 2.
    pub ipam: Option<String>,
    /// Replaces the IPAM plugin's.
    pub dns: Option<cni::DnsConf>,
}

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let invalid = |msg: String| Error::invalid_config(msg);
        let mode = mode(conf.mode.as_deref().unwrap_or_default())?;
        let sources = conf.source_macs.unwrap_or_default();
        if !sources.is_empty() && mode != MacvlanMode::Source {
            return Err(invalid(format!("sourceMacs is for mode source, not for {}", mode.name())));
        }
        if sources.is_empty() && mode == MacvlanMode::Source {
            return Err(invalid(
                "mode source needs sourceMacs: the source addresses of accepted frames".into(),
            ));
        }
        let master = Master::of(request)?;
        let ipam = attach::ipam_type(request)?;
        let detection = Detection::of(request)?;
        if master.host_access.is_some() && mode != MacvlanMode::Bridge {
            return Err(invalid(format!(
                "hostAccess needs mode bridge: in mode {} the host's link would not be reached either",
                mode.name()
            )));
        }
        if master.host_access.is_some() && ipam.is_none() {
            return Err(invalid(
                "hostAccess needs ipam: the host has routes to the containers' addresses".into(),
            ));
        }
        if detection.is_some() && ipam.is_none() {
            return Err(invalid("detectConflict needs ipam: there is no address to look for".into()));
        }
        Ok(Self {
            master,
            mode,
            sources: sources.iter().map(|text| mac(text)).collect::<Result<_, _>>()?,
            mtu: conf.mtu.filter(|mtu| *mtu != 0),
            mac: configured_mac(request, conf.runtime_config, conf.mac)?,
            // 0 means the kernel's default.
            bc_queue_len: conf.bcqueuelen.filter(|length| *length != 0),
            dad: conf.enabledad.unwrap_or(true),
            detection,
            ipam,
            dns: conf.dns,
        })
    }

    /// The attachment. A passthru link always has its parent's MAC address; another link without a
    /// configured one gets a random one here.
    pub fn child(&self, parent: &Parent) -> Result<Child, Error> {
        let mac = match self.mode {
            MacvlanMode::Passthru => None,
            _ => Some(self.mac.map_or_else(Mac::random, Ok)?),
        };
        Ok(Child {
            kind: ChildKind::Macvlan {
                mode: self.mode,
                bc_queue_len: self.bc_queue_len,
                sources: self.sources.clone(),
            },
            mac,
            mtu: parent.mtu_for(self.mtu)?,
            dad: self.dad,
            default_route: false,
            host_access: self.master.host_access.clone(),
            detection: self.detection,
        })
    }
}

fn mode(name: &str) -> Result<MacvlanMode, Error> {
    if name.is_empty() {
        return Ok(MacvlanMode::Bridge);
    }
    let known = MacvlanMode::ALL.into_iter().find(|(known, _)| *known == name);
    known.map(|(_, mode)| mode).ok_or_else(|| {
        let name = shortened(name);
        Error::invalid_config(format!("unknown macvlan mode: {name:?}"))
            .details("one of bridge, private, vepa, passthru, source")
    })
}

/// `runtimeConfig.mac`, otherwise `MAC` of CNI_ARGS, otherwise `mac`; empty means not given.
fn configured_mac(
    request: &Request,
    runtime_config: Option<MacConf>,
    configured: Option<String>,
) -> Result<Option<Mac>, Error> {
    // STATUS has no attachment, and therefore no CNI_ARGS.
    let from_env = request.args(&["MAC"])?.pop().map(|(_, mac)| mac);
    let given = [runtime_config.and_then(|conf| conf.mac), from_env, configured];
    given.into_iter().flatten().find(|mac| !mac.is_empty()).map(|text| mac(&text)).transpose()
}

fn mac(text: &str) -> Result<Mac, Error> {
    let invalid = |why: &str| {
        let text = shortened(text);
        Error::invalid_config(format!("invalid args {text} for MAC addr: {why}"))
    };
    attach::link_mac(text).map_err(invalid)
}
