//! An MTU as it is configured, and the minimum MTU of IPv6: on a link with less, the kernel accepts
//! no IPv6 address.

use cni::{Error, Json, Request};
use ipnetwork::IpNetwork;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// RFC 8200, section 5 (linux/ipv6.h: IPV6_MIN_MTU), in bytes.
const IPV6_MIN_MTU: u32 = 1280;

/// An MTU as it is written in a configuration: a number of bytes, or `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtuConf {
    /// This many bytes, not checked.
    Bytes(i64),
    /// That of the link below.
    Auto,
}

impl<'de> Deserialize<'de> for MtuConf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MtuVisitor;
        impl Visitor<'_> for MtuVisitor {
            type Value = MtuConf;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of bytes or \"auto\"")
            }
            fn visit_i64<E>(self, bytes: i64) -> Result<MtuConf, E> {
                Ok(MtuConf::Bytes(bytes))
            }
            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<MtuConf, E> {
                i64::try_from(bytes).map(MtuConf::Bytes).map_err(|_| E::custom("mtu is out of range"))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MtuConf, E> {
                match text {
                    "auto" => Ok(MtuConf::Auto),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(MtuVisitor)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    ipam: Option<Ipam>,
    runtime_config: Option<RuntimeConfig>,
}

/// The keys that most IPAM plugins share. They are only a hint: the IPAM plugin reports what does
/// not parse.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Ipam {
    subnet: Option<Json>,
    ranges: Option<Json>,
    addresses: Option<Json>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConfig {
    ip_ranges: Option<Json>,
    ips: Option<Json>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Range {
    subnet: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Address {
    address: String,
}

/// Refuses an MTU that is too small for an IPv6 network of the ipam section, before an address is
/// requested.
///
/// # Errors
/// Code 7.
pub fn refuse_for_config(request: &Request, mtu: Option<u32>) -> Result<(), Error> {
    if mtu.is_none_or(|mtu| mtu >= IPV6_MIN_MTU) {
        return Ok(());
    }
    refuse_for(mtu, &networks(request.config()?))
}

/// Refuses an MTU that is too small for one of the addresses.
///
/// # Errors
/// Code 7.
pub fn refuse_for<'n>(
    mtu: Option<u32>,
    networks: impl IntoIterator<Item = &'n IpNetwork>,
) -> Result<(), Error> {
    let Some(mtu) = mtu.filter(|mtu| *mtu < IPV6_MIN_MTU) else { return Ok(()) };
    match networks.into_iter().find(|network| network.is_ipv6()) {
        None => Ok(()),
        Some(network) => Err(Error::invalid_config(format!(
            "invalid MTU {mtu}: IPv6 needs at least {IPV6_MIN_MTU}, and the network has {network}"
        ))),
    }
}

fn networks(conf: Conf) -> Vec<IpNetwork> {
    let Conf { ipam, runtime_config } = conf;
    let ipam = ipam.unwrap_or_default();
    let runtime_config = runtime_config.unwrap_or_default();
    let mut texts: Vec<String> = Vec::new();
    texts.extend(ipam.subnet.and_then(|subnet| subnet.decode().ok()));
    for ranges in [ipam.ranges, runtime_config.ip_ranges].into_iter().flatten() {
        let ranges = ranges.decode::<Vec<Vec<Range>>>().unwrap_or_default();
        texts.extend(ranges.into_iter().flatten().map(|range| range.subnet));
    }
    let addresses = ipam.addresses.and_then(|addresses| addresses.decode::<Vec<Address>>().ok());
    texts.extend(addresses.into_iter().flatten().map(|address| address.address));
    texts.extend(runtime_config.ips.and_then(|ips| ips.decode::<Vec<String>>().ok()).into_iter().flatten());
    texts.iter().filter_map(|text| cni::parse_cidr(text).ok()).collect()
}
