//! The configured rates: the keys as written ([`Conf`]), and checked ([`Config`]).

use cni::keys::{Key, Keys, Kind, TEXTS, key};
use cni::{Error, Request, parse_cidr, shortened};
use host::piece::Packets;
use ipnetwork::IpNetwork;
use serde::Deserialize;

/// The keys as they are written; `null` means absent. Rates and bursts are in bits.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    ingress_rate: Option<u64>,
    ingress_burst: Option<u64>,
    egress_rate: Option<u64>,
    egress_burst: Option<u64>,
    shaped_subnets: Option<Vec<String>>,
    unshaped_subnets: Option<Vec<String>>,
    fq_codel: Option<bool>,
    strict_burst: Option<bool>,
    runtime_config: Option<RuntimeConf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuntimeConf {
    bandwidth: Option<BandwidthConf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BandwidthConf {
    ingress_rate: Option<u64>,
    ingress_burst: Option<u64>,
    egress_rate: Option<u64>,
    egress_burst: Option<u64>,
    shaped_subnets: Option<Vec<String>>,
    unshaped_subnets: Option<Vec<String>>,
}

/// Each packet is compared with them one by one.
const SUBNETS_MAX: usize = 128;
/// The reference refuses bursts from here on, in bytes.
const BURST_END: u64 = u32::MAX as u64;

/// The keys, and their values.
pub const KEYS: Keys = &[
    RATES,
    &[
        key("fqCodel", Kind::Bool),
        key("strictBurst", Kind::Bool),
        key("runtimeConfig", Kind::Object(&[key("bandwidth", Kind::Object(RATES))])),
    ],
];

const RATES: &[Key] = &[
    key("ingressRate", Kind::Number(0, u64::MAX)),
    key("ingressBurst", Kind::Number(0, u64::MAX)),
    key("egressRate", Kind::Number(0, u64::MAX)),
    key("egressBurst", Kind::Number(0, u64::MAX)),
    key("shapedSubnets", TEXTS),
    key("unshapedSubnets", TEXTS),
];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Packets to the container; `None`: they have no rate.
    pub ingress: Option<Rate>,
    /// Packets from the container.
    pub egress: Option<Rate>,
    /// Which packets have the rates.
    pub packets: Packets,
    /// Each connection has a queue, which is kept short.
    pub fq_codel: bool,
}

/// The rate of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In bytes per second.
    pub rate: u64,
    /// In bytes; `None` follows from the rate.
    pub burst: Option<u32>,
}

impl Config {
    /// Reads and checks the configuration; changes nothing.
    ///
    /// # Errors
    /// Code 7 for values that make no sense; 999 for a value of another type.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let runtime = conf.runtime_config.unwrap_or_default().bandwidth.unwrap_or_default();
        // One of the keys, even if it is 0, overrides all of the runtime's.
        let own = [conf.ingress_rate, conf.ingress_burst, conf.egress_rate, conf.egress_burst];
        let of_runtime =
            [runtime.ingress_rate, runtime.ingress_burst, runtime.egress_rate, runtime.egress_burst];
        let given = if own.iter().any(Option::is_some) { own } else { of_runtime };
        let [ingress_rate, ingress_burst, egress_rate, egress_burst] =
            given.map(|number| number.unwrap_or(0));
        let is_strict = conf.strict_burst.unwrap_or(false);
        Ok(Self {
            ingress: rate(ingress_rate, ingress_burst, is_strict)?,
            egress: rate(egress_rate, egress_burst, is_strict)?,
            packets: packets(
                conf.shaped_subnets.or(runtime.shaped_subnets),
                conf.unshaped_subnets.or(runtime.unshaped_subnets),
            )?,
            fq_codel: conf.fq_codel.unwrap_or(false),
        })
    }

    /// Whether no direction has a rate.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

/// The rate of a direction, from numbers of bits.
fn rate(rate: u64, burst: u64, is_strict: bool) -> Result<Option<Rate>, Error> {
    match (rate, burst) {
        (0, 0) => return Ok(None),
        (0, _) => return Err(Error::invalid_config("if burst is set, rate must also be set")),
        (_, 0) if is_strict => return Err(Error::invalid_config("if rate is set, burst must also be set")),
        (1..8, _) => {
            return Err(Error::invalid_config(format!(
                "a rate of {rate} bit/s is less than a byte per second"
            )));
        }
        _ => {}
    }
    if burst / 8 >= BURST_END {
        return Err(Error::invalid_config("burst cannot be more than 4GB"));
    }
    let burst = u32::try_from(burst / 8).ok().filter(|_| burst != 0);
    Ok(Some(Rate { rate: rate / 8, burst }))
}

fn packets(shaped: Option<Vec<String>>, unshaped: Option<Vec<String>>) -> Result<Packets, Error> {
    let listed = |list: Option<Vec<String>>, key| subnets(&list.unwrap_or_default(), key);
    let (shaped, unshaped) = (listed(shaped, "shapedSubnets")?, listed(unshaped, "unshapedSubnets")?);
    match (shaped.is_empty(), unshaped.is_empty()) {
        (true, true) => Ok(Packets::All),
        (false, true) => Ok(Packets::Only(shaped)),
        (true, false) => Ok(Packets::AllBut(unshaped)),
        (false, false) => Err(Error::invalid_config(
            "shapedSubnets and unshapedSubnets exclude each other: give one of the two",
        )),
    }
}

fn subnets(list: &[String], key: &str) -> Result<Vec<IpNetwork>, Error> {
    if list.len() > SUBNETS_MAX {
        return Err(Error::invalid_config(format!(
            "{key}: {} subnets are too many: at most {SUBNETS_MAX}",
            list.len()
        )));
    }
    let subnet = |text: &String| {
        let net = parse_cidr(text);
        net.map_err(|error| {
            Error::invalid_config(format!("{key}: bad subnet {}: {error}", shortened(text).escape_debug()))
        })
    };
    list.iter().map(subnet).collect()
}
