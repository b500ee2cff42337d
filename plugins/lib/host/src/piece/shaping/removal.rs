//! What a DEL or a GC removes: the IFB link by its name and label, and what leads to it; and the
//! disciplines of the host's end of the pair, by their number.

use std::collections::HashSet;

use netlink::{Link, Netlink};
use sys::{NetNs, Result};

use super::super::link_group;
use super::super::veth::delete;
use super::host_end::{self, HostEnd};
use super::{IFB, ifb, redirect, shaper, shaper_handle};
use crate::{Owner, Removal};

/// Removes what shapes an attachment, whatever happened to the container's namespace: it is opened
/// to find the host's end of a pair that has no label.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn delete_shaping(host: &Netlink, removal: &Removal, netns: Option<&NetNs>) -> Result<()> {
    let ifbs = ifbs(host, removal)?;
    let indices: Vec<u32> = ifbs.iter().map(|link| link.index).collect();
    let mut result = Ok(());
    for veth in host_ends(host, removal, netns)? {
        let undone = unless_gone(shaper::take_back(host, veth.index, shaper_handle(removal.owner())));
        // Before the link that it leads to: packets pass meanwhile.
        let undone = undone.and(unless_gone(redirect::withdraw(host, veth.index, &indices, true)));
        result = undone.and(result);
    }
    for link in &ifbs {
        result = delete(host, link).and(result);
    }
    result
}

/// Removes what an earlier ADD of the attachment made for a direction that has no rate now. `veth` is
/// the index of the host's end of its pair.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn delete_shaping_of(host: &Netlink, owner: &Owner, veth: u32, directions: Directions) -> Result<()> {
    if directions.to_container {
        shaper::take_back(host, veth, shaper_handle(owner))?;
    }
    if directions.from_container {
        for name in ifb::names(owner) {
            if let Some(link) = host.link_by_name(&name)?.filter(|link| ifb::is_of(link, owner)) {
                redirect::withdraw(host, veth, &[link.index], false)?;
                delete(host, &link)?;
            }
        }
    }
    Ok(())
}

/// The directions of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directions {
    /// Those to the container.
    pub to_container: bool,
    /// Those from the container.
    pub from_container: bool,
}

/// Removes the IFB links of every owner on the network except the valid ones, and what leads to
/// them. Other disciplines vanish with the links that they are on.
///
/// # Errors
/// The kernel could not be asked; otherwise the last error of a deletion.
pub fn delete_shaping_but(host: &Netlink, network: &str, valid: &[Owner]) -> Result<()> {
    let prefix = Owner::label_prefix(network);
    let valid: HashSet<String> = valid.iter().map(Owner::label).collect();
    let is_stale = |link: &Link| {
        let label = link.alias.as_deref().filter(|alias| alias.starts_with(&prefix));
        is_ifb(link) && label.is_some_and(|label| !valid.contains(label))
    };
    let mut links = host.links()?;
    let mut result = Ok(());
    for ifb in links.iter().filter(|link| is_stale(link)) {
        for veth in links.iter().filter(|link| is_veth(link) && link.alias == ifb.alias) {
            result = unless_gone(redirect::withdraw(host, veth.index, &[ifb.index], false)).and(result);
        }
    }
    if link_group::delete(host, &links, is_stale) {
        links = host.links()?;
    }
    for link in links.iter().filter(|link| is_stale(link)) {
        result = delete(host, link).and(result);
    }
    result
}

fn is_ifb(link: &Link) -> bool {
    link.kind.as_deref() == Some(IFB)
}

fn is_veth(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth")
}

/// The attachment's IFB links: by name, or remembered by the runtime with the label that they had
/// before the network was renamed. One without a label is the reference's, or that of a killed ADD:
/// its name is a hash of network and container.
fn ifbs(host: &Netlink, removal: &Removal) -> Result<Vec<Link>> {
    let mut found: Vec<Link> = Vec::new();
    let names = ifb::names(removal.owner());
    for name in names.iter().chain(removal.remembered()) {
        let is_new = found.iter().all(|link| link.name != *name);
        let Some(link) = host.link_by_name(name)?.filter(|link| is_new && is_ifb(link)) else { continue };
        let ours = match &link.alias {
            Some(label) => removal.takes(label)?,
            None => names.contains(name),
        };
        if ours {
            found.push(link);
        }
    }
    Ok(found)
}

/// The host's end of the attachment's pair, as far as it is known: by name and label, or by the
/// container's end. What is done to it depends on the numbers that are found there.
fn host_ends(host: &Netlink, removal: &Removal, netns: Option<&NetNs>) -> Result<Vec<Link>> {
    let owner = removal.owner();
    for name in owner.host_veth_names() {
        let link = host.link_by_name(&name)?.filter(is_veth);
        if let Some(link) = link.filter(|link| link.alias.as_deref() == Some(&owner.label())) {
            return Ok(vec![link]);
        }
    }
    let mut found = Vec::new();
    for name in removal.remembered() {
        found.extend(host.link_by_name(name)?.filter(is_veth));
    }
    if let Some(netns) = netns
        && let HostEnd::Link(link) = host_end::find(host, &Netlink::open_in(netns)?, &owner.ifname)?
        && found.iter().all(|other| other.index != link.index)
    {
        found.push(*link);
    }
    Ok(found)
}

fn unless_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
