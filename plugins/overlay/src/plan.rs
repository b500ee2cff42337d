//! The plan: all pieces of an attachment. Pure: it uses no kernel, no clock and no random numbers.

use std::net::IpAddr;

use cluster::record::Net;
use cni::AddResult;
use host::intent::By;
use host::piece::{
    AddressFilter, Announcement, Forwarding, MacFilter, OverlayAddresses, OverlayLinks, OverlayPort,
    OverlayRules, Piece, Place, Recorded, Settled, Up, VethPair,
};
use host::{OverlayNetwork, Owner};
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
    /// The network's record.
    pub net: &'a Net,
    /// The host's own addresses in the network, at most one of a family.
    pub own: &'a [IpAddr],
    /// The source of VXLAN packets.
    pub local: IpAddr,
    /// Their UDP port.
    pub port: u16,
}

/// All pieces, in the order of creation: [`links`], then [`rest`]; [`announcement`] follows. For
/// CHECK, `result` is `prevResult`.
pub fn plan(config: &Config, facts: &Facts<'_>, result: &AddResult) -> Vec<Piece> {
    let mut pieces = links(config, facts);
    pieces.extend(rest(config, facts, result));
    pieces
}

/// The pieces that need no address of the container: the network's rules and links, and the
/// container's pair. The rules come first: no frame passes a bridge without its guard.
pub fn links(config: &Config, facts: &Facts<'_>) -> Vec<Piece> {
    let network = facts.owner.network.clone();
    let links = facts.links;
    let mut pieces = vec![
        rules(facts),
        Piece::OverlayLinks(OverlayLinks {
            network: network.clone(),
            vni: facts.net.vni.unwrap_or_default(),
            local: facts.local,
            port: facts.port,
            mtu: links.mtu,
            bridge_mac: links.bridge_mac,
            ipv6: facts.net.subnets.iter().any(IpNetwork::is_ipv6),
        }),
        Piece::OverlayAddresses(OverlayAddresses {
            network,
            own: own_addresses(facts),
            gateways: gateways(facts.net),
        }),
    ];
    pieces.extend(mac_filter(config, facts));
    pieces.push(Piece::Veth(VethPair {
        host_name: links.host_veth.clone(),
        host_mac: links.host_mac,
        bridge: Some(links.bridge.clone()),
        container_name: links.ifname.clone(),
        container_mac: links.container_mac,
        mtu: Some(links.mtu),
        label: facts.owner.label(),
    }));
    pieces.push(Piece::OverlayPort(OverlayPort {
        port: links.host_veth.clone(),
        mac: links.container_mac,
        hairpin: config.hairpin,
    }));
    pieces
}

/// The pieces after the container's link, when its addresses are known. `result` is that of the
/// IPAM plugin, completed by [`crate::answer::complete`].
pub fn rest(config: &Config, facts: &Facts<'_>, result: &AddResult) -> Vec<Piece> {
    let own = addresses(result);
    let ifname = &facts.owner.ifname;
    let mut pieces: Vec<Piece> = address_filter(config, facts, &own).into_iter().collect();
    // Before the container's link is up, so that no packet leaves with the wrong address.
    let (gateways, port) = (gateways(facts.net), &facts.links.host_veth);
    pieces.extend(config.outside.pieces(facts.owner, &own, &gateways, port));
    pieces.extend(attach::addresses(ifname, &own, config.dad));
    pieces.push(Piece::Up(Up { place: Place::Sandbox, link: ifname.clone() }));
    pieces.push(Piece::Forwarding(Forwarding { link: facts.links.host_veth.clone() }));
    if config.dad && own.iter().any(IpNetwork::is_ipv6) {
        pieces.push(attach::settled(ifname, &own, true));
    }
    pieces.extend(attach::routes(ifname, result));
    // The attachment is complete: from now on its packet rules are restored when they are flushed.
    let first = [Some(rules(facts)), mac_filter(config, facts)];
    let recorded = Recorded::of(By::Bridge, facts.owner, first.iter().flatten().chain(&pieces));
    pieces.extend(recorded);
    // Last: this changes the host and is not undone.
    if !facts.net.internal {
        pieces.extend(attach::host_forwarding(result));
    }
    pieces.extend(settled(config, facts, result, &own));
    pieces
}

/// The announcement to neighbours, after the rest of the plan.
pub fn announcement(facts: &Facts<'_>, result: &AddResult) -> Piece {
    Piece::Announcement(Announcement {
        link: facts.owner.ifname.clone(),
        mac: facts.links.container_mac,
        addresses: addresses(result).iter().map(IpNetwork::ip).collect(),
        host_link: facts.links.bridge.clone(),
    })
}

/// The addresses of the container.
fn addresses(result: &AddResult) -> Vec<IpNetwork> {
    let own = result.ips.iter().filter(|ip| ip.interface.is_none_or(|index| index == CONTAINER));
    own.map(|ip| ip.address).collect()
}

/// The gateways with their subnets' prefix lengths.
fn gateways(net: &Net) -> Vec<IpNetwork> {
    let pairs = net.subnets.iter().zip(&net.gateways);
    pairs.filter_map(|(subnet, gateway)| IpNetwork::new(*gateway, subnet.prefix()).ok()).collect()
}

/// The host's own addresses likewise.
fn own_addresses(facts: &Facts<'_>) -> Vec<IpNetwork> {
    let of = |own: &IpAddr| {
        let subnet = facts.net.subnets.iter().find(|subnet| subnet.contains(*own))?;
        IpNetwork::new(*own, subnet.prefix()).ok()
    };
    facts.own.iter().filter_map(of).collect()
}

fn rules(facts: &Facts<'_>) -> Piece {
    let rules = OverlayNetwork {
        bridge: facts.links.bridge.clone(),
        port: facts.port,
        addresses: facts.net.gateways.iter().chain(facts.own).copied().collect(),
        internal: facts.net.internal,
    };
    Piece::OverlayRules(OverlayRules { network: facts.owner.network.clone(), rules })
}

fn mac_filter(config: &Config, facts: &Facts<'_>) -> Option<Piece> {
    let (owner, port, mac) = (facts.owner.clone(), facts.links.host_veth.clone(), facts.links.container_mac);
    config.checked.then_some(Piece::MacFilter(MacFilter { owner, port, mac }))
}

fn address_filter(config: &Config, facts: &Facts<'_>, own: &[IpNetwork]) -> Option<Piece> {
    let (owner, port, mac) = (facts.owner.clone(), facts.links.host_veth.clone(), facts.links.container_mac);
    let addresses = own.iter().map(IpNetwork::ip).collect();
    config.checked.then_some(Piece::AddressFilter(AddressFilter { owner, port, mac, addresses }))
}

/// The waits for IPv6 on both sides: a gateway that is still tentative does not answer, and the
/// host forwards nothing to its neighbours.
fn settled(config: &Config, facts: &Facts<'_>, result: &AddResult, own: &[IpNetwork]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if own.iter().all(IpNetwork::is_ipv4) {
        return pieces;
    }
    if !config.dad {
        pieces.push(attach::settled(&facts.owner.ifname, own, false));
    }
    let addresses: Vec<_> = result.ips.iter().filter_map(|ip| ip.gateway).filter(IpAddr::is_ipv6).collect();
    if !addresses.is_empty() {
        let link = facts.links.bridge.clone();
        pieces.push(Piece::Settled(Settled { place: Place::Host, link, addresses, dad: false }));
    }
    pieces
}
