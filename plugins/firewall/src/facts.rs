//! The host's state for an attachment, read before any decision.

use cni::{AddResult, Error};
use host::Owner;
use host::piece::Kernel;
use host::rules::firewall::{PortUse, port_use};
use host::rules::is_without_nf_tables;
use netlink::{Link, Netlink};

/// The host's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The host's link by which packets go to the container: the bridge, or the end of a pair.
    pub link: Option<String>,
    /// The container's port on a bridge, and who isolated it.
    pub port: Option<(String, PortUse)>,
    /// Whether the kernel has nf_tables.
    pub has_nf_tables: bool,
}

/// Reads as little of the host's state as necessary.
///
/// # Errors
/// The kernel could not be asked.
pub fn look(owner: &Owner, result: &AddResult, kernel: &mut Kernel) -> Result<Facts, Error> {
    let mut links = Vec::new();
    for interface in &result.interfaces {
        if interface.sandbox.as_deref().unwrap_or_default().is_empty() {
            links.extend(kernel.host().link_by_name(&interface.name)?);
        }
    }
    let link = link_towards(result, &links, kernel.host())?;
    let port = links.iter().find_map(|link| Some((link.name.clone(), link.port?.isolated)));
    let has_nf_tables = match kernel.nft() {
        Err(error) if is_without_nf_tables(&error) => false,
        opened => opened.map(|_| true)?,
    };
    let port = match port {
        Some((name, is_isolated)) if has_nf_tables => {
            let used = port_use(kernel.nft()?, &name, is_isolated, owner)?;
            Some((name, used))
        }
        _ => None,
    };
    Ok(Facts { link, port, has_nf_tables })
}

/// The link of the route to an address, if it is one of the container's on the host or in a VLAN of
/// one. The route to a container without such a link leads through a link that others use too.
fn link_towards(result: &AddResult, links: &[Link], host: &Netlink) -> Result<Option<String>, Error> {
    if links.is_empty() {
        return Ok(None);
    }
    for ip in &result.ips {
        let Some(route) = host.look_up_route(ip.address.ip())?.filter(|found| !found.local) else { continue };
        if let Some(link) = links.iter().find(|link| link.index == route.index) {
            return Ok(Some(link.name.clone()));
        }
        let is_below = |vlan: &Link| links.iter().any(|link| vlan.peer_index == Some(link.index));
        let vlan = host.link_by_index(route.index)?.filter(|link| link.vlan.is_some() && is_below(link));
        if let Some(vlan) = vlan {
            return Ok(Some(vlan.name));
        }
    }
    // A bridge without an address: br_netfilter shows its packets.
    Ok(links.iter().find(|link| link.bridge.is_some()).or(links.first()).map(|link| link.name.clone()))
}
