//! The host's routes to containers that no subnet on a link of its leads to, and the marks of who is there.
//!
//! The kernel deletes an IPv4 route when the address goes that it names as its source, and the address that comes back
//! (a DHCP client renews it) brings no route back. So each route has a mark beside it: the same without a source, in a
//! table that no rule leads to, which lasts as long as the link. Marks count as users of the link, and routes are made
//! again from them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{Link, Netlink, Route};
use sys::Result;

use super::shared;
use crate::Owner;

/// Who put a route there (rtm_protocol, linux/rtnetlink.h): a number that nobody else is known to use.
pub(super) const PROTOCOL: u8 = 109;

/// The table of marks: "moor".
const MARKS: u32 = 0x6d6f_6f72;

/// Our routes by a link, marks among them.
pub(super) fn list(host: &Netlink, index: u32) -> Result<Vec<Route>> {
    let mut routes = host.routes(Some(index), None)?;
    routes.retain(|route| route.protocol == PROTOCOL);
    Ok(routes)
}

/// Whether a route is one that packets take.
pub(super) fn leads(route: &Route) -> bool {
    route.table == Route::MAIN_TABLE
}

/// Adds a mark and its route, each unless it is there; another route with its metric gives way. The mark comes first:
/// by it, the route of a killed ADD is found.
pub(super) fn add(host: &Netlink, route: &Route) -> Result<()> {
    let exclusively = |route: &Route| match host.add_route(route, true) {
        Err(error) if !error.is_exists() => Err(error),
        added => Ok(added.is_ok()),
    };
    exclusively(&Route { table: MARKS, source: None, ..*route })?;
    // IPv6 keeps a route whose source has gone, without a source.
    if !exclusively(route)? && !list(host, route.index.unwrap_or(0))?.contains(route) {
        let _ = host.delete_route(&Route { source: None, ..*route });
        exclusively(route)?;
    }
    Ok(())
}

/// All marks.
fn marks(host: &Netlink) -> Result<Vec<Route>> {
    let mut marks = host.routes(None, Some(MARKS))?;
    marks.retain(|mark| mark.protocol == PROTOCOL);
    Ok(marks)
}

/// Deletes the marked routes of which `is_gone` says so, the marks last.
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

/// Deletes the host's routes to the attachment of that tag.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub(super) fn delete_tagged(host: &Netlink, tag: u32) -> Result<()> {
    delete(host, |mark| mark.priority == Some(tag))
}

/// DEL: deletes the host's routes to an attachment by a bridge.
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

/// GC: deletes the host's routes by bridges to attachments whose host veths are gone. Those by a shim are its own.
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

/// Makes the routes again whose marks are left; gives their destinations.
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

/// The host's addresses that containers beside the link can answer to: those on it alone, then its parent's.
fn sources(host: &Netlink, link: &Link) -> Result<Vec<IpNetwork>> {
    let parent = link.peer_index.filter(|_| link.peer_netns_id.is_none());
    let mut nets = Vec::new();
    for index in [Some(link.index), parent].into_iter().flatten() {
        let addresses = host.addresses(Some(index))?.into_iter();
        nets.extend(addresses.filter(|a| a.scope == 0 && !a.is_transient()).map(|address| address.net));
    }
    Ok(nets)
}

/// An address of the link's own has no subnet, and comes first; then one in whose subnet the container is.
fn source(nets: &[IpNetwork], to: IpAddr) -> Option<IpAddr> {
    let nets: Vec<&IpNetwork> = nets.iter().filter(|net| net.is_ipv4() == to.is_ipv4()).collect();
    let own = nets.iter().find(|net| net.prefix() == if net.is_ipv4() { 32 } else { 128 });
    own.or_else(|| nets.iter().find(|net| net.contains(to))).or(nets.first()).map(|net| net.ip())
}

/// Makes the host's routes to containers again that were lost with an address of the host's; gives their destinations.
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
