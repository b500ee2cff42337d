//! The plan: all pieces of an attachment. Pure: it uses no kernel, no clock and no random numbers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni::{AddResult, IpConfig};
use host::Owner;
use host::intent::By;
use host::piece::{
    Announcement, Bridge, FixedMac, Forwarding, Gateways, MacFilter, Piece, Place, Port, Recorded, Settled,
    Up, VethPair, VlanLink, VlanSet, WayBack,
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
    /// MTU of the veth in bytes, `auto` resolved.
    pub mtu: Option<u32>,
    /// Name of the VLAN interface's port.
    pub vlan_port: String,
}

/// All pieces, in the order of creation: [`links`], then [`rest`]; [`announcement`] follows. For
/// CHECK, `result` is `prevResult`.
pub fn plan(config: &Config, facts: &Facts, result: &AddResult) -> Vec<Piece> {
    let mut pieces = links(config, facts);
    pieces.extend(rest(config, facts, result));
    pieces
}

/// The pieces after the container's link, when its addresses are known. `result` is that of the
/// IPAM plugin, completed by [`crate::answer::complete`].
pub fn rest(config: &Config, facts: &Facts, result: &AddResult) -> Vec<Piece> {
    let mut pieces = attachment(config, facts, result);
    let filter = filter(config, facts);
    // The attachment is complete: from now on its packet rules are restored when they are flushed.
    pieces.extend(Recorded::of(By::Bridge, facts.owner, filter.iter().chain(&pieces)));
    // Last: this changes the host and is not undone.
    if config.is_gateway {
        pieces.extend(attach::host_forwarding(result));
    }
    pieces.extend(settled(config, facts, result));
    pieces
}

/// The pieces of the attachment itself, without [`links`].
fn attachment(config: &Config, facts: &Facts, result: &AddResult) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = vlan_link(config, facts).into_iter().collect();
    let own = own(result);
    if config.is_gateway {
        pieces.extend(gateways(config, facts, result));
        pieces.extend(return_routes(config, facts, result));
    }
    // Before the container's link is up, so that no packet leaves with the wrong address.
    let (gateways, port) = (&config.ipam_gateways, &facts.links.host_veth);
    pieces.extend(config.outside.pieces(facts.owner, &own, gateways, port));
    let ifname = &facts.owner.ifname;
    let claimed = config.detection.filter(|_| !own.is_empty());
    match claimed {
        Some(detection) => pieces.extend(detection.prepared(ifname, &own)),
        None => pieces.extend(attach::addresses(ifname, &own, config.dad)),
    }
    if config.leave_down {
        return pieces;
    }
    let link = || facts.owner.ifname.clone();
    pieces.push(Piece::Up(Up { place: Place::Sandbox, link: link() }));
    pieces.push(Piece::Forwarding(Forwarding { link: facts.links.host_veth.clone() }));
    if let Some(detection) = claimed {
        pieces.extend(detection.claimed(ifname, &own, (Place::Sandbox, link())));
    } else if config.dad && own.iter().any(IpNetwork::is_ipv6) {
        pieces.push(attach::settled(&facts.owner.ifname, &own, true));
    }
    pieces.extend(attach::routes(&facts.owner.ifname, result));
    pieces
}

/// The addresses of the container.
fn own(result: &AddResult) -> Vec<IpNetwork> {
    let own = result.ips.iter().filter(|ip| ip.interface.is_none_or(|index| index == CONTAINER));
    own.map(|ip| ip.address).collect()
}

/// The announcement to neighbours, after the rest of the plan. Nothing may follow it: on a bridge
/// with a thousand ports, its frames keep the kernel busy for milliseconds.
pub fn announcement(config: &Config, facts: &Facts, result: &AddResult) -> Option<Piece> {
    let own = own(result);
    (!own.is_empty() && !config.leave_down).then(|| {
        Piece::Announcement(Announcement {
            link: facts.owner.ifname.clone(),
            mac: facts.links.container_mac,
            addresses: own.iter().map(IpNetwork::ip).collect(),
            host_link: config.vlan_link().unwrap_or_else(|| config.bridge.clone()),
        })
    })
}

/// The pieces before the IPAM plugin is called: the bridge, the veth pair, their connection, and
/// the filter of the new port. The IPAM plugin may set the container's link up.
pub fn links(config: &Config, facts: &Facts) -> Vec<Piece> {
    let links = facts.links;
    let trunk = config.trunk.clone().unwrap_or_default();
    let mut pieces = vec![
        Piece::Bridge(Bridge {
            name: config.bridge.clone(),
            new_mac: links.bridge_mac,
            new_mtu: facts.mtu,
            vlan_filtering: config.vlan_filtering(),
            promiscuous: config.promiscuous,
        }),
        Piece::Veth(VethPair {
            host_name: links.host_veth.clone(),
            host_mac: links.host_mac,
            bridge: Some(config.bridge.clone()),
            container_name: facts.owner.ifname.clone(),
            container_mac: links.container_mac,
            mtu: facts.mtu,
            label: facts.owner.label(),
        }),
        Piece::Port(Port {
            link: links.host_veth.clone(),
            hairpin: config.hairpin,
            isolated: config.isolated,
            vlans: vlans(config, &trunk),
        }),
    ];
    if let Some(filter) = filter(config, facts) {
        pieces.push(filter);
        pieces.push(Piece::FixedMac(FixedMac {
            bridge: config.bridge.clone(),
            port: links.host_veth.clone(),
            mac: links.container_mac,
        }));
    }
    pieces
}

/// The VLANs of a port with these tagged ones; with only tagged VLANs, untagged frames belong to
/// VLAN 1.
fn vlans(config: &Config, tagged: &BTreeSet<u16>) -> Option<VlanSet> {
    let untagged = config.vlan.or((!tagged.is_empty()).then_some(1))?;
    Some(VlanSet { untagged, tagged: tagged.clone(), keep_default: config.preserve_default_vlan })
}

fn filter(config: &Config, facts: &Facts) -> Option<Piece> {
    config.mac_filter.then(|| {
        Piece::MacFilter(MacFilter {
            owner: facts.owner.clone(),
            port: facts.links.host_veth.clone(),
            mac: facts.links.container_mac,
        })
    })
}

/// The host's link in the container's VLAN.
fn vlan_link(config: &Config, facts: &Facts) -> Option<Piece> {
    let (name, vlans) = (config.vlan_link()?, vlans(config, &BTreeSet::new())?);
    let port = facts.vlan_port.clone();
    Some(Piece::VlanLink(VlanLink { bridge: config.bridge.clone(), name, port, vlans }))
}

/// The gateway addresses, on the bridge or on the host's link in the VLAN.
fn gateways(config: &Config, facts: &Facts, result: &AddResult) -> Option<Piece> {
    let mut wanted = Vec::new();
    for ip in &result.ips {
        let gateway = ip.gateway.and_then(|gateway| IpNetwork::new(gateway, prefix_of(ip, gateway)).ok());
        wanted.extend(gateway.filter(|gateway| !wanted.contains(gateway)));
    }
    (!wanted.is_empty()).then(|| {
        Piece::Gateways(Gateways {
            link: config.vlan_link().unwrap_or_else(|| config.bridge.clone()),
            wanted,
            known: config.ipam_gateways.clone(),
            force: config.force_address,
            own_port: facts.links.host_veth.clone(),
        })
    })
}

/// The prefix length of a gateway's address: that of its subnet, or a single address outside of the
/// container's subnet, where its neighbours are not known.
fn prefix_of(ip: &IpConfig, gateway: IpAddr) -> u8 {
    match gateway {
        _ if ip.address.contains(gateway) => ip.address.prefix(),
        IpAddr::V6(gateway) if gateway.is_unicast_link_local() => 64,
        IpAddr::V6(_) => 128,
        IpAddr::V4(_) => 32,
    }
}

/// The host's routes to addresses with gateways outside of their subnets. A link-local gateway
/// cannot be the source address of packets to a global one.
fn return_routes(config: &Config, facts: &Facts, result: &AddResult) -> Option<Piece> {
    let outside = |ip: &IpConfig| {
        let gateway = ip.gateway.filter(|gateway| !ip.address.contains(*gateway))?;
        let local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        Some((ip.address.ip(), Some(gateway).filter(|_| !local)))
    };
    let routes: Vec<_> = result.ips.iter().filter_map(outside).collect();
    let link = config.vlan_link().unwrap_or_else(|| config.bridge.clone());
    let tag = facts.owner.tag();
    (!routes.is_empty()).then_some(Piece::WayBack(WayBack { link, routes, tag }))
}

/// The waits for IPv6 on both sides: a gateway that is still tentative does not answer, and the
/// host forwards nothing to its neighbours.
fn settled(config: &Config, facts: &Facts, result: &AddResult) -> Vec<Piece> {
    let own = own(result);
    let mut pieces = Vec::new();
    if config.leave_down || own.iter().all(IpNetwork::is_ipv4) {
        return pieces;
    }
    // Addresses with conflict detection are usable already.
    if !config.dad && config.detection.is_none() {
        pieces.push(attach::settled(&facts.owner.ifname, &own, false));
    }
    let gateways = result.ips.iter().filter_map(|ip| ip.gateway).filter(|_| config.is_gateway);
    let addresses: Vec<_> = gateways.filter(IpAddr::is_ipv6).collect();
    if !addresses.is_empty() {
        let link = config.vlan_link().unwrap_or_else(|| config.bridge.clone());
        pieces.push(Piece::Settled(Settled { place: Place::Host, link, addresses, dad: false }));
    }
    pieces
}

/// The name of the VLAN interface's port: formed like that of a host veth, from bridge and VLAN.
pub fn vlan_port(config: &Config) -> String {
    let vlan = config.vlan.map(|vlan| vlan.to_string()).unwrap_or_default();
    let vlan = Owner::new(&config.bridge, vlan, "vlan");
    vlan.host_veth_names().next().unwrap_or_default()
}
