//! The configuration of a VRF: the keys as written ([`Conf`]), and checked ([`Config`]).

use cni::keys::{Keys, Kind, key};
use cni::{Error, Json, Request, shortened};
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Conf {
    vrfname: Option<String>,
    table: Option<i64>,
}

/// Just enough for DEL, and nothing that must be valid.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DelConf {
    vrfname: Option<Json>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[key("vrfname", Kind::Text), key("table", Kind::Number(0, u32::MAX as u64))]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The VRF's name.
    pub name: String,
    /// Its table; `None` is one that nobody uses, or that of a VRF that exists.
    pub table: Option<u32>,
}

/// linux/if.h: the longest interface name, in bytes (IFNAMSIZ - 1).
const NAME_MAX: usize = 15;
/// The kernel's own table of local addresses (RT_TABLE_LOCAL, linux/rtnetlink.h).
const LOCAL_TABLE: u32 = 255;

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let name = conf.vrfname.unwrap_or_default();
        if name.is_empty() {
            return Err(Error::invalid_config("configuration is expected to have a valid vrf name"));
        }
        if !is_link_name(&name) {
            return Err(Error::invalid_config(format!(
                "invalid vrfname {:?}: no name of an interface",
                shortened(&name)
            )));
        }
        if name == request.ifname {
            return Err(Error::invalid_config(format!(
                "the VRF cannot have the name of the interface, {name}"
            )));
        }
        let table = conf.table.filter(|table| *table != 0).map(table).transpose()?;
        Ok(Self { name, table })
    }
}

/// The VRF's name for DEL. Nothing in it may make DEL fail.
pub fn name_of(request: &Request) -> Option<String> {
    let conf: DelConf = request.config().unwrap_or_default();
    conf.vrfname.and_then(|name| name.decode::<String>().ok()).filter(|name| is_link_name(name))
}

/// The kernel's rules (dev_valid_name, net/core/dev.c).
fn is_link_name(name: &str) -> bool {
    let is_plain = |c: char| c != '/' && c != ':' && !c.is_whitespace() && !c.is_control();
    !name.is_empty() && name.len() <= NAME_MAX && name != "." && name != ".." && name.chars().all(is_plain)
}

fn table(number: i64) -> Result<u32, Error> {
    u32::try_from(number).ok().filter(|table| *table != LOCAL_TABLE).ok_or_else(|| {
        Error::invalid_config(format!("invalid table {number}, must be in [0, {}] but 255", u32::MAX))
    })
}
