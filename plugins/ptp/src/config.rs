//! The configuration of a point-to-point network: the keys as written ([`Conf`]), and checked
//! ([`Config`]).

use attach::{Outside, VethMtu};
use cni::keys::{self, Keys, Kind, key};
use cni::{Error, Request, shortened};
use ipnetwork::IpNetwork;
use netlink::Mac;
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    ipspoofchk: Option<bool>,
    mac: Option<String>,
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
pub const KEYS: Keys = &[
    &[
        key("ipspoofchk", Kind::Bool),
        key("mac", Kind::Text),
        key("ipam", Kind::Ipam),
        key("dns", keys::DNS),
        key("runtimeConfig", keys::MAC),
        key("args", Kind::Object(&[key("cni", keys::MAC)])),
    ],
    attach::OUTSIDE_KEYS,
    attach::VETH_MTU_KEYS,
];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How packets reach the outside.
    pub outside: Outside,
    /// The host accepts only packets from the container's own addresses.
    pub source_filter: bool,
    /// The MTU of both ends; `None` is the kernel's default.
    pub mtu: Option<VethMtu>,
    /// The container's MAC address, if it is configured.
    pub mac: Option<Mac>,
    /// The IPAM plugin.
    pub ipam: String,
    /// Gateways that the ipam section names or implies: their subnets are inside the network.
    pub ipam_gateways: Vec<IpNetwork>,
    /// Overrides the IPAM plugin's.
    pub dns: Option<cni::DnsConf>,
}

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let Some(ipam) = attach::ipam_type(request)? else {
            return Err(Error::invalid_config(
                "ptp needs ipam, the host has a route to each address: no plugin name provided",
            ));
        };
        Ok(Self {
            outside: Outside::of(request)?,
            source_filter: conf.ipspoofchk.unwrap_or(false),
            mtu: attach::veth_mtu(request)?,
            ipam,
            ipam_gateways: attach::ipam_gateways(request)?,
            mac: mac(request, conf.runtime_config, conf.args, conf.mac)?,
            dns: conf.dns,
        })
    }
}

/// `runtimeConfig.mac`, otherwise `args.cni.mac`, otherwise `MAC` of CNI_ARGS, otherwise `mac`;
/// empty means not given.
fn mac(
    request: &Request,
    runtime_config: Option<MacConf>,
    args: Option<ArgsConf>,
    configured: Option<String>,
) -> Result<Option<Mac>, Error> {
    let from_env = request.args(&["MAC"])?.pop().map(|(_, mac)| mac);
    let of_args = args.and_then(|args| args.cni).and_then(|cni| cni.mac);
    let given = [runtime_config.and_then(|conf| conf.mac), of_args, from_env, configured];
    let Some(text) = given.into_iter().flatten().find(|mac| !mac.is_empty()) else {
        return Ok(None);
    };
    let invalid = |why: &str| {
        Error::invalid_config(format!("failed to make veth pair: address {}: {why}", shortened(&text)))
    };
    attach::link_mac(&text).map(Some).map_err(invalid)
}
