//! Reads results of every version into the newest format (C-057, C-061, C-064).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer};

use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::json::{DecodeError, Json};
use crate::text::quoted;
use crate::version::Format;
use crate::{Error, Version, de};

/// 0.1.0 and 0.2.0
#[derive(Deserialize)]
struct Two {
    ip4: Option<TwoIp>,
    ip6: Option<TwoIp>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Deserialize)]
struct TwoIp {
    #[serde(default, deserialize_with = "de::cidr")]
    ip: Option<IpNetwork>,
    #[serde(default, deserialize_with = "de::ip")]
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Vec<Route>,
}

/// 0.3.0 and later
#[derive(Default, Deserialize)]
#[serde(default)]
struct Later {
    interfaces: Vec<LaterInterface>,
    ips: Vec<LaterIp>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LaterInterface {
    name: String,
    mac: String,
    mtu: u32,
    sandbox: String,
    #[serde(rename = "socketPath")]
    socket_path: String,
    #[serde(rename = "pciID")]
    pci_id: String,
}

#[derive(Deserialize)]
struct LaterIp {
    interface: Option<usize>,
    #[serde(default, deserialize_with = "de::cidr")]
    address: Option<IpNetwork>,
    #[serde(default, deserialize_with = "de::ip")]
    gateway: Option<IpAddr>,
}

#[derive(Deserialize)]
struct LaterRoute {
    #[serde(default, deserialize_with = "de::cidr")]
    dst: Option<IpNetwork>,
    #[serde(default, deserialize_with = "de::ip")]
    gw: Option<IpAddr>,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    advmss: u32,
    #[serde(default)]
    priority: u32,
    table: Option<u32>,
    scope: Option<u8>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LaterDns {
    nameservers: Vec<String>,
    domain: String,
    search: Vec<String>,
    options: Vec<String>,
}

/// The version that a result names; `within` is the key of the result, for errors.
pub(super) fn version(tree: &Json, fallback: Version, within: Option<&str>) -> Result<Version, Error> {
    let wrong = |error: DecodeError| Err(within.into_iter().fold(error, DecodeError::below).into());
    let text = match (tree, tree.get("cniVersion")) {
        (Json::Object(_), None) => "",
        (Json::Object(_), Some(Json::String(text))) => text,
        (Json::Object(_), Some(other)) => {
            let found = other.kind();
            return wrong(DecodeError::new(format!("expected a string, found {found}")).below("cniVersion"));
        }
        (other, _) => {
            return wrong(DecodeError::new(format!("expected an object, found {}", other.kind())));
        }
    };
    if text.is_empty() {
        return Ok(fallback);
    }
    text.parse().map_err(|_| Error::internal(format!("unsupported CNI result version \"{}\"", quoted(text))))
}

pub(super) fn result(tree: &Json, version: Version) -> Result<AddResult, DecodeError> {
    Ok(match version.format() {
        Format::V0_2 => two(tree.decode()?)?,
        Format::V0_3 => {
            let mut result = later(tree.decode()?)?;
            // These versions do not have these keys.
            for interface in &mut result.interfaces {
                (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
            }
            result
        }
        Format::V1_0 => later(tree.decode()?)?,
    })
}

fn two(result: Two) -> Result<AddResult, DecodeError> {
    let mut out = AddResult { dns: result.dns, ..AddResult::default() };
    for (key, ip) in [("ip4", result.ip4), ("ip6", result.ip6)] {
        let Some(ip) = ip else { continue };
        let address = ip.ip.ok_or_else(|| DecodeError::new("missing").below("ip").below(key))?;
        out.ips.push(IpConfig { interface: None, address, gateway: ip.gateway });
        out.routes.extend(ip.routes);
    }
    Ok(out)
}

fn later(result: Later) -> Result<AddResult, DecodeError> {
    let ips = result.ips.into_iter().enumerate().map(|(index, ip)| {
        let missing = || DecodeError::new("missing").below("address").at(index).below("ips");
        let address = ip.address.ok_or_else(missing)?;
        Ok(IpConfig { interface: ip.interface, address, gateway: ip.gateway })
    });
    let interfaces = result.interfaces.into_iter().map(|link| Interface {
        name: link.name,
        mac: nonempty(link.mac),
        mtu: (link.mtu != 0).then_some(link.mtu),
        sandbox: nonempty(link.sandbox),
        socket_path: nonempty(link.socket_path),
        pci_id: nonempty(link.pci_id),
    });
    Ok(AddResult {
        interfaces: interfaces.collect(),
        ips: ips.collect::<Result<_, DecodeError>>()?,
        routes: result.routes,
        dns: result.dns,
    })
}

fn nonempty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(super) fn route<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Route, D::Error> {
    let route = LaterRoute::deserialize(deserializer)?;
    let dst = route.dst.ok_or_else(|| serde::de::Error::missing_field("dst"))?;
    Ok(Route {
        dst,
        gw: route.gw,
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
    })
}

pub(super) fn dns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Dns, D::Error> {
    let dns = LaterDns::deserialize(deserializer)?;
    Ok(Dns { nameservers: dns.nameservers, domain: dns.domain, search: dns.search, options: dns.options })
}
