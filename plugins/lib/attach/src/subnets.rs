//! The subnets of a network, as its configuration names them.

use std::net::IpAddr;

use cni::{Error, Json, Request};
use ipnetwork::IpNetwork;
use serde::Deserialize;

/// The keys that most IPAM plugins share.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Conf {
    ipam: Option<IpamConf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IpamConf {
    subnet: Option<String>,
    gateway: Option<String>,
    ranges: Option<Json>,
}

#[derive(Deserialize)]
struct RangeConf {
    subnet: Option<String>,
    gateway: Option<String>,
}

/// Gateways of the subnets in an ipam section, with their prefix lengths. They are only a hint, so
/// what does not parse is skipped.
///
/// # Errors
/// 999 for a value of another type.
pub fn ipam_gateways(request: &Request) -> Result<Vec<IpNetwork>, Error> {
    let conf: Conf = request.config()?;
    let ipam = conf.ipam.unwrap_or_default();
    let ranges = ipam.ranges.and_then(|ranges| ranges.decode::<Vec<Vec<RangeConf>>>().ok());
    let own = RangeConf { subnet: ipam.subnet, gateway: ipam.gateway };
    let ranges = ranges.into_iter().flatten().flatten();
    let gateways = ranges.chain([own]).filter_map(|range| {
        let subnet = cni::parse_cidr(&range.subnet?).ok()?;
        let given = range.gateway.filter(|gateway| !gateway.is_empty());
        let gateway = match given {
            Some(gateway) => cni::parse_ip(&gateway).ok()?,
            None => first_address(&subnet)?,
        };
        IpNetwork::new(gateway, subnet.prefix()).ok()
    });
    Ok(gateways.collect())
}

/// The first address of a subnet after its network address, or `None`; host bits of `net` are
/// ignored.
pub fn first_address(net: &IpNetwork) -> Option<IpAddr> {
    let next: IpAddr = match net.network() {
        IpAddr::V4(ip) => std::net::Ipv4Addr::from(u32::from(ip).checked_add(1)?).into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from(u128::from(ip).checked_add(1)?).into(),
    };
    net.contains(next).then_some(next)
}
