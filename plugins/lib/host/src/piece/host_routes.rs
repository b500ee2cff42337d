//! The host's routes to containers outside of every subnet on its links, and marks of these
//! containers.
//!
//! The kernel deletes an IPv4 route together with its source address, and when the address returns
//! (a DHCP client renews it), the route does not. So each route has a mark: the same route without
//! a source, in a table that no rule uses, which lasts as long as the link. Marks count as users of
//! the link, and routes are restored from them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{Link, Netlink, Route};
use sys::Result;

use super::shared;
use crate::Owner;

/// The origin of our routes (rtm_protocol, linux/rtnetlink.h): a number without another known user.
pub(super) const PROTOCOL: u8 = 109;

/// The table of marks: "moor".
const MARKS: u32 = 0x6d6f_6f72;

/// Lists our routes on a link, marks included.
pub(super) fn list(host: &Netlink, index: u32) -> Result<Vec<Route>> {
    let mut routes = host.routes(Some(index), None)?;
    routes.retain(|route| route.protocol == PROTOCOL);
    Ok(routes)
}

/// Whether packets use a route.
pub(super) fn leads(route: &Route) -> bool {
    route.table == Route::MAIN_TABLE
}

/// Adds a mark and its route unless they exist; another route with its metric is replaced. The mark
/// comes first: it leads to the route of a killed ADD.
pub(super) fn add(host: &Netlink, route: &Route) -> Result<()> {
    let exclusively = |route: &Route| match host.add_route(route, true) {
        Err(error) if !error.is_exists() => Err(error),
        added => Ok(added.is_ok()),
    };
    exclusively(&Route { table: MARKS, source: None, ..*route })?;
    // IPv6 keeps a route after its source address is gone, without a source.
    if !exclusively(route)? && !list(host, route.index.unwrap_or(0))?.contains(route) {
        let _ = host.delete_route(&Route { source: None, ..*route });
        exclusively(route)?;
    }
    Ok(())
}

/// Lists all marks.
fn marks(host: &Netlink) -> Result<Vec<Route>> {
    let mut marks = host.routes(None, Some(MARKS))?;
    marks.retain(|mark| mark.protocol == PROTOCOL);
    Ok(marks)
}

/// Deletes the marked routes for which `is_gone` holds, the marks last.
fn delete(host: &Netlink, is_gone: impl Fn(&Route) -> bool) -> Result<()> {
    for mark in marks(host)?.iter().filter(|mark| is_gone(mark)) {
        for table in [Route::MAIN_TABLE, MARKS] {
            match host.delete_route(&Route { table, ..*mark }) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Deletes the host's routes to the attachment with that tag.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub(super) fn delete_tagged(host: &Netlink, tag: u32) -> Result<()> {
    delete(host, |mark| mark.priority == Some(tag))
}

/// DEL: deletes the host's routes to an attachment on a bridge.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn delete_host_routes(host: &Netlink, owner: &Owner) -> Result<()> {
    if !shared::made_any() {
        return Ok(());
    }
    let _lock = shared::lock()?;
    delete_tagged(host, owner.tag())
}

/// GC: deletes the host's routes through bridges to attachments without a host veth. A shim's
/// routes are its own.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn delete_dead_host_routes(host: &Netlink) -> Result<()> {
    if !shared::made_any() {
        return Ok(());
    }
    let _lock = shared::lock()?;
    let links = host.links()?;
    let shims: Vec<u32> = links.iter().filter(|link| shared::is_shim(link)).map(|link| link.index).collect();
    let labels = links.iter().filter(|link| link.kind.as_deref() == Some("veth"));
    let living: Vec<u32> =
        labels.filter_map(|link| link.alias.as_deref()).map(crate::owner::tag_of_label).collect();
    let by_shim = |mark: &Route| mark.index.is_some_and(|index| shims.contains(&index));
    delete(host, |mark| !by_shim(mark) && !living.contains(&mark.priority.unwrap_or(0)))
}

/// Restores the routes with remaining marks; returns their destinations.
pub(super) fn restore(host: &Netlink, link: &Link) -> Result<Vec<IpNetwork>> {
    let (ways, marks): (Vec<Route>, Vec<Route>) = list(host, link.index)?.into_iter().partition(leads);
    let whole = |mark: &Route| {
        let same = |way: &Route| (way.dst, way.priority) == (mark.dst, mark.priority);
        ways.iter().any(|way| same(way) && way.source.is_some())
    };
    let lost: Vec<Route> = marks.into_iter().filter(|mark| !whole(mark)).collect();
    let mut restored = Vec::new();
    if lost.is_empty() {
        return Ok(restored);
    }
    let sources = sources(host, link)?;
    for mark in lost {
        let Some(source) = source(&sources, mark.dst.ip()) else { continue };
        add(host, &Route { table: Route::MAIN_TABLE, source: Some(source), ..mark })?;
        restored.push(mark.dst);
    }
    Ok(restored)
}

/// The host's addresses that containers next to the link can answer to: first those only on this
/// link, then its parent's.
fn sources(host: &Netlink, link: &Link) -> Result<Vec<IpNetwork>> {
    let parent = link.peer_index.filter(|_| link.peer_netns_id.is_none());
    let mut nets = Vec::new();
    for index in [Some(link.index), parent].into_iter().flatten() {
        let addresses = host.addresses(Some(index))?.into_iter();
        nets.extend(addresses.filter(|a| a.scope == 0 && !a.is_transient()).map(|address| address.net));
    }
    Ok(nets)
}

/// The link's own address has no subnet and comes first; then one with the container in its subnet.
fn source(nets: &[IpNetwork], to: IpAddr) -> Option<IpAddr> {
    let nets: Vec<&IpNetwork> = nets.iter().filter(|net| net.is_ipv4() == to.is_ipv4()).collect();
    let own = nets.iter().find(|net| net.prefix() == if net.is_ipv4() { 32 } else { 128 });
    own.or_else(|| nets.iter().find(|net| net.contains(to))).or(nets.first()).map(|net| net.ip())
}

/// Restores the host's routes to containers that were lost with an address of the host; returns
/// their destinations.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn restore_host_routes(host: &Netlink) -> Result<Vec<IpNetwork>> {
    let mut restored = Vec::new();
    if !shared::made_any() {
        return Ok(restored);
    }
    let _lock = shared::lock()?;
    let mut indices: Vec<u32> = marks(host)?.iter().filter_map(|mark| mark.index).collect();
    indices.sort_unstable();
    indices.dedup();
    for index in indices {
        if let Some(link) = host.link_by_index(index)? {
            restored.extend(restore(host, &link)?);
        }
    }
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_address_comes_first_then_one_in_the_same_subnet() {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNetwork>>();
        for (list, to, expected) in [
            (nets(&["192.0.2.1/24", "10.0.0.1/24"]), "10.0.0.7", Some("10.0.0.1")),
            (nets(&["192.0.2.1/24", "10.0.0.1/24"]), "10.9.0.7", Some("192.0.2.1")),
            (nets(&["10.0.0.1/24", "10.0.0.3/32"]), "10.0.0.7", Some("10.0.0.3")),
            (nets(&["10.0.0.1/24"]), "fd00::7", None),
        ] {
            let expected = expected.map(|ip| ip.parse::<IpAddr>().unwrap());
            assert_eq!(source(&list, to.parse().unwrap()), expected, "{list:?} {to}");
        }
    }
}
