//! The container's addresses that its ports lead to. Pure.

use cni::{AddResult, Error};
use host::ports::Mapping;
use ipnetwork::IpNetwork;
use sys::IpFamily;

use crate::config::{Config, HostIp};

/// The container's addresses that have ports to publish, each with its ports.
///
/// # Errors
/// The container has no address in the family of one of the host's addresses.
pub fn published_at<'c>(
    config: &'c Config,
    result: &AddResult,
    ifname: &str,
) -> Result<Vec<(IpNetwork, &'c [Mapping])>, Error> {
    let addresses = addresses(result, ifname);
    families_fit(config, &addresses)?;
    let with_ports =
        addresses.into_iter().map(|address| (address, config.mappings(IpFamily::of(address.ip()))));
    Ok(with_ports.filter(|(_, mappings)| !mappings.is_empty()).collect())
}

/// The container's addresses with their prefix lengths: the first of each family that is on its
/// interface, or that names no interface.
pub fn addresses(result: &AddResult, ifname: &str) -> Vec<IpNetwork> {
    let qualifies = |interface: Option<usize>| match interface.and_then(|index| result.interfaces.get(index))
    {
        None => true,
        Some(link) => link.name == ifname && link.sandbox.as_ref().is_some_and(|path| !path.is_empty()),
    };
    let first = |family| {
        let mut ips = result.ips.iter().filter(|ip| qualifies(ip.interface)).map(|ip| ip.address);
        ips.find(|net| IpFamily::of(net.ip()) == family)
    };
    IpFamily::BOTH.into_iter().filter_map(first).collect()
}

/// A port at a host address that cannot lead to the container would be closed silently.
fn families_fit(config: &Config, addresses: &[IpNetwork]) -> Result<(), Error> {
    let fits = |family| addresses.iter().any(|address| IpFamily::of(address.ip()) == family);
    for wanted in &config.wanted {
        if let HostIp::This(ip) = wanted.at
            && !addresses.is_empty()
            && !fits(IpFamily::of(ip))
        {
            let family = IpFamily::of(ip).name();
            return Err(Error::invalid_config(format!(
                "hostIP {ip}: the container has no {family} address that it could lead to"
            )));
        }
    }
    Ok(())
}
