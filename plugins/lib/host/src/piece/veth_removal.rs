//! Deletion of veth pairs by DEL and GC.
//!
//! The host end carries the owner's label, which no container can change. A pair without our label
//! is only deleted when everything shows that it is this attachment's: its kind, its peer, and its
//! bridge or its addresses. The reference's plugins create such pairs.

use std::collections::HashSet;

use ipnetwork::IpNetwork;
use netlink::{Link, Netlink};
use sys::{NetNs, Result};

use super::link_group;
use super::veth::delete;
use crate::removal::{is_in_this_namespace, is_pair};
use crate::{Owner, Removal};

/// RT_SCOPE_UNIVERSE (linux/rtnetlink.h): not the scope of link-local addresses.
const SCOPE_UNIVERSE: u8 = 0;

/// The origin of a pair without a label: what distinguishes it from those of other plugins and
/// networks.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// It is a port of the bridge of this name.
    Bridge(&'a str),
    /// It is no port, and its container's end has an address in one of these subnets.
    Routed(&'a [IpNetwork]),
}

/// Deletes the attachment's veth pair by the host end, whatever happened to the container's
/// namespace: the pair with its label, otherwise the one that the runtime remembers, with the label
/// that it had before its network was renamed. Returns whether there was one.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn delete_veth(host: &Netlink, removal: &Removal) -> Result<bool> {
    let label = removal.owner().label();
    for (candidate, name) in removal.owner().host_veth_names().enumerate() {
        let Some(link) = host.link_by_name(&name)? else { continue };
        // A link without a label comes from an ADD that was killed before it could set one.
        let ours = match &link.alias {
            Some(alias) => *alias == label,
            None => candidate == 0,
        };
        if ours && is_veth(&link) {
            return delete(host, &link).map(|()| true);
        }
    }
    for name in removal.remembered() {
        let Some(link) = host.link_by_name(name)? else { continue };
        if is_veth(&link) && link.alias.as_deref().is_some_and(|alias| removal.owner().is_in(alias)) {
            return delete(host, &link).map(|()| true);
        }
    }
    Ok(false)
}

/// Deletes the pair with an end in the container under the attachment's interface name, if it is
/// provably the attachment's. Anything else of that name stays: another network's interface, which
/// made this attachment's ADD fail, or another container's, which has since got the path of the
/// namespace. `origin` is that of the pairs of the configured network.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn delete_container_veth(
    host: &Netlink,
    netns: &NetNs,
    removal: &Removal,
    origin: Origin<'_>,
) -> Result<()> {
    let sandbox = Netlink::open_in(netns)?;
    let Some(link) = sandbox.link_by_name(&removal.owner().ifname)? else { return Ok(()) };
    let peer = host.link_by_index(link.peer_index.unwrap_or(0))?.filter(|peer| is_pair(peer, &link));
    match peer {
        Some(peer)
            if is_in_this_namespace(&sandbox, &link)?
                && (is_ours([(host, &peer), (&sandbox, &link)], removal, origin)?
                    || is_unfinished(host, &peer, &sandbox, &link)?) =>
        {
            delete(host, &peer)
        }
        _ => Ok(()),
    }
}

/// The two ends of a pair, the host's first, each with the socket of its namespace.
type Ends<'a> = [(&'a Netlink, &'a Link); 2];

fn is_ours(ends: Ends<'_>, removal: &Removal, origin: Origin<'_>) -> Result<bool> {
    let [(host, peer), (sandbox, link)] = ends;
    let remembered = removal.remembered().contains(&peer.name);
    if let Some(alias) = &peer.alias {
        let owner = removal.owner();
        return Ok(*alias == owner.label() || remembered && owner.is_in(alias));
    }
    // Other plugins create pairs too; and two networks may have a bridge each.
    let is_of_kind = matches!(origin, Origin::Bridge(_)) == peer.port.is_some();
    if !is_of_kind || !removal.remembered().is_empty() {
        return Ok(is_of_kind && remembered);
    }
    match origin {
        Origin::Bridge(bridge) => {
            Ok(host.link_by_name(bridge)?.is_some_and(|bridge| peer.master == Some(bridge.index)))
        }
        Origin::Routed(subnets) => {
            let is_inside = |ip| subnets.iter().any(|subnet| subnet.contains(ip));
            let addresses = sandbox.addresses(Some(link.index))?;
            let global = addresses.iter().filter(|address| address.scope == SCOPE_UNIVERSE);
            Ok(is_drawn(&peer.name) && global.into_iter().any(|address| is_inside(address.net.ip())))
        }
    }
}

/// Whether an ADD of the reference was killed before it had connected the pair: a random name in
/// its format, no label, no bridge, and no address at either end. A pair that another plugin has
/// finished has at least one of them.
fn is_unfinished(host: &Netlink, peer: &Link, sandbox: &Netlink, link: &Link) -> Result<bool> {
    if peer.alias.is_some() || peer.master.is_some() || !is_drawn(&peer.name) {
        return Ok(false);
    }
    for (netlink, end) in [(host, peer), (sandbox, link)] {
        if netlink.addresses(Some(end.index))?.iter().any(|address| address.scope == SCOPE_UNIVERSE) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a name is `veth` and 8 hex digits.
fn is_drawn(name: &str) -> bool {
    name.strip_prefix("veth")
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_veth(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth")
}

/// Deletes the veth pairs of every owner on the network except the valid ones: by one request, and
/// what that leaves one by one, which continues after an error.
///
/// # Errors
/// The kernel could not be asked; otherwise the last error of a deletion.
pub fn delete_veths_but(host: &Netlink, network: &str, valid: &[Owner]) -> Result<()> {
    let prefix = Owner::label_prefix(network);
    let valid: HashSet<String> = valid.iter().map(Owner::label).collect();
    let is_stale = |link: &Link| {
        let label = link.alias.as_deref().filter(|alias| alias.starts_with(&prefix));
        is_veth(link) && label.is_some_and(|label| !valid.contains(label))
    };
    let mut links = host.links()?;
    if link_group::delete(host, &links, is_stale) {
        links = host.links()?;
    }
    let mut result = Ok(());
    for link in links.iter().filter(|link| is_stale(link)) {
        result = delete(host, link).and(result);
    }
    result
}
