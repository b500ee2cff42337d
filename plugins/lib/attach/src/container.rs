//! The container's side of an attachment, as pieces. Pure.

use std::net::IpAddr;

use cni::AddResult;
use host::piece::{Address, Piece, Place, Route, Settled, Sysctl, Sysctls};
use ipnetwork::IpNetwork;

/// The parameters of the container's link and its addresses; empty without addresses. `dad`
/// switches IPv6 duplicate address detection on.
pub fn addresses(ifname: &str, own: &[IpNetwork], dad: bool) -> Vec<Piece> {
    if own.is_empty() {
        return Vec::new();
    }
    let mut pieces = vec![parameters(ifname, own, dad)];
    pieces.extend(own.iter().map(|net| {
        Piece::Address(Address { place: Place::Sandbox, link: ifname.to_owned(), net: *net, dad })
    }));
    pieces
}

/// The wait until the container's IPv6 addresses are usable.
pub fn settled(ifname: &str, own: &[IpNetwork], dad: bool) -> Piece {
    let addresses = own.iter().filter(|net| net.is_ipv6()).map(IpNetwork::ip).collect();
    Piece::Settled(Settled { place: Place::Sandbox, link: ifname.to_owned(), addresses, dad })
}

/// The parameters of the container's link, set before it is up. Pure.
pub fn parameters(ifname: &str, own: &[IpNetwork], dad: bool) -> Piece {
    let ipv6 = own.iter().any(IpNetwork::is_ipv6);
    let set = |key: &str, value, required| Sysctl { key: format!("net/{key}"), value, required };
    let v6 = |name: &str| format!("ipv6/conf/{ifname}/{name}");
    // The kernel announces the addresses whenever the link comes up.
    let mut settings = vec![set(&format!("ipv4/conf/{ifname}/arp_notify"), "1", false)];
    // Without IPv6 addresses of ours, the link keeps the kernel's parameters for IPv6. Without a
    // delay, the kernel would announce the link-local address to all neighbours at once, with four
    // packets, in the middle of ADD.
    if ipv6 {
        // The runtime may have switched IPv6 off in the container; an IPv6 address asks for it.
        settings.push(set("ipv6/conf/lo/disable_ipv6", "0", true));
        settings.push(set(&v6("disable_ipv6"), "0", true));
        settings.push(set(&v6("keep_addr_on_down"), "1", false));
        if dad {
            settings.push(set(&v6("enhanced_dad"), "1", false));
        }
        settings.push(set(&v6("accept_dad"), if dad { "1" } else { "0" }, false));
        settings.push(set(&v6("ndisc_notify"), "1", false));
    }
    Piece::Sysctls(Sysctls {
        place: Place::Sandbox,
        purpose: "failed to prepare the container for IPv6",
        settings,
    })
}

/// The kernel delays duplicate address detection by up to a second, so that machines which start
/// together do not send at once (RFC 4862, 5.4.2). Containers do not need this.
pub fn without_start_delay(ifname: &str) -> Piece {
    let key = format!("net/ipv6/conf/{ifname}/router_solicitation_delay");
    Piece::Sysctls(Sysctls {
        place: Place::Sandbox,
        purpose: "failed to prepare the container for IPv6",
        settings: vec![Sysctl { key, value: "0", required: false }],
    })
}

/// The routes of the result, after those to gateways outside of the link's subnets. One without a
/// gateway gets the first gateway of its family.
pub fn routes(ifname: &str, result: &AddResult) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = outside_gateways(ifname, result);
    for route in result_routes(ifname, result) {
        // Two range sets of one family may both have the default route.
        if !pieces.contains(&route) {
            pieces.push(route);
        }
    }
    pieces
}

/// The routes of the result alone. One without a gateway gets the first gateway of its family.
pub fn result_routes(ifname: &str, result: &AddResult) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for route in &result.routes {
        let first = || {
            let family = result.ips.iter().filter(|ip| ip.address.is_ipv4() == route.dst.is_ipv4());
            family.filter_map(|ip| ip.gateway).next()
        };
        let scope = route.scope.unwrap_or(0);
        // A route of link scope has no gateway; with one, the kernel refuses it.
        let gateway = route.gw.or_else(|| (scope != netlink::Route::SCOPE_LINK).then(first).flatten());
        let piece = Piece::Route(Route {
            place: Place::Sandbox,
            link: ifname.to_owned(),
            route: netlink::Route {
                gateway,
                mtu: nonzero(route.mtu),
                advmss: nonzero(route.advmss),
                priority: nonzero(route.priority),
                table: route.table.unwrap_or(netlink::Route::MAIN_TABLE),
                scope,
                ..netlink::Route::new(masked(&route.dst))
            },
            any_table: route.table.is_none(),
        });
        // Two range sets of one family may both have the default route.
        if !pieces.contains(&piece) {
            pieces.push(piece);
        }
    }
    pieces
}

/// Routes to gateways outside of the link's subnets: without them, the kernel refuses routes by
/// these gateways.
fn outside_gateways(ifname: &str, result: &AddResult) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for gateway in result.ips.iter().filter_map(|ip| ip.gateway) {
        let on_link = |dst: &IpNetwork| dst.prefix() > 0 && dst.contains(gateway);
        let local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if local
            || result.ips.iter().any(|ip| on_link(&ip.address))
            || result.routes.iter().any(|route| route.gw.is_none() && on_link(&route.dst))
        {
            continue;
        }
        let route = netlink::Route::on_link(gateway.into());
        let link = ifname.to_owned();
        let piece = Piece::Route(Route { place: Place::Sandbox, link, route, any_table: true });
        if !pieces.contains(&piece) {
            pieces.push(piece);
        }
    }
    pieces
}

/// The destination with its host bits cleared: the kernel refuses host bits.
fn masked(dst: &IpNetwork) -> IpNetwork {
    IpNetwork::new(dst.network(), dst.prefix()).unwrap_or(*dst)
}

fn nonzero(value: u32) -> Option<u32> {
    (value != 0).then_some(value)
}
