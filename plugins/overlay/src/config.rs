//! The configuration of an overlay network: the keys as written ([`Conf`]), and checked
//! ([`Config`]).

mod want;

use std::path::PathBuf;

use attach::mtu::MtuConf;
use attach::{Masquerading, Outside};
use cluster::block::Limits;
use cluster::local::SETTINGS;
use cluster::record::Net;
use cni::keys::{self, Keys, Kind, key};
use cni::{Code, Error, Request, shortened};
use host::piece::Feature;
use names::{Rules, Sources};
use netlink::Mac;
use serde::Deserialize;

/// The IPAM plugin of networks over hosts.
const CLUSTER: &str = "cluster";
/// The largest MTU, in bytes: see [`cluster::net::MTU_MAX`].
const MTU_MAX: u64 = cluster::net::MTU_MAX as u64;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    cluster: Option<String>,
    mtu: Option<MtuConf>,
    encrypted: Option<bool>,
    multicast: Option<bool>,
    internal: Option<bool>,
    is_default_gateway: Option<bool>,
    ip_masq: Option<bool>,
    macspoofchk: Option<bool>,
    hairpin_mode: Option<bool>,
    disable_container_interface: Option<bool>,
    enabledad: Option<bool>,
    services: Option<bool>,
    foreign_ipam: Option<bool>,
    dns: Option<cni::DnsConf>,
    runtime_config: Option<MacConf>,
    args: Option<ArgsConf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MacConf {
    mac: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArgsConf {
    cni: Option<MacConf>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key("cluster", Kind::Text),
    key("mtu", Kind::Mtu(MTU_MAX)),
    key("encrypted", Kind::Bool),
    key("multicast", Kind::Bool),
    key("internal", Kind::Bool),
    key("isDefaultGateway", Kind::Bool),
    key("ipMasq", Kind::Bool),
    key("macspoofchk", Kind::Bool),
    key("hairpinMode", Kind::Bool),
    key("disableContainerInterface", Kind::Bool),
    key("enabledad", Kind::Bool),
    key("services", Kind::Bool),
    key("foreignIpam", Kind::Bool),
    key("shortId", Kind::Bool),
    key("invalidNames", Kind::OneOf(&["error", "skip"])),
    key("ipam", Kind::Ipam),
    key("dns", keys::DNS),
    key("runtimeConfig", Kind::Object(&[key("mac", Kind::Text), key("aliases", Kind::Any)])),
    key(
        "args",
        Kind::Object(&[key("cni", Kind::Object(&[key("mac", Kind::Text), key("names", keys::TEXTS)]))]),
    ),
]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The settings of the host.
    pub cluster: PathBuf,
    /// The network's record, as this configuration has it: a VXLAN id of 0 is any, and an MTU of 0
    /// what the underlay carries.
    pub want: Net,
    /// What it keeps back, which the agent claims no block for.
    pub limits: Limits,
    /// The container gets a default route by the gateway, in each family.
    pub is_default_gateway: bool,
    /// How packets reach the outside.
    pub outside: Outside,
    /// The container's port only accepts the container's MAC and addresses.
    pub checked: bool,
    /// A frame may leave by the port on which it arrived.
    pub hairpin: bool,
    /// IPv6 duplicate address detection in the container.
    pub dad: bool,
    /// The IPAM plugin.
    pub ipam: String,
    /// Overrides the IPAM plugin's.
    pub dns: Option<cni::DnsConf>,
    /// The container's MAC address, if it is configured.
    pub mac: Option<Mac>,
    /// The names that are published, the primary one first.
    pub names: Vec<String>,
}

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        if conf.encrypted == Some(true) {
            return Err(Error::new(
                Code::UnsupportedField,
                "encrypted: true is not supported by this release: nothing is encrypted between hosts",
            )
            .details("leave the key out, or put the hosts into an encrypted network"));
        }
        let ipam = ipam(request, conf.foreign_ipam.unwrap_or(false))?;
        if conf.disable_container_interface.unwrap_or(false) {
            return Err(Error::invalid_config("cannot use IPAM when DisableContainerInterface flag is set"));
        }
        let internal = conf.internal.unwrap_or(false);
        for (name, value) in [("isDefaultGateway", conf.is_default_gateway), ("ipMasq", conf.ip_masq)] {
            if internal && value == Some(true) {
                return Err(Error::invalid_config(format!(
                    "{name} and internal cannot both be true: an internal network reaches nothing outside"
                )));
            }
        }
        let ip_masq = conf.ip_masq.unwrap_or(!internal);
        // Accepted, and without an effect in this release: see README.md.
        let _ = conf.services;
        Ok(Self {
            cluster: settings_path(conf.cluster)?,
            want: want::want(request, ipam == CLUSTER, conf.mtu, conf.multicast.unwrap_or(false), internal)?,
            limits: want::limits(request, ipam == CLUSTER)?,
            is_default_gateway: conf.is_default_gateway.unwrap_or(!internal),
            outside: Outside {
                masquerade: if ip_masq { Masquerading::NfTables } else { Masquerading::No },
                fast_path: false,
            },
            checked: conf.macspoofchk.unwrap_or(true),
            hairpin: conf.hairpin_mode.unwrap_or(false),
            dad: conf.enabledad.unwrap_or(false),
            ipam,
            dns: conf.dns,
            mac: mac(request, conf.runtime_config, conf.args)?,
            names: Sources::of(request)?.names(Rules::of("overlay"))?,
        })
    }

    /// Whether addresses come from the cluster's blocks: then a MAC address follows from the first
    /// of them, and no IPAM plugin needs the link.
    pub fn is_of_cluster(&self) -> bool {
        self.ipam == CLUSTER
    }

    /// The features of the kernel that it needs.
    pub fn features() -> &'static [Feature] {
        &[Feature::Links("bridge"), Feature::Links("veth"), Feature::Links("vxlan")]
    }
}

/// The path of the host's settings: all that DEL reads of the configuration, beside the IPAM
/// plugin. The usual one, if the key cannot be read.
pub(crate) fn settings_of(request: &Request) -> PathBuf {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Only {
        cluster: Option<String>,
    }
    let path = request.config::<Only>().ok().and_then(|only| settings_path(only.cluster).ok());
    path.unwrap_or_else(|| SETTINGS.into())
}

fn settings_path(path: Option<String>) -> Result<PathBuf, Error> {
    match path.filter(|path| !path.is_empty()) {
        None => Ok(SETTINGS.into()),
        Some(path) if path.starts_with('/') && !path.contains('\0') => Ok(path.into()),
        Some(path) => {
            Err(Error::invalid_config(format!("cluster: {:?} is not an absolute path", shortened(&path))))
        }
    }
}

fn ipam(request: &Request, foreign: bool) -> Result<String, Error> {
    let needed = r#"overlay needs "ipam": {"type": "cluster", "subnets": [...]}"#;
    match attach::ipam_type(request)? {
        None => Err(Error::invalid_config(format!("{needed}: there is none"))),
        Some(ipam) if foreign || ipam == CLUSTER => Ok(ipam),
        Some(ipam) => Err(Error::invalid_config(format!(
            "{needed}: {:?} does not know which addresses other hosts give",
            shortened(&ipam)
        ))
        .details("with \"foreignIpam\": true, whoever configures it answers for that")),
    }
}

/// `runtimeConfig.mac`, otherwise `args.cni.mac`, otherwise `MAC` of CNI_ARGS; empty means not
/// given.
fn mac(
    request: &Request,
    runtime_config: Option<MacConf>,
    args: Option<ArgsConf>,
) -> Result<Option<Mac>, Error> {
    let from_env = request.args(&["MAC"])?.pop().map(|(_, mac)| mac);
    let given = [runtime_config.and_then(|c| c.mac), args.and_then(|a| a.cni).and_then(|c| c.mac), from_env];
    let Some(text) = given.into_iter().flatten().find(|mac| !mac.is_empty()) else {
        return Ok(None);
    };
    let invalid = |why: &str| {
        Error::invalid_config(format!("failed to make veth pair: address {}: {why}", shortened(&text)))
    };
    attach::link_mac(&text).map(Some).map_err(invalid)
}
