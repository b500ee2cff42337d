//! The configuration: the keys as written, with addresses as text, and the checked settings.

use std::collections::HashSet;
use std::net::IpAddr;

use cni::keys::{self, Keys, Kind, key};
use cni::{Dns, IpConfig, Route, Version};
use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::args::Args;
use crate::error::ConfigError;

/// Limits time and memory for any configuration. Far above what a link has.
const MAX_ADDRESSES: usize = 1024;

/// The keys of the network configuration that static uses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    ipam: Option<IpamConf>,
    runtime_config: Option<RuntimeConf>,
    args: Option<ArgsConf>,
}

/// The `ipam` object.
#[derive(Clone, Debug, Default, Deserialize)]
struct IpamConf {
    addresses: Option<Vec<Option<AddressConf>>>,
    routes: Option<Vec<Route>>,
    dns: Option<Dns>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct AddressConf {
    address: Option<String>,
    gateway: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct RuntimeConf {
    ips: Option<Vec<Option<String>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ArgsConf {
    cni: Option<CniArgsConf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct CniArgsConf {
    ips: Option<Vec<Option<String>>>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key(
        "ipam",
        Kind::Object(&[
            key(
                "addresses",
                Kind::List(&Kind::Object(&[key("address", Kind::Text), key("gateway", Kind::Text)])),
            ),
            key("routes", keys::ROUTES),
            key("dns", keys::DNS),
        ]),
    ),
    key("runtimeConfig", Kind::Object(&[key("ips", keys::TEXTS)])),
    key("args", Kind::Object(&[key("cni", Kind::Object(&[key("ips", keys::TEXTS)]))])),
]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The addresses of the result, in order.
    pub ips: Vec<IpConfig>,
    /// The result's routes.
    pub routes: Vec<Route>,
    /// The result's resolvers.
    pub dns: Dns,
    /// Gateways of CNI_ARGS that are in the subnet of no address.
    pub unused_gateways: Vec<IpAddr>,
}

impl Conf {
    /// Checks the configuration together with the values of CNI_ARGS.
    ///
    /// `runtimeConfig.ips` replaces all other addresses, else `args.cni.ips` does; else those of
    /// CNI_ARGS follow the configured ones.
    pub fn check(self, version: Version, args: &Args) -> Result<Settings, ConfigError> {
        let ipam = self.ipam.ok_or(ConfigError::NoIpam)?;
        let configured = ipam.addresses.unwrap_or_default();
        let runtime = self.runtime_config.and_then(|runtime| runtime.ips);
        let by_args = self.args.and_then(|args| args.cni?.ips);
        let replacement = [runtime, by_args].into_iter().flatten().find(|ips| !ips.is_empty());
        let count = replacement.as_ref().map_or(configured.len() + args.ips.len(), Vec::len);
        if count.max(configured.len()) > MAX_ADDRESSES {
            return Err(ConfigError::TooMany(count.max(configured.len()), MAX_ADDRESSES));
        }
        let configured = configured.into_iter().map(Option::unwrap_or_default).enumerate().map(address);
        let mut ips = match replacement {
            // What is replaced need not be valid.
            Some(ips) => requested(&ips, &configured.flatten().collect::<Vec<_>>())?,
            None => {
                let by_env = args.ips.iter().map(|ip| Ok(ip_config(*ip, None)));
                configured.chain(by_env).collect::<Result<_, _>>()?
            }
        };
        let unused_gateways = set_gateways(&mut ips, &args.gateways);
        ensure_distinct(&ips)?;
        ensure_version_holds(&ips, version)?;
        Ok(Settings {
            ips,
            routes: ipam.routes.unwrap_or_default(),
            dns: ipam.dns.unwrap_or_default(),
            unused_gateways,
        })
    }

    /// Fails if no ADD can succeed, whichever addresses the runtime gives.
    pub fn ensure_complete(&self) -> Result<(), ConfigError> {
        if self.ipam.is_none() { Err(ConfigError::NoIpam) } else { Ok(()) }
    }
}

fn ip_config(address: IpNetwork, gateway: Option<IpAddr>) -> IpConfig {
    IpConfig { interface: None, address, gateway }
}

/// A configured address.
fn address((index, conf): (usize, AddressConf)) -> Result<IpConfig, ConfigError> {
    let text = conf.address.unwrap_or_default();
    let address = cni::parse_cidr(&text).map_err(|_| ConfigError::BadAddress(text))?;
    let gateway = conf
        .gateway
        .filter(|gateway| !gateway.is_empty())
        .map(|gateway| cni::parse_ip(&gateway))
        .transpose()
        .map_err(|cause| ConfigError::BadGateway(index, cause))?;
    match gateway {
        Some(gateway) if gateway.is_ipv4() != address.is_ipv4() => {
            Err(ConfigError::GatewayFamily { gateway, address })
        }
        _ => Ok(ip_config(address, gateway)),
    }
}

/// The addresses that replace the configured ones. The gateway of a subnet is the network's, not the
/// address's: it stays.
fn requested(ips: &[Option<String>], configured: &[IpConfig]) -> Result<Vec<IpConfig>, ConfigError> {
    let subnet = |address: &IpNetwork| (address.network(), address.prefix());
    let gateway_of = |address: &IpNetwork| {
        configured.iter().filter(|ip| subnet(&ip.address) == subnet(address)).find_map(|ip| ip.gateway)
    };
    let request = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        let address = cni::parse_cidr(text).map_err(|_| ConfigError::BadRequested(text.to_owned()))?;
        Ok(ip_config(address, gateway_of(&address)))
    };
    ips.iter().map(request).collect()
}

/// Sets each gateway on the addresses with it in their subnet; the last one counts. Returns those
/// that fit no address.
fn set_gateways(ips: &mut [IpConfig], gateways: &[IpAddr]) -> Vec<IpAddr> {
    let mut unused = Vec::new();
    for &gateway in gateways {
        let mut fits = false;
        for ip in ips.iter_mut().filter(|ip| ip.address.contains(gateway)) {
            ip.gateway = Some(gateway);
            fits = true;
        }
        if !fits {
            unused.push(gateway);
        }
    }
    unused
}

/// The kernel refuses the second one (EEXIST): of IPv6 any of the same address, of IPv4 only one
/// with the same prefix length.
fn ensure_distinct(ips: &[IpConfig]) -> Result<(), ConfigError> {
    let mut seen = HashSet::with_capacity(ips.len());
    let key = |address: &IpNetwork| (address.ip(), address.is_ipv4().then(|| address.prefix()));
    match ips.iter().find(|ip| !seen.insert(key(&ip.address))) {
        Some(ip) => Err(ConfigError::Duplicate(ip.address)),
        None => Ok(()),
    }
}

fn ensure_version_holds(ips: &[IpConfig], version: Version) -> Result<(), ConfigError> {
    let v4 = ips.iter().filter(|ip| ip.address.is_ipv4()).count();
    let is_old = matches!(version, Version::V0_1_0 | Version::V0_2_0);
    if is_old && (v4 > 1 || ips.len() - v4 > 1) { Err(ConfigError::OnePerFamily(version)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
