//! The result of ADD: the IPAM plugin's, with default routes and links added. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cluster::record::Net;
use cni::{AddResult, Error, Interface, Route};
use ipnetwork::IpNetwork;
use netlink::Mac;

use crate::config::Config;

/// Index of the container's link in the result, after the bridge and the host veth.
pub const CONTAINER: usize = 2;

/// The links of an attachment, for the result.
#[derive(Clone, Debug)]
pub struct Links {
    /// Name of the bridge.
    pub bridge: String,
    /// Its MAC address.
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
    /// The MTU of all of them, in bytes.
    pub mtu: u32,
}

/// Completes the IPAM plugin's result: an address without a gateway gets its subnet's, and a family
/// without a default route gets one, unless the network reaches nothing outside.
pub fn complete(config: &Config, net: &Net, mut ipam: AddResult) -> Result<AddResult, Error> {
    if ipam.ips.is_empty() {
        return Err(Error::internal("IPAM plugin returned missing IP config"));
    }
    let mut defaults: Vec<Route> = Vec::new();
    for ip in &mut ipam.ips {
        // All addresses are on the container's link.
        ip.interface = Some(CONTAINER);
        if ip.gateway.is_none() {
            ip.gateway = gateway_of(net, ip.address.ip());
        }
        let Some(gateway) = ip.gateway else { continue };
        if gateway.is_ipv4() != ip.address.is_ipv4() {
            return Err(Error::internal(format!(
                "IPAM plugin gave the address {} a gateway of the other family, {gateway}",
                ip.address
            )));
        }
        let is_same = |route: &Route| is_default(&route.dst) && route.dst.is_ipv4() == gateway.is_ipv4();
        if config.is_default_gateway && !ipam.routes.iter().chain(&defaults).any(is_same) {
            defaults.extend(default_route(gateway));
        }
    }
    ipam.routes.append(&mut defaults);
    if net.internal {
        ipam.routes.retain(|route| !is_default(&route.dst));
    }
    Ok(ipam)
}

/// The gateway of the network's subnet that has the address.
fn gateway_of(net: &Net, address: IpAddr) -> Option<IpAddr> {
    let mut subnets = net.subnets.iter().zip(&net.gateways);
    subnets.find(|(subnet, _)| subnet.contains(address)).map(|(_, gateway)| *gateway)
}

/// Adds the links at the head of the result, in the order of `bridge`; with their MTU for versions of
/// the specification that have it.
pub fn with_links(mut result: AddResult, config: &Config, links: &Links, says_mtu: bool) -> AddResult {
    let link = |name: &str, mac: Mac, sandbox: Option<&str>| Interface {
        name: name.into(),
        mac: Some(mac.to_string()),
        mtu: says_mtu.then_some(links.mtu),
        sandbox: sandbox.map(Into::into),
        ..Interface::default()
    };
    result.interfaces = vec![
        link(&links.bridge, links.bridge_mac, None),
        link(&links.host_veth, links.host_mac, None),
        link(&links.ifname, links.container_mac, Some(&links.netns)),
    ];
    if let Some(dns) = &config.dns {
        dns.override_dns(&mut result);
    }
    result
}

fn is_default(dst: &IpNetwork) -> bool {
    dst.prefix() == 0
}

fn default_route(gateway: IpAddr) -> Option<Route> {
    let any: IpAddr = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let dst = IpNetwork::new(any, 0).ok()?;
    Some(Route { dst, gw: Some(gateway), mtu: 0, advmss: 0, priority: 0, table: None, scope: None })
}
