//! The result of ADD: the IPAM plugin's, with gateways, default routes and links added. Pure.

use std::net::IpAddr;

use attach::first_address;
use cni::{AddResult, Error, Interface, Route};
use ipnetwork::IpNetwork;
use netlink::Mac;
use sys::IpFamily;

use crate::config::Config;

/// Index of the container's link in the result, after the bridge and the host veth.
pub const CONTAINER: usize = 2;

/// The links of an attachment, for the result.
#[derive(Clone, Debug)]
pub struct Links {
    /// MAC address of the bridge.
    pub bridge_mac: Mac,
    /// Name of the host veth.
    pub host_veth: String,
    /// Its MAC address.
    pub host_mac: Mac,
    /// Name of the link in the container.
    pub ifname: String,
    /// Its MAC address.
    pub container_mac: Mac,
    /// The path of the container's namespace, from the runtime.
    pub netns: String,
    /// MAC address of the VLAN interface, if there is one.
    pub vlan_mac: Option<Mac>,
}

/// Completes the IPAM plugin's result. With `isGateway`, an address without a gateway gets the
/// first address of its subnet; with `isDefaultGateway`, a family without a default route gets one.
pub fn complete(config: &Config, mut ipam: AddResult) -> Result<AddResult, Error> {
    if ipam.ips.is_empty() {
        return Err(Error::internal("IPAM plugin returned missing IP config"));
    }
    let mut defaults: Vec<Route> = Vec::new();
    for ip in &mut ipam.ips {
        // All addresses are on the container's link.
        ip.interface = Some(CONTAINER);
        if ip.gateway.is_none() && config.is_gateway {
            ip.gateway = first_address(&ip.address);
        }
        if let Some(gateway) = ip.gateway
            && gateway.is_ipv4() != ip.address.is_ipv4()
        {
            return Err(Error::internal(format!(
                "IPAM plugin gave the address {} a gateway of the other family, {gateway}",
                ip.address
            )));
        }
        let (true, Some(gateway)) = (config.is_default_gateway, ip.gateway) else { continue };
        let same_family = |route: &Route| is_default(&route.dst) && route.dst.is_ipv4() == gateway.is_ipv4();
        // A default route without a gateway gets this one below, so it counts (BR-B1).
        if !ipam.routes.iter().any(same_family) && !defaults.iter().any(same_family) {
            defaults.extend(default_route(gateway));
        }
    }
    for family in IpFamily::BOTH {
        let mut ips = ipam.ips.iter().filter(|ip| IpFamily::of(ip.address.ip()) == family).peekable();
        let Some(first) = ips.peek().map(|ip| ip.address) else { continue };
        if config.is_gateway && ips.all(|ip| ip.gateway.is_none()) {
            return Err(Error::internal(format!(
                "isGateway: the IPAM plugin gave {first}, a subnet of one address, without a gateway: give it one \
                 in ipam"
            )));
        }
    }
    ipam.routes.append(&mut defaults);
    Ok(ipam)
}

/// Adds the links at the head of the result, in the reference's order.
pub fn with_links(mut result: AddResult, config: &Config, links: &Links) -> AddResult {
    let link = |name: &str, mac: Mac, sandbox: Option<&str>| Interface {
        name: name.into(),
        mac: Some(mac.to_string()),
        sandbox: sandbox.map(Into::into),
        ..Interface::default()
    };
    result.interfaces = vec![
        link(&config.bridge, links.bridge_mac, None),
        link(&links.host_veth, links.host_mac, None),
        link(&links.ifname, links.container_mac, Some(&links.netns)),
    ];
    if let (Some(name), Some(mac)) = (config.vlan_link(), links.vlan_mac) {
        result.interfaces.push(link(&name, mac, None));
    }
    if let Some(dns) = &config.dns {
        dns.override_dns(&mut result);
    }
    result
}

/// Whether a destination is the default route of its family.
pub fn is_default(dst: &IpNetwork) -> bool {
    dst.prefix() == 0
}

fn default_route(gateway: IpAddr) -> Option<Route> {
    let any: IpAddr = match gateway {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let dst = IpNetwork::new(any, 0).ok()?;
    Some(Route { dst, gw: Some(gateway), mtu: 0, advmss: 0, priority: 0, table: None, scope: None })
}
