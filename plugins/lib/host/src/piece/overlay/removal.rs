//! The links and rules of a network, after an attachment is gone.

use std::path::Path;

use netlink::{Link, Netlink};
use nft::Nft;
use sys::Result;

use super::{LOCK, alias, is_ours, links_alone, overlay_bridge, overlay_device};
use crate::piece::link_group;
use crate::piece::shared::GROUP;
use crate::piece::veth::delete;
use crate::rules::{is_without_nf_tables, overlay};

/// DEL and GC, after the attachments' own links are gone: deletes the network's links and rules if
/// no container of this host is in it any more.
///
/// # Errors
/// The kernel could not be asked, or refused; or an ADD does not finish.
pub fn release_overlay(host: &Netlink, network: &str) -> Result<()> {
    if is_used(host, network)? || !Path::new(LOCK).exists() {
        return Ok(());
    }
    let _lock = links_alone()?;
    // An ADD may have come before.
    if is_used(host, network)? {
        return Ok(());
    }
    let links = [(overlay_device(network), "vxlan"), (overlay_bridge(network), "bridge")];
    let mut ours: Vec<Link> = Vec::new();
    for (name, kind) in links {
        ours.extend(host.link_by_name(&name)?.filter(|link| is_ours(link, kind, network)));
    }
    let names: Vec<String> = ours.iter().map(|link| link.name.clone()).collect();
    link_group::delete(host, &ours, |_| true);
    let mut done = Ok(());
    for name in names {
        if let Some(link) = host.link_by_name(&name)? {
            done = done.and(delete(host, &link));
        }
    }
    // Last: nothing is forwarded by a bridge without its rules.
    done.and(delete_rules(network))
}

/// The networks with links of ours on this host, by the aliases of their bridges.
///
/// # Errors
/// The kernel could not be asked.
pub fn overlay_networks(host: &Netlink) -> Result<Vec<String>> {
    let bridges = host
        .links()?
        .into_iter()
        .filter(|link| link.group == GROUP && link.kind.as_deref() == Some("bridge"));
    let names = bridges.filter_map(|link| Some(link.alias?.strip_prefix("moor/")?.to_owned()));
    Ok(names.collect())
}

/// Whether the network's bridge has ports other than its VXLAN device.
fn is_used(host: &Netlink, network: &str) -> Result<bool> {
    let Some(bridge) = host.link_by_name(&overlay_bridge(network))? else { return Ok(false) };
    let device = overlay_device(network);
    Ok(host.ports(bridge.index)?.iter().any(|port| port.name != device))
}

fn delete_rules(network: &str) -> Result<()> {
    match Nft::open().and_then(|nft| overlay::delete(&nft, &alias(network))) {
        Err(error) if is_without_nf_tables(&error) => Ok(()),
        done => done,
    }
}
