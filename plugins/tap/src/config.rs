//! The configuration of a network of TAP devices: the keys as written ([`Conf`]), and checked
//! ([`Config`]).

use cni::keys::{self, Keys, Kind, key};
use cni::{Error, Request, shortened};
use netlink::Mac;
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    multi_queue: Option<bool>,
    mtu: Option<i64>,
    mac: Option<String>,
    owner: Option<u32>,
    group: Option<u32>,
    #[serde(rename = "selinuxContext")]
    selinux_context: Option<String>,
    bridge: Option<String>,
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
    key("multiQueue", Kind::Bool),
    key("mtu", Kind::Number(0, MTU.1 as u64)),
    key("mac", Kind::Text),
    key("owner", Kind::Number(0, (NO_ID - 1) as u64)),
    key("group", Kind::Number(0, (NO_ID - 1) as u64)),
    key("selinuxContext", Kind::Text),
    key("bridge", Kind::Text),
    key("ipam", Kind::Ipam),
    key("dns", keys::DNS),
    key("runtimeConfig", keys::MAC),
]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether the device takes several queues.
    pub multi_queue: bool,
    /// The MTU in bytes; `None` is the kernel's default, 1500.
    pub mtu: Option<u32>,
    /// The configured MAC address.
    pub mac: Option<Mac>,
    /// The user who may attach to the device.
    pub owner: Option<u32>,
    /// The group that may.
    pub group: Option<u32>,
    /// The device's SELinux context.
    pub context: Option<String>,
    /// The bridge in the container that the device is a port of.
    pub bridge: Option<String>,
    /// The IPAM plugin; `None` is layer 2.
    pub ipam: Option<String>,
    /// Replaces the IPAM plugin's.
    pub dns: Option<cni::DnsConf>,
}

/// Bounds of an MTU, both included (linux/if_ether.h: ETH_MIN_MTU; drivers/net/tun.c: MAX_MTU less
/// the Ethernet header).
const MTU: (u32, u32) = (68, 65_521);
/// The id that means none (uid_valid, linux/uidgid.h).
const NO_ID: u32 = u32::MAX;
/// A page: the most that the kernel takes.
const CONTEXT_MAX: usize = 4095;

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        for (key, id) in [("owner", conf.owner), ("group", conf.group)] {
            if id == Some(NO_ID) {
                return Err(Error::invalid_config(format!(
                    "invalid {key} {NO_ID}: the kernel has no such id"
                )));
            }
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let context = given(conf.selinux_context);
        if let Some(context) = &context {
            refuse_context(context)?;
        }
        Ok(Self {
            multi_queue: conf.multi_queue.unwrap_or(false),
            mtu: mtu(conf.mtu.unwrap_or(0))?,
            mac: configured_mac(request, conf.runtime_config, conf.mac)?,
            owner: conf.owner,
            group: conf.group,
            context,
            bridge: given(conf.bridge),
            ipam: attach::ipam_type(request)?,
            dns: conf.dns,
        })
    }
}

/// 0 is the kernel's default.
fn mtu(configured: i64) -> Result<Option<u32>, Error> {
    let (least, most) = MTU;
    match u32::try_from(configured) {
        Ok(0) => Ok(None),
        Ok(mtu) if (least..=most).contains(&mtu) => Ok(Some(mtu)),
        _ => Err(Error::invalid_config(format!("invalid MTU {configured}, must be 0 or [{least}, {most}]"))),
    }
}

/// `user:role:type`, and usually `:level`. Another security module would take other words.
fn refuse_context(context: &str) -> Result<(), Error> {
    let is_plain = context.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain && context.split(':').count() > 2 && context.len() <= CONTEXT_MAX {
        return Ok(());
    }
    let context = shortened(context);
    Err(Error::invalid_config(format!("invalid selinuxContext {context:?}, must be user:role:type:level")))
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
    attach::link_mac(text).map_err(|why| {
        let text = shortened(text);
        Error::invalid_config(format!("invalid args {text} for MAC addr: {why}"))
    })
}
