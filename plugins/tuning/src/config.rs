//! The configuration: the keys as written ([`Conf`]), and checked ([`Config`]).

use std::path::PathBuf;

use cni::keys::{self, Key, Keys, Kind, key};
use cni::{Error, Request, shortened};
use host::piece::LinkSettings;
use netlink::Mac;
use serde::Deserialize;

use crate::parameter::{Parameter, Parameters, Written};

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    sysctl: Option<Written>,
    mac: Option<String>,
    mtu: Option<i64>,
    promisc: Option<bool>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_q_len: Option<i64>,
    data_dir: Option<String>,
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
    cni: Option<CniArgs>,
}

/// `args.cni`, which counts before everything else.
#[derive(Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    sysctl: Option<Written>,
    mac: Option<String>,
    mtu: Option<i64>,
    promisc: Option<bool>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_q_len: Option<i64>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[
    SETTINGS,
    &[
        key("dataDir", Kind::Text),
        key("runtimeConfig", keys::MAC),
        key("args", Kind::Object(&[key("cni", Kind::Object(SETTINGS))])),
    ],
];

const SETTINGS: &[Key] = &[
    key("sysctl", Kind::Map(&Kind::Text)),
    key("mac", Kind::Text),
    key("mtu", Kind::Number(0, MTU.1.unsigned_abs())),
    key("promisc", Kind::Bool),
    key("allmulti", Kind::Bool),
    key("txQLen", Kind::Number(0, QUEUE_MAX.unsigned_abs())),
];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The parameters, in the order in which they are set.
    pub parameters: Vec<Parameter>,
    /// The link's settings.
    pub link: LinkSettings,
    /// The directory of the backups that the reference's DEL reads.
    pub data_dir: PathBuf,
}

/// The reference's directory of backups.
const DATA_DIR: &str = "/run/cni/tuning";
/// Bounds of an MTU, both included (linux/if_ether.h: ETH_MIN_MTU, ETH_MAX_MTU).
const MTU: (i64, i64) = (68, 65_535);
/// The longest queue, in packets. The kernel allocates memory for it with some queueing
/// disciplines.
const QUEUE_MAX: i64 = 1 << 20;

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let args = conf.args.and_then(|args| args.cni).unwrap_or_default();
        // STATUS has no attachment, and therefore no CNI_ARGS.
        let from_env = request.args(&["MAC"])?.pop().map(|(_, mac)| mac);
        let macs = [args.mac, conf.runtime_config.and_then(|conf| conf.mac), from_env, conf.mac];
        let mac = macs.into_iter().flatten().find(|mac| !mac.is_empty());
        // 0 and false mean "as it is".
        let nonzero = |mtu: Option<i64>| mtu.filter(|mtu| *mtu != 0);
        let promiscuous = args.promisc == Some(true) || conf.promisc == Some(true);
        Ok(Self {
            parameters: Parameters::default()
                .with(conf.sysctl, &request.ifname)?
                .with(args.sysctl, &request.ifname)?
                .into_list()?,
            link: LinkSettings {
                mac: mac.map(|text| mac_address(&text)).transpose()?,
                mtu: nonzero(args.mtu).or(nonzero(conf.mtu)).map(mtu).transpose()?,
                promiscuous: promiscuous.then_some(true),
                all_multicast: args.allmulti.or(conf.allmulti),
                queue_length: args.tx_q_len.or(conf.tx_q_len).map(queue_length).transpose()?,
            },
            data_dir: directory(conf.data_dir)
                .ok_or_else(|| Error::invalid_config("invalid dataDir: it must be an absolute path"))?,
        })
    }

    /// Whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.link.is_empty()
    }
}

/// The directory of the reference's backups, for DEL: nothing else in the configuration can make
/// it fail. `None` if it is not a path.
///
/// # Errors
/// `failed to load netconf: ...` when the key is not a string.
pub fn data_dir(request: &Request) -> Result<Option<PathBuf>, Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct DirConf {
        data_dir: Option<String>,
    }
    let conf: DirConf = request.config()?;
    Ok(directory(conf.data_dir))
}

fn directory(configured: Option<String>) -> Option<PathBuf> {
    let path = configured.filter(|path| !path.is_empty()).unwrap_or_else(|| DATA_DIR.into());
    (path.starts_with('/') && !path.contains(char::is_control)).then(|| path.into())
}

fn mac_address(text: &str) -> Result<Mac, Error> {
    attach::link_mac(text).map_err(|why| {
        let text = shortened(text);
        Error::invalid_config(format!("invalid args {text} for MAC addr: {why}"))
    })
}

fn mtu(configured: i64) -> Result<u32, Error> {
    let (least, most) = MTU;
    let fits = u32::try_from(configured).ok().filter(|_| (least..=most).contains(&configured));
    fits.ok_or_else(|| {
        Error::invalid_config(format!("invalid MTU {configured}, must be 0 or [{least}, {most}]"))
    })
}

fn queue_length(configured: i64) -> Result<u32, Error> {
    let fits = u32::try_from(configured).ok().filter(|_| configured <= QUEUE_MAX);
    fits.ok_or_else(|| {
        Error::invalid_config(format!("invalid txQLen {configured}, must be [0, {QUEUE_MAX}]"))
    })
}
