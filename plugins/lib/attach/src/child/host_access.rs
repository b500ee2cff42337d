//! `hostAccess`: the shim, a link of the host on the containers' parent, and the routes on both
//! sides.

use std::net::{IpAddr, Ipv6Addr};

use cni::Error;
use host::Owner;
use host::piece::{ChildKind, HostRoute, Piece, Place, Route, Settled, Shim, shared_name};
use ipnetwork::IpNetwork;
use netlink::{IpvlanMode, Mac, Netlink};
use sys::sysctl;

use super::Child;
use crate::Parent;

/// The shim for an attachment with these addresses; `None` without `hostAccess`. `host` is the
/// host's socket.
///
/// # Errors
/// The host has no address to which a container could reply, or would drop the replies.
pub fn shim(
    host: &Netlink,
    child: &Child,
    owner: &Owner,
    parent: &Parent,
    own: &[IpNetwork],
) -> Result<Option<Shim>, Error> {
    let Some(given) = &child.host_access else { return Ok(None) };
    let parents = parents_addresses(host, parent)?;
    let mut routes: Vec<HostRoute> = Vec::new();
    for net in own {
        let source = source(given, &parents, net).ok_or_else(|| no_source(parent, net))?;
        routes.push(HostRoute { to: net.ip(), source });
    }
    let borrowed = |route: &HostRoute| route.source.is_ipv4() && !given.contains(&route.source);
    let by_parent = is_l2_ipvlan(&child.kind) && routes.iter().any(borrowed);
    if by_parent {
        refuse_strict_filter(&parent.name)?;
    }
    let name = shared_name('h', &format!("{}/{}", owner.network, parent.name));
    // Unique to this host on this link, and stable: neighbours still know it when the link is
    // created again.
    let seed = format!("{}/{name}", parent.mac.map(|mac| mac.to_string()).unwrap_or_default());
    let hash = host::hash(&seed);
    Ok(Some(Shim {
        mac: matches!(child.kind, ChildKind::Macvlan { .. }).then(|| Mac::of_hash(hash)),
        link_local: (!is_routed(&child.kind)).then(|| link_local(hash)),
        name,
        network: owner.network.clone(),
        parent: parent.name.clone(),
        kind: child.kind.clone(),
        addresses: given.clone(),
        // All ipvlan links have the MAC address of their parent.
        neighbour: parent.mac.filter(|_| by_parent),
        routes,
        tag: owner.tag(),
    }))
}

/// The container's side: routes to the host's addresses that its subnets do not cover, and the
/// shim. Pure.
pub fn pieces(ifname: &str, shim: Shim, own: &[IpNetwork]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for HostRoute { source, .. } in &shim.routes {
        let on_link = own.iter().any(|net| net.contains(*source));
        // The host answers neighbour solicitations for an IPv6 address only on the link that has it
        // (RFC 4861, 7.2.3), but accepts packets to it that arrive on the shim.
        let by = shim.link_local.filter(|_| source.is_ipv6() && !shim.addresses.contains(source));
        if on_link && by.is_none() {
            continue;
        }
        let route =
            netlink::Route { gateway: by.map(IpAddr::from), ..netlink::Route::on_link((*source).into()) };
        let link = ifname.to_owned();
        let piece = Piece::Route(Route { place: Place::Sandbox, link, route, any_table: true });
        if !pieces.contains(&piece) {
            pieces.push(piece);
        }
    }
    let addresses: Vec<IpAddr> = shim.addresses.iter().copied().filter(IpAddr::is_ipv6).collect();
    let addresses: Vec<IpAddr> = addresses.into_iter().chain(shim.link_local.map(IpAddr::from)).collect();
    let link = shim.name.clone();
    let ipv6 = own.iter().any(IpNetwork::is_ipv6) && !addresses.is_empty();
    pieces.push(Piece::Shim(shim));
    pieces.extend(ipv6.then_some(Piece::Settled(Settled {
        place: Place::Host,
        link,
        addresses,
        dad: false,
    })));
    pieces
}

/// The parent's global addresses, without temporary, deprecated and tentative ones; empty if the
/// parent does not exist yet.
fn parents_addresses(host: &Netlink, parent: &Parent) -> Result<Vec<IpNetwork>, Error> {
    let Some(link) = host.link_by_name(&parent.name)? else { return Ok(Vec::new()) };
    let addresses = host.addresses(Some(link.index))?.into_iter();
    Ok(addresses
        .filter(|address| address.scope == 0 && !address.is_transient())
        .map(|address| address.net)
        .collect())
}

/// The host's address for a container: a configured one, otherwise the parent's; one in the same
/// subnet is preferred.
fn source(given: &[IpAddr], parents: &[IpNetwork], to: &IpNetwork) -> Option<IpAddr> {
    let same_family = |ip: &IpAddr| ip.is_ipv4() == to.is_ipv4();
    let of = |candidates: Vec<IpAddr>| {
        candidates.iter().find(|ip| to.contains(**ip)).or(candidates.first()).copied()
    };
    let given = given.iter().copied().filter(same_family).collect();
    of(given).or_else(|| of(parents.iter().map(IpNetwork::ip).filter(same_family).collect()))
}

fn no_source(parent: &Parent, to: &IpNetwork) -> Error {
    let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
    let msg = format!(
        "hostAccess: the host has no {family} address on {:?} for {} to reply to: give it one by \"hostAddresses\"",
        parent.name,
        to.ip()
    );
    Error::invalid_config(msg)
}

/// In mode l2, packets from containers to an address of the parent arrive on the parent, but the
/// route back is by the shim: strict reverse-path filtering (RFC 3704, 2.2) would drop them.
fn refuse_strict_filter(parent: &str) -> Result<(), Error> {
    let value = |of: &str| {
        let value = sysctl::read(&format!("net/ipv4/conf/{of}/rp_filter"));
        value.ok().and_then(|value| value.parse::<u8>().ok()).unwrap_or(0)
    };
    // The kernel uses the greater of the two (IN_DEV_MAXCONF).
    if value("all").max(value(parent)) != 1 {
        return Ok(());
    }
    let msg = format!(
        "hostAccess: net.ipv4.conf.{parent}.rp_filter is 1, so the host would drop what containers on ipvlan send to its \
         addresses there: set it to 2 (and that of \"all\"), or give the host others by \"hostAddresses\""
    );
    Err(Error::internal(msg))
}

fn is_l2_ipvlan(kind: &ChildKind) -> bool {
    matches!(kind, ChildKind::Ipvlan(ipvlan) if ipvlan.mode == IpvlanMode::L2)
}

/// Modes l3 and l3s do not resolve neighbours.
fn is_routed(kind: &ChildKind) -> bool {
    matches!(kind, ChildKind::Ipvlan(ipvlan) if ipvlan.mode != IpvlanMode::L2)
}

fn link_local(hash: u64) -> Ipv6Addr {
    Ipv6Addr::from((0xfe80_u128 << 112) | u128::from(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNetwork> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn a_configured_address_is_preferred_then_one_in_the_containers_subnet() {
        let parents = nets(&["192.0.2.1/24", "10.0.0.1/24", "2001:db8::1/64"]);
        for (given, to, expected) in [
            (ips(&[]), "10.0.0.7/24", Some("10.0.0.1")),
            (ips(&[]), "10.9.0.7/24", Some("192.0.2.1")),
            (ips(&["10.9.0.2"]), "10.9.0.7/24", Some("10.9.0.2")),
            (ips(&["fd00::2"]), "10.0.0.7/24", Some("10.0.0.1")),
            (ips(&[]), "fd00::7/64", Some("2001:db8::1")),
            (ips(&["192.0.2.9", "10.0.0.9"]), "10.0.0.7/24", Some("10.0.0.9")),
        ] {
            let expected = expected.map(|ip| ip.parse::<IpAddr>().unwrap());
            assert_eq!(source(&given, &parents, &to.parse().unwrap()), expected, "{given:?} {to}");
        }
        assert_eq!(source(&[], &nets(&["10.0.0.1/24"]), &"fd00::7/64".parse().unwrap()), None);
    }

    #[test]
    fn a_link_local_address_ends_in_the_hash() {
        let ip = link_local(0x0102_0304_0506_0708);
        assert_eq!(ip, "fe80::102:304:506:708".parse::<Ipv6Addr>().unwrap());
    }
}
