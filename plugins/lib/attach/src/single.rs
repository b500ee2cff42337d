//! Results of an attachment that has one link, in the container.

use cni::{AddResult, DnsConf, Error, Interface, Request};
use ipnetwork::IpNetwork;
use netlink::Mac;

use crate::mac_of;

/// The result of ADD without its link, which will be the first: the IPAM plugin's addresses and
/// routes, with the configuration's `dns`.
///
/// # Errors
/// A gateway is of another family than its address, or the version of the request cannot express
/// the result.
pub fn without_link(
    request: &Request,
    mut result: AddResult,
    dns: Option<&DnsConf>,
) -> Result<AddResult, Error> {
    // Only the configuration's counts; the reference drops the IPAM plugin's too.
    result.dns = cni::Dns::default();
    if let Some(dns) = dns {
        dns.override_dns(&mut result);
    }
    for ip in &mut result.ips {
        ip.interface = Some(0);
        if let Some(gateway) = ip.gateway
            && gateway.is_ipv4() != ip.address.is_ipv4()
        {
            let address = ip.address;
            return Err(Error::internal(format!(
                "the address {address} has a gateway of the other family, {gateway}"
            )));
        }
    }
    result.convertible_to(request.version)?;
    Ok(result)
}

/// The attachment's link, for the result of ADD.
pub fn link(request: &Request, mac: Option<Mac>) -> Interface {
    Interface {
        name: request.ifname.clone(),
        mac: mac.map(|mac| mac.to_string()),
        sandbox: Some(request.netns.clone()),
        ..Interface::default()
    }
}

/// The attachment's link in a result of the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its IP addresses.
    pub addresses: Vec<IpNetwork>,
}

impl Attached {
    /// For CHECK: the link must be in `previous`.
    ///
    /// # Errors
    /// It is not, or its MAC address is invalid.
    pub fn of(request: &Request, previous: &AddResult) -> Result<Self, Error> {
        let Some(index) = position(request, previous) else {
            let named = |link: &&Interface| {
                link.name == request.ifname
                    && link.sandbox.as_deref().is_some_and(|sandbox| !sandbox.is_empty())
            };
            let sandbox = previous.interfaces.iter().find(named).and_then(|link| link.sandbox.as_deref());
            return Err(Error::internal(format!(
                "Sandbox in prevResult {} doesn't match configured netns: {}",
                sandbox.unwrap_or("(none)"),
                request.netns
            )));
        };
        let text =
            previous.interfaces.get(index).and_then(|link| link.mac.as_deref()).filter(|mac| !mac.is_empty());
        let mac = mac_of(text);
        if let (Some(text), None) = (text, mac) {
            return Err(Error::internal(format!(
                "prevResult has an invalid MAC address for {}: {text:?}",
                request.ifname
            )));
        }
        let own = previous.ips.iter().filter(|ip| ip.interface.is_none_or(|of| of == index));
        Ok(Self { mac, addresses: own.map(|ip| ip.address).collect() })
    }

    /// For DEL: what the runtime remembers; `None` if it does not remember the link.
    pub fn remembered(request: &Request) -> Option<Self> {
        let result = request.prev_result().ok().flatten()?;
        let index = position(request, &result)?;
        let mac = result.interfaces.get(index).and_then(|link| mac_of(link.mac.as_deref()));
        let own = result.ips.iter().filter(|ip| ip.interface == Some(index));
        Some(Self { mac, addresses: own.map(|ip| ip.address).collect() })
    }
}

fn position(request: &Request, result: &AddResult) -> Option<usize> {
    let is_ours =
        |link: &Interface| link.name == request.ifname && link.sandbox.as_deref() == Some(&request.netns);
    result.interfaces.iter().position(is_ours)
}
