//! Which routes belong to which source. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink::{Route, WholeRoute};

use super::Source;
use crate::piece::host_routes::PROTOCOL;

/// The metric of the kernel's own routes to IPv6 subnets (IP6_RT_PRIO_ADDRCONF, net/ipv6.h).
const CONNECTED_V6: u32 = 256;

impl Source {
    /// The destination of its default route.
    pub(super) fn any(&self) -> IpNetwork {
        let any: IpAddr = match self.net {
            IpNetwork::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpNetwork::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        IpNetwork::new(any, 0).unwrap_or(self.net)
    }
}

/// A link's own part of the main table, without what was made here.
pub(super) fn of_link(all: &[WholeRoute], index: u32) -> Vec<WholeRoute> {
    all.iter().filter(|route| is_of_main(route)).filter_map(|route| route.through(index)).collect()
}

fn is_of_main(route: &WholeRoute) -> bool {
    let first = route.first();
    first.table == Route::MAIN_TABLE && route.is_unicast() && first.protocol != PROTOCOL
}

/// The routes that packets from a source need: those from it, those by gateways in its subnet, and
/// those of no source at all.
pub(super) fn for_source<'r>(
    source: &Source,
    sources: &[Source],
    main: &'r [WholeRoute],
) -> Vec<&'r WholeRoute> {
    let wanted = |route: &&WholeRoute| {
        let first = route.first();
        first.dst.is_ipv4() == source.net.is_ipv4()
            && !(source.replaces_default && first.is_default())
            && (belongs(route, source) || !sources.iter().any(|other| belongs(route, other)))
    };
    main.iter().filter(wanted).collect()
}

fn belongs(route: &WholeRoute, source: &Source) -> bool {
    let own = route.first().source;
    let gateways = || route.hops().iter().filter_map(|hop| hop.gateway);
    own.is_some_and(|own| source.net.contains(own))
        || gateways().any(|gateway| source.net.contains(gateway))
        || own.is_none() && gateways().next().is_none() && route.first().dst.is_ipv4() == source.net.is_ipv4()
}

/// The default route by a source's gateway, unless the link has one (`has_default`).
pub(super) fn default_route(source: &Source, index: u32, table: u32, has_default: bool) -> Option<Route> {
    let gateway = source.gateway.filter(|_| source.replaces_default || !has_default)?;
    let link_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
    Some(Route {
        gateway: Some(gateway),
        index: Some(index),
        table,
        protocol: PROTOCOL,
        onlink: !link_local && !source.net.contains(gateway),
        ..Route::new(source.any())
    })
}

/// The routes that leave the main table. Those to link-local addresses stay: packets to and from
/// these have no other. With `hints`, those to the link's IPv4 subnets stay too.
pub(super) fn leaving(all: &[WholeRoute], index: u32, sources: &[Source], hints: bool) -> Vec<WholeRoute> {
    let leaves = |route: &&WholeRoute| {
        let first = route.first();
        let is_hint = hints && first.dst.is_ipv4() && first.scope == Route::SCOPE_LINK;
        first.table == Route::MAIN_TABLE
            && route.is_unicast()
            && route.is_only_through(index)
            && sources.iter().any(|source| source.net.is_ipv4() == first.dst.is_ipv4())
            && !is_link_local(first.dst)
            && !is_hint
            && !(hints && first.protocol == PROTOCOL)
    };
    let mut leaving: Vec<WholeRoute> = all.iter().filter(leaves).cloned().collect();
    // In the order in which they can be put back.
    leaving.sort_by_key(WholeRoute::has_gateway);
    leaving
}

fn is_link_local(dst: IpNetwork) -> bool {
    match dst {
        IpNetwork::V4(dst) => dst.ip().is_link_local() && dst.prefix() >= 16,
        IpNetwork::V6(dst) => dst.ip().is_unicast_link_local() && dst.prefix() >= 10,
    }
}

/// The route to a source's subnet for the main table; none for a single address.
pub(super) fn hint(source: &Source, index: u32) -> Option<Route> {
    let net = source.net;
    let whole = if net.is_ipv4() { 32 } else { 128 };
    if net.prefix() == whole {
        return None;
    }
    let dst = IpNetwork::new(net.network(), net.prefix()).ok()?;
    let priority = net.is_ipv6().then_some(CONNECTED_V6);
    Some(Route {
        index: Some(index),
        source: Some(net.ip()),
        protocol: PROTOCOL,
        priority,
        ..Route::on_link(dst)
    })
}
