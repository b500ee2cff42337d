//! The links of an attachment by a veth pair, in `prevResult`.

use std::net::IpAddr;

use cni::{AddResult, Error, Interface, Request};
use host::Owner;
use netlink::{Mac, Netlink};

/// The addresses of the attachment in `prevResult`, which may be absent: only a hint.
pub fn previous_addresses(request: &Request) -> Vec<IpAddr> {
    let result = request.prev_result().ok().flatten().unwrap_or_default();
    result.ips.iter().map(|ip| ip.address.ip()).collect()
}

fn sandbox(link: &Interface) -> &str {
    link.sandbox.as_deref().unwrap_or_default()
}

/// The container's link.
///
/// # Errors
/// The result does not contain it, or it is in another namespace than the request's.
pub fn container_link<'r>(request: &Request, result: &'r AddResult) -> Result<&'r Interface, Error> {
    let name = &request.ifname;
    let container = result.interfaces.iter().find(|link| link.name == *name && !sandbox(link).is_empty());
    let container =
        container.ok_or_else(|| Error::internal(format!("Interface name {name} not found in prevResult")))?;
    if sandbox(container) != request.netns {
        return Err(Error::internal(format!(
            "Sandbox in prevResult {} doesn't match configured netns: {}",
            sandbox(container),
            request.netns
        )));
    }
    Ok(container)
}

/// The host's end of the pair. The reference uses random names; and later plugins may have added
/// links of the host to the result: the end is a veth, and none of `others`.
pub fn host_veth<'r>(
    owner: &Owner,
    result: &'r AddResult,
    host: &Netlink,
    others: &[&str],
) -> Option<&'r Interface> {
    let is_ours = |link: &&Interface| owner.host_veth_names().any(|name| name == link.name);
    let is_veth = |link: &&Interface| {
        !others.contains(&link.name.as_str())
            && matches!(host.link_by_name(&link.name), Ok(Some(link)) if link.kind.as_deref() == Some("veth"))
    };
    let mut on_host = result.interfaces.iter().filter(|link| sandbox(link).is_empty());
    on_host.clone().find(is_ours).or_else(|| on_host.find(is_veth))
}

/// The MAC address of a link of the result.
///
/// # Errors
/// It has none.
pub fn previous_mac(link: &Interface) -> Result<Mac, Error> {
    let mac = crate::mac_of(link.mac.as_deref());
    mac.ok_or_else(|| Error::internal(format!("prevResult has an invalid MAC address for {}", link.name)))
}
