//! The plan: all pieces of an attachment. Pure: it uses no kernel, no clock and no random numbers.

use std::net::IpAddr;

use cni::{AddResult, IpConfig};
use host::Owner;
use host::intent::By;
use host::piece::{
    Forwarding, Gateways, HostRoutes, OwnAddress, Piece, Place, Recorded, Route, Settled, SourceFilter, Up,
    VethPair,
};
use ipnetwork::IpNetwork;

use crate::answer::{CONTAINER, Links};
use crate::config::Config;

/// The facts that the plan needs beside the configuration.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The owner of the attachment.
    pub owner: &'a Owner,
    /// Names and MAC addresses of the links.
    pub links: &'a Links,
    /// MTU of both ends in bytes, `auto` resolved.
    pub mtu: Option<u32>,
}

/// All pieces, in the order of creation: [`link`], then [`rest`]. For CHECK, `result` is
/// `prevResult`.
pub fn plan(config: &Config, facts: &Facts<'_>, result: &AddResult) -> Vec<Piece> {
    let mut pieces = vec![link(facts)];
    pieces.extend(rest(config, facts, result));
    pieces
}

/// The veth pair, which exists before the IPAM plugin is called.
pub fn link(facts: &Facts<'_>) -> Piece {
    Piece::Veth(VethPair {
        host_name: facts.links.host_veth.clone(),
        host_mac: facts.links.host_mac,
        bridge: None,
        container_name: facts.owner.ifname.clone(),
        container_mac: facts.links.container_mac,
        mtu: facts.mtu,
        label: facts.owner.label(),
    })
}

/// The pieces after the pair, when the container's addresses are known. `result` is that of the
/// IPAM plugin, completed by [`crate::answer::complete`].
pub fn rest(config: &Config, facts: &Facts<'_>, result: &AddResult) -> Vec<Piece> {
    let ips: Vec<&IpConfig> =
        result.ips.iter().filter(|ip| ip.interface.is_none_or(|index| index == CONTAINER)).collect();
    let own: Vec<IpNetwork> = ips.iter().map(|ip| ip.address).collect();
    let (ifname, host_veth) = (&facts.owner.ifname, &facts.links.host_veth);
    let mut pieces = Vec::new();
    pieces.extend(gateways(&ips, host_veth));
    pieces.push(host_routes(&ips, host_veth));
    // Before the container's link is up, so that no packet leaves with the wrong address.
    if config.source_filter {
        pieces.push(Piece::SourceFilter(SourceFilter {
            owner: facts.owner.clone(),
            link: host_veth.clone(),
            addresses: own.iter().map(IpNetwork::ip).collect(),
        }));
    }
    pieces.extend(config.outside.pieces(facts.owner, &own, &config.ipam_gateways, host_veth));
    pieces.push(attach::parameters(ifname, &own, false));
    pieces.extend(own.iter().map(|net| Piece::OwnAddress(OwnAddress { link: ifname.clone(), net: *net })));
    pieces.push(Piece::Up(Up { place: Place::Sandbox, link: ifname.clone() }));
    // Until the kernel has noticed the carrier, the host's end drops what the host sends.
    pieces.push(Piece::Forwarding(Forwarding { link: host_veth.clone() }));
    pieces.extend(container_routes(&ips, ifname, result));
    // The attachment is complete: from now on its packet rules are restored when they are flushed.
    pieces.extend(Recorded::of(By::Bridge, facts.owner, &pieces));
    // This changes the host and is not undone.
    pieces.extend(attach::host_forwarding(result));
    pieces.extend(settled(&ips, &own, facts));
    pieces
}

/// The gateway addresses on the host's end, each as a subnet of its own: another container's pair
/// may have the same.
fn gateways(ips: &[&IpConfig], host_veth: &str) -> Option<Piece> {
    let mut wanted: Vec<IpNetwork> = Vec::new();
    for gateway in ips.iter().filter_map(|ip| ip.gateway) {
        let single = IpNetwork::from(gateway);
        if !wanted.contains(&single) {
            wanted.push(single);
        }
    }
    (!wanted.is_empty()).then(|| {
        Piece::Gateways(Gateways {
            link: host_veth.to_owned(),
            wanted,
            known: Vec::new(),
            force: false,
            own_port: host_veth.to_owned(),
        })
    })
}

/// The host's routes to the container. A link-local gateway cannot be the source address of packets
/// to a global one.
fn host_routes(ips: &[&IpConfig], host_veth: &str) -> Piece {
    let route = |ip: &&IpConfig| (ip.address.ip(), ip.gateway.filter(|gateway| !is_link_local(*gateway)));
    Piece::HostRoutes(HostRoutes { link: host_veth.to_owned(), routes: ips.iter().map(route).collect() })
}

/// The container reaches its gateways on the link, and everything else by them, also the rest of
/// its subnets. A route of the result to such a subnet takes the place of this one.
fn container_routes(ips: &[&IpConfig], ifname: &str, result: &AddResult) -> Vec<Piece> {
    let mut routes: Vec<netlink::Route> = Vec::new();
    let mut add = |route: netlink::Route| {
        if routes.iter().all(|other| other.dst != route.dst) {
            routes.push(route);
        }
    };
    let gateways = ips.iter().filter_map(|ip| Some((ip, ip.gateway?)));
    // Link-local gateways are on the link already.
    for (ip, gateway) in gateways.clone().filter(|(_, gateway)| !is_local6(*gateway)) {
        let source = Some(ip.address.ip());
        add(netlink::Route { source, ..netlink::Route::on_link(gateway.into()) });
    }
    for (ip, gateway) in gateways {
        let subnet = IpNetwork::new(ip.address.network(), ip.address.prefix()).unwrap_or(ip.address);
        let is_given = result
            .routes
            .iter()
            .any(|route| (route.dst.network(), route.dst.prefix()) == (subnet.network(), subnet.prefix()));
        if !is_single(&subnet) && !is_given {
            let source = Some(ip.address.ip());
            add(netlink::Route { gateway: Some(gateway), source, ..netlink::Route::new(subnet) });
        }
    }
    let link = || ifname.to_owned();
    let of = |route| Piece::Route(Route { place: Place::Sandbox, link: link(), route, any_table: true });
    let mut pieces: Vec<Piece> = routes.into_iter().map(of).collect();
    pieces.extend(attach::result_routes(ifname, result));
    pieces
}

/// The waits for IPv6 at both ends: a gateway that is still tentative does not answer, and the host
/// forwards nothing to its neighbours.
fn settled(ips: &[&IpConfig], own: &[IpNetwork], facts: &Facts<'_>) -> Vec<Piece> {
    if own.iter().all(IpNetwork::is_ipv4) {
        return Vec::new();
    }
    let addresses = ips.iter().filter_map(|ip| ip.gateway).filter(IpAddr::is_ipv6).collect();
    let link = facts.links.host_veth.clone();
    vec![
        attach::settled(&facts.owner.ifname, own, false),
        Piece::Settled(Settled { place: Place::Host, link, addresses, dad: false }),
    ]
}

/// Whether a subnet is one address.
fn is_single(net: &IpNetwork) -> bool {
    net.prefix() == if net.is_ipv4() { 32 } else { 128 }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether it is in the subnet that every link with IPv6 has.
fn is_local6(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
