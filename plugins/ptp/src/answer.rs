//! The result of ADD: the IPAM plugin's, with missing gateways and the links added. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::{AddResult, Error, Interface, IpConfig};
use netlink::Mac;

use crate::config::Config;

/// Index of the container's link in the result, after the host's end.
pub const CONTAINER: usize = 1;

/// The host's address on every pair of a container whose IPAM plugin gives no gateway: link-local,
/// so that it is no address of the network's.
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The links of an attachment, for the result.
#[derive(Clone, Debug)]
pub struct Links {
    /// Name of the host's end.
    pub host_veth: String,
    /// Its MAC address.
    pub host_mac: Mac,
    /// MAC address of the container's end.
    pub container_mac: Mac,
    /// The path of the container's namespace, from the runtime.
    pub netns: String,
}

/// Completes the IPAM plugin's result.
pub fn complete(mut ipam: AddResult) -> Result<AddResult, Error> {
    if ipam.ips.is_empty() {
        return Err(Error::internal("IPAM plugin returned missing IP config"));
    }
    for ip in &mut ipam.ips {
        // All addresses are on the container's link.
        ip.interface = Some(CONTAINER);
        let gateway = *ip.gateway.get_or_insert(match ip.address.is_ipv4() {
            true => GATEWAY4.into(),
            false => GATEWAY6.into(),
        });
        if let Some(why) = unusable(ip, gateway) {
            return Err(Error::internal(format!(
                "IPAM plugin gave the address {} the gateway {gateway}, {why}",
                ip.address
            )));
        }
    }
    Ok(ipam)
}

/// Why the host cannot have the gateway's address on its end of the pair.
fn unusable(ip: &IpConfig, gateway: IpAddr) -> Option<&'static str> {
    if gateway.is_ipv4() != ip.address.is_ipv4() {
        Some("of the other family")
    } else if gateway == ip.address.ip() {
        Some("which is the container's own")
    } else if gateway.is_unspecified() || gateway.is_multicast() || gateway.is_loopback() {
        Some("which no link can have")
    } else {
        None
    }
}

/// Adds the links at the head of the result, in the reference's order.
pub fn with_links(mut result: AddResult, config: &Config, ifname: &str, links: &Links) -> AddResult {
    let link = |name: &str, mac: Mac, sandbox: Option<&str>| Interface {
        name: name.into(),
        mac: Some(mac.to_string()),
        sandbox: sandbox.map(Into::into),
        ..Interface::default()
    };
    result.interfaces = vec![
        link(&links.host_veth, links.host_mac, None),
        link(ifname, links.container_mac, Some(&links.netns)),
    ];
    if let Some(dns) = &config.dns {
        dns.override_dns(&mut result);
    }
    result
}
