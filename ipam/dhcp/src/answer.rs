//! The result of ADD from a grant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::{AddResult, Dns, IpConfig, Route};
use ipnetwork::{IpNetwork, Ipv4Network};
use netlink::Route as KernelRoute;

use crate::grant::{Grant, Routed};

/// The result: the address, its routes, and the resolver. `link_mtu`: a greater MTU of the server
/// cannot be used.
pub fn result(grant: &Grant, priority: Option<u32>, link_mtu: u32) -> AddResult {
    let gateway = grant.routers.first().copied().map(IpAddr::from);
    let ips = grant.net().map(|net| IpConfig { interface: None, address: net.into(), gateway });
    AddResult {
        interfaces: Vec::new(),
        ips: ips.into_iter().collect(),
        routes: routes(grant, priority, link_mtu),
        dns: Dns {
            nameservers: grant.name_servers.iter().map(ToString::to_string).collect(),
            domain: grant.domain.clone().unwrap_or_default(),
            search: grant.search.clone(),
            options: Vec::new(),
        },
    }
}

/// Adds IPv6 addresses to a result, with the default route by a router, which the kernel has already.
pub fn add_v6(
    result: &mut AddResult,
    nets: &[IpNetwork],
    router: Option<IpAddr>,
    priority: Option<u32>,
    mtu: Option<u32>,
) {
    result.ips.extend(nets.iter().map(|net| IpConfig { interface: None, address: *net, gateway: router }));
    let default = IpNetwork::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    result.routes.extend(default.ok().filter(|_| router.is_some()).map(|dst| Route {
        dst,
        gw: router,
        mtu: mtu.unwrap_or(0),
        advmss: 0,
        priority: priority.unwrap_or(0),
        table: None,
        scope: None,
    }));
}

/// Classless routes stand for all others (RFC 3442).
fn routes(grant: &Grant, priority: Option<u32>, link_mtu: u32) -> Vec<Route> {
    let mtu = grant.mtu.map(u32::from).filter(|mtu| *mtu < link_mtu).unwrap_or(0);
    let default = |router: &Ipv4Addr| (Ipv4Addr::UNSPECIFIED, 0, *router);
    let routed: Vec<Routed> = match &grant.classless {
        Some(routes) => routes.clone(),
        None => grant.classful.iter().copied().chain(grant.routers.first().map(default)).collect(),
    };
    let route = |(network, length, router): Routed| {
        let dst: IpNetwork = Ipv4Network::new(network, length).ok()?.into();
        // A router of 0.0.0.0 is the link itself.
        let on_link = router.is_unspecified();
        Some(Route {
            dst,
            gw: (!on_link).then_some(router.into()),
            mtu,
            advmss: 0,
            priority: priority.unwrap_or(0),
            table: None,
            scope: on_link.then_some(KernelRoute::SCOPE_LINK),
        })
    };
    routed.into_iter().filter_map(route).collect()
}

/// The routes of a grant as the kernel has them, for a link whose address was taken off meanwhile.
pub fn kernel_routes(grant: &Grant, priority: Option<u32>, link_mtu: u32, index: u32) -> Vec<KernelRoute> {
    let kernel = |route: Route| KernelRoute {
        gateway: route.gw,
        index: Some(index),
        mtu: (route.mtu > 0).then_some(route.mtu),
        priority: (route.priority > 0).then_some(route.priority),
        scope: route.scope.unwrap_or(0),
        ..KernelRoute::new(route.dst)
    };
    routes(grant, priority, link_mtu).into_iter().map(kernel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            address: Ipv4Addr::new(10, 1, 2, 3),
            prefix: 24,
            server: Ipv4Addr::new(10, 1, 2, 1),
            server_mac: [2; 6],
            lease: Some(3600),
            t1: 1800,
            t2: 3150,
            routers: vec![Ipv4Addr::new(10, 1, 2, 1), Ipv4Addr::new(10, 1, 2, 2)],
            classless: None,
            classful: Vec::new(),
            mtu: None,
            name_servers: Vec::new(),
            domain: None,
            search: Vec::new(),
            time_servers: Vec::new(),
        }
    }

    fn printed(grant: &Grant, priority: Option<u32>) -> String {
        let text = result(grant, priority, 1500).print(cni::Version::NEWEST).unwrap();
        text.iter().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| char::from(*byte)).collect()
    }

    #[test]
    fn the_first_router_is_gateway_and_default_route() {
        let text = printed(&grant(), Some(5));
        assert_eq!(
            text,
            r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1","priority":5}]}"#
        );
    }

    #[test]
    fn classless_routes_stand_for_the_others() {
        let (net, router) = (Ipv4Addr::new(192, 0, 2, 0), Ipv4Addr::new(10, 1, 2, 9));
        let classful = vec![(Ipv4Addr::new(172, 16, 0, 0), 16, router)];
        let mut grant = Grant { classful, mtu: Some(1400), ..grant() };
        let routes = routes(&grant, None, 1500);
        assert_eq!(routes.len(), 2);
        assert!(routes.iter().all(|route| route.mtu == 1400));
        grant.classless = Some(vec![(net, 24, Ipv4Addr::UNSPECIFIED), (net, 32, router)]);
        let text = printed(&Grant { mtu: Some(1500), ..grant }, None);
        assert!(
            text.contains(
                r#""routes":[{"dst":"192.0.2.0/24","scope":253},{"dst":"192.0.2.0/32","gw":"10.1.2.9"}]"#
            ),
            "{text}"
        );
    }

    #[test]
    fn names_and_servers_go_to_the_resolver() {
        let grant = Grant {
            name_servers: vec![Ipv4Addr::new(10, 1, 2, 53)],
            domain: Some("example.org".into()),
            search: vec!["a.example".into()],
            ..grant()
        };
        let dns = result(&grant, None, 1500).dns;
        assert_eq!(
            (dns.nameservers, dns.domain, dns.search),
            (vec!["10.1.2.53".to_owned()], "example.org".to_owned(), vec!["a.example".to_owned()])
        );
    }
}
