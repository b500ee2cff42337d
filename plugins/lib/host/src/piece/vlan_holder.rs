//! Who has a VLAN of a parent, which has one link for it in all namespaces together.

use std::os::fd::AsFd;

use netlink::{Link, Netlink, Vlan, VlanProtocol};
use sys::{NetNs, Result};

use super::{Kernel, Place};
use crate::Owner;

/// The most namespaces that are searched: this only improves a message.
const NAMESPACES_MAX: usize = 1024;

/// Explains that the VLAN of a parent, given by name and index, has a link already.
pub(super) fn taken(kernel: &Kernel, place: Place, (parent, index): (&str, u32), vlan: &Vlan) -> String {
    let holder = find(kernel, place, index, vlan).ok().flatten();
    let holder = holder.unwrap_or_else(|| "one in a namespace that is not known here".into());
    let id = vlan.id;
    let mut text = format!(
        "VLAN {id} ({}) of master {parent:?} has a link already, {holder}, and the kernel has one for all \
         namespaces together",
        vlan.protocol.name()
    );
    if place == Place::Host && vlan.protocol == VlanProtocol::Dot1q && id > 0 {
        text.push_str(&format!(": for several containers, use macvlan with \"vlan\": {id}"));
    }
    text
}

/// Describes the link. The namespaces that the host has numbers for are searched: before Linux 6.15
/// every one that a link was moved to.
fn find(kernel: &Kernel, place: Place, parent: u32, vlan: &Vlan) -> Result<Option<String>> {
    let here = kernel.netlink(place)?;
    let is_it = |link: &Link, netns: Option<i32>| {
        link.peer_index == Some(parent)
            && link.peer_netns_id == netns
            && link.vlan.as_ref().is_some_and(|have| (have.id, have.protocol) == (vlan.id, vlan.protocol))
    };
    if let Some(link) = here.links()?.into_iter().find(|link| is_it(link, None)) {
        let place = if place == Place::Host { "host" } else { "container" };
        return Ok(Some(format!("{:?} of the {place}", link.name)));
    }
    if place == Place::Sandbox {
        return Ok(None);
    }
    Ok(elsewhere(here, is_it)?.map(|link| match link.alias.as_deref().and_then(Owner::of_label) {
        Some(Owner { network, container_id, ifname }) => {
            format!("{ifname:?} of container {container_id} in network {network}")
        }
        None => format!("{:?} of another namespace", link.name),
    }))
}

/// The link in another namespace.
fn elsewhere(host: &Netlink, is_it: impl Fn(&Link, Option<i32>) -> bool) -> Result<Option<Link>> {
    for id in host.netns_ids()?.into_iter().take(NAMESPACES_MAX) {
        // It may have just gone away.
        let links = host.links_in(id).unwrap_or_default();
        // The kernel gives this namespace a number for itself when a listing needs one.
        let own = host.netns_id(NetNs::current()?.as_fd())?;
        if let Some(link) = links.into_iter().find(|link| is_it(link, own)) {
            return Ok(Some(link));
        }
    }
    Ok(None)
}
