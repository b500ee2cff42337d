//! The pieces of an attachment by a stacked link. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::AddResult;
use host::Owner;
use host::piece::{self, ChildKind, ChildLink, Piece, Place, Route, Shim, Up};
use ipnetwork::IpNetwork;
use sys::IpFamily;

use super::{Child, host_access};
use crate::{Parent, container};

/// Every piece of the attachment, in the order of creation: [`link`], then [`rest`]. Pure.
pub fn plan(
    child: &Child,
    owner: &Owner,
    parent: &Parent,
    result: &AddResult,
    own: &[IpNetwork],
    shim: Option<Shim>,
) -> Vec<Piece> {
    let mut pieces = vec![link(child, owner, parent)];
    pieces.extend(rest(child, owner, parent, result, own, shim));
    pieces
}

/// The container's link, which exists before an IPAM plugin is called.
pub(super) fn link(child: &Child, owner: &Owner, parent: &Parent) -> Piece {
    Piece::Child(ChildLink {
        name: owner.ifname.clone(),
        birth_name: piece::birth_name(owner),
        parent: parent.name.clone(),
        parent_place: parent.place,
        on_demand: parent.on_demand.clone(),
        kind: child.kind.clone(),
        mac: child.mac,
        mtu: child.mtu,
        label: owner.label(),
        index: owner.link_index(),
    })
}

/// The pieces after the link, when its addresses are known. `own` are the addresses of `result` on
/// this link, `shim` is the host's link on the same parent.
pub(super) fn rest(
    child: &Child,
    owner: &Owner,
    parent: &Parent,
    result: &AddResult,
    own: &[IpNetwork],
    shim: Option<Shim>,
) -> Vec<Piece> {
    let ifname = &owner.ifname;
    let mut pieces = Vec::new();
    let ipv6 = own.iter().any(IpNetwork::is_ipv6);
    let claimed = child.detection.filter(|_| parent.carrier && !own.is_empty());
    if let Some(detection) = claimed {
        pieces.extend(detection.prepared(ifname, own));
    } else {
        pieces.extend(crate::addresses(ifname, own, child.dad));
        if ipv6 && child.dad {
            pieces.push(container::without_start_delay(ifname));
        }
    }
    // The addresses come first: when the link comes up, the kernel announces its addresses
    // (arp_notify, ndisc_notify); one with duplicate detection it announces when no duplicate was
    // found.
    pieces.push(Piece::Up(Up { place: Place::Sandbox, link: ifname.clone() }));
    // Without a carrier no duplicate can be detected; the kernel does so when the parent has its
    // carrier back.
    if let Some(detection) = claimed {
        let arp = match child.kind {
            // An ipvlan link does not receive the replies.
            ChildKind::Ipvlan(_) => (parent.place, parent.name.clone()),
            ChildKind::Macvlan { .. } | ChildKind::Vlan(_) => (Place::Sandbox, ifname.clone()),
        };
        pieces.extend(detection.claimed(ifname, own, arp));
    } else if ipv6 && parent.carrier && child.dad {
        pieces.push(crate::settled(ifname, own, true));
    }
    if !own.is_empty() {
        pieces.extend(crate::routes(ifname, result));
    }
    if child.default_route {
        pieces.extend(default_routes(ifname, result, own));
    }
    pieces.extend(shim.into_iter().flat_map(|shim| host_access::pieces(ifname, shim, own)));
    // This wait comes last, when most of its time has passed already.
    if claimed.is_none() && ipv6 && parent.carrier && !child.dad {
        pieces.push(crate::settled(ifname, own, false));
    }
    pieces
}

/// Default routes without a gateway, for modes without neighbour resolution, where every address
/// can be on the link. A family with a route of its own gets none. They are not in the result,
/// which is the IPAM plugin's.
fn default_routes(ifname: &str, result: &AddResult, own: &[IpNetwork]) -> Vec<Piece> {
    let route = |dst: IpNetwork| {
        let family = IpFamily::of(dst.ip());
        let has_route = result.routes.iter().any(|route| IpFamily::of(route.dst.ip()) == family);
        let ours = own.iter().any(|net| IpFamily::of(net.ip()) == family);
        let route = netlink::Route::on_link(dst);
        (ours && !has_route).then(|| {
            Piece::Route(Route { place: Place::Sandbox, link: ifname.to_owned(), route, any_table: true })
        })
    };
    [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()]
        .into_iter()
        .filter_map(|ip| IpNetwork::new(ip, 0).ok().and_then(route))
        .collect()
}
