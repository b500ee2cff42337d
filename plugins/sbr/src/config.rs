//! The configuration of routes by source: the keys as written ([`Conf`]), and checked ([`Config`]).

use std::net::IpAddr;

use cni::keys::{Keys, Kind, TEXTS, key};
use cni::{Error, Json, Request, parse_ip, shortened};
use host::piece::Table;
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    table: Option<i64>,
    gateways: Option<Vec<String>>,
    add_source_hints: Option<bool>,
}

/// Just enough for DEL, and nothing that must be valid.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DelConf {
    table: Option<Json>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key("table", Kind::Number(1, u32::MAX as u64)),
    key("gateways", TEXTS),
    key("addSourceHints", Kind::Bool),
]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// An administrator's table; `None` makes one for each address.
    pub table: Option<u32>,
    /// The gateways that replace those of the previous result: at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// The main table keeps the routes to the link's subnets.
    pub hints: bool,
}

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let gateways = conf.gateways.unwrap_or_default();
        let gateways = gateways.iter().map(|text| gateway(text)).collect::<Result<Vec<_>, _>>()?;
        for (family, is_of_family) in
            [("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("IPv6", IpAddr::is_ipv6)]
        {
            if gateways.iter().filter(|gateway| is_of_family(gateway)).count() > 1 {
                return Err(Error::invalid_config(format!("more than one {family} gateway specified")));
            }
        }
        let hints = conf.add_source_hints.unwrap_or(false);
        Ok(Self { table: conf.table.map(table).transpose()?, gateways, hints })
    }

    /// The configured gateway of an address's family.
    pub fn gateway(&self, address: IpAddr) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == address.is_ipv4())
    }
}

/// The table for DEL. Nothing in it may make DEL fail.
pub fn table_of(request: &Request) -> Table {
    let conf: DelConf = request.config().unwrap_or_default();
    let configured = conf.table.and_then(|table| table.decode::<u32>().ok());
    configured.map_or(Table::Own, Table::Configured)
}

fn table(number: i64) -> Result<u32, Error> {
    u32::try_from(number)
        .ok()
        .filter(|table| *table != 0)
        .ok_or_else(|| Error::invalid_config(format!("invalid table {number}, must be in [1, {}]", u32::MAX)))
}

fn gateway(text: &str) -> Result<IpAddr, Error> {
    let refused = |why: &str| Error::invalid_config(format!("invalid gateway {:?}{why}", shortened(text)));
    let ip = parse_ip(text).map_err(|_| refused(""))?;
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return Err(refused(": not the address of another host"));
    }
    Ok(ip)
}
