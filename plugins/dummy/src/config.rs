//! The configuration of a dummy network: the keys as written ([`Conf`]), and checked ([`Config`]).

use cni::keys::{self, Keys, Kind, key};
use cni::{Error, Request, shortened};
use netlink::Mac;
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    mtu: Option<i64>,
    mac: Option<String>,
    dns: Option<cni::DnsConf>,
    runtime_config: Option<MacConf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MacConf {
    mac: Option<String>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key("mtu", Kind::Number(0, *MTUS.end() as u64)),
    key("mac", Kind::Text),
    key("ipam", Kind::Ipam),
    key("dns", keys::DNS),
    key("runtimeConfig", keys::MAC),
]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The MTU in bytes; `None` is the kernel's default.
    pub mtu: Option<u32>,
    /// The configured MAC address.
    pub mac: Option<Mac>,
    /// The IPAM plugin.
    pub ipam: String,
    /// Replaces the IPAM plugin's.
    pub dns: Option<cni::DnsConf>,
}

/// The kernel's default MTU of a dummy link (ETH_DATA_LEN, linux/if_ether.h).
pub const DEFAULT_MTU: u32 = 1500;

/// From the least of any IPv4 link (RFC 791) to the longest packet.
const MTUS: std::ops::RangeInclusive<u32> = 68..=65535;

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let ipam = attach::ipam_type(request)?
            .ok_or_else(|| Error::invalid_config("dummy interface requires an IPAM configuration"))?;
        let given = [conf.runtime_config.and_then(|conf| conf.mac), conf.mac];
        let mac = given.into_iter().flatten().find(|mac| !mac.is_empty());
        Ok(Self {
            mtu: conf.mtu.filter(|mtu| *mtu != 0).map(mtu).transpose()?,
            mac: mac.map(|text| configured_mac(&text)).transpose()?,
            ipam,
            dns: conf.dns,
        })
    }
}

fn mtu(configured: i64) -> Result<u32, Error> {
    u32::try_from(configured).ok().filter(|mtu| MTUS.contains(mtu)).ok_or_else(|| {
        let msg = format!("invalid MTU {configured}, must be 0 or [{}, {}]", MTUS.start(), MTUS.end());
        Error::invalid_config(msg)
    })
}

fn configured_mac(text: &str) -> Result<Mac, Error> {
    attach::link_mac(text)
        .map_err(|why| Error::invalid_config(format!("invalid MAC address {:?}: {why}", shortened(text))))
}
