//! Routes, as `ip` sees them.

#![allow(clippy::unwrap_used)]

use netlink::{LinkChange, Netlink, NewAddress, NewBridge, Route};
use serde_json::Value;
use sys::network_test;
use sys::testing::{look, run};

/// A link that is up and has addresses of both families; returns its index.
fn link(netlink: &Netlink, name: &str, nets: [&str; 2]) -> u32 {
    netlink
        .create_bridge(&NewBridge { name, mac: None, mtu: None, vlan_filtering: false, up: true })
        .unwrap();
    let index = netlink.link_by_name(name).unwrap().unwrap().index;
    for net in nets {
        netlink.add_address(&NewAddress { index, net: net.parse().unwrap(), nodad: true }).unwrap();
    }
    index
}

fn to(dst: &str) -> Route {
    Route::new(dst.parse().unwrap())
}

fn via(dst: &str, gateway: &str) -> Route {
    Route { gateway: Some(gateway.parse().unwrap()), ..to(dst) }
}

fn seen(command: &str) -> Value {
    look(&format!("ip -j -N -d {command}"))[0].take()
}

network_test! {
    /// The reference omits `mtu` and `advmss` (BR-3).
    fn a_route_has_every_requested_attribute() {
        let netlink = Netlink::open().unwrap();
        let index = link(&netlink, "br0", ["10.1.0.2/24", "fd00::2/64"]);
        for (dst, gateway, command) in [
            ("10.9.0.0/16", "10.1.0.1", "route show table 1000"),
            ("fd09::/32", "fd00::1", "-6 route show table 1000"),
        ] {
            let route = Route {
                index: Some(index), mtu: Some(1400), advmss: Some(1300), priority: Some(77), table: 1000,
                ..via(dst, gateway)
            };
            netlink.add_route(&route, true).unwrap();
            let found = seen(command);
            assert_eq!((&found["dst"], &found["gateway"], &found["dev"]), (&dst.into(), &gateway.into(), &"br0".into()));
            assert_eq!(found["metric"], 77);
            assert_eq!(found["protocol"], "3");
            assert_eq!(found["metrics"][0]["mtu"], 1400, "{found}");
            assert_eq!(found["metrics"][0]["advmss"], 1300, "{found}");
            assert_eq!(netlink.routes(Some(index), Some(1000)).unwrap(), [route]);
            assert_eq!(netlink.routes(None, Some(1000)).unwrap(), [route]);
            netlink.delete_route(&route).unwrap();
            let error = netlink.delete_route(&route).unwrap_err();
            assert!(error.is_not_found(), "{error:#}");
            assert_eq!(netlink.routes(None, Some(1000)).unwrap(), []);
        }
    }
}

network_test! {
    fn scope_and_onlink_are_applied() {
        let netlink = Netlink::open().unwrap();
        let index = Some(link(&netlink, "br0", ["10.1.0.2/24", "fd00::2/64"]));
        netlink.add_route(&Route { index, scope: 253, ..to("10.8.0.0/16") }, true).unwrap();
        let found = seen("route show 10.8.0.0/16");
        assert_eq!((&found["scope"], &found["dev"]), (&"253".into(), &"br0".into()));

        // A gateway outside every subnet, as with /32 addresses.
        for (dst, gateway, command) in
            [("0.0.0.0/0", "169.254.1.1", "route show default"), ("::/0", "fe80::1", "-6 route show default")]
        {
            let route = Route { index, ..via(dst, gateway) };
            if dst == "0.0.0.0/0" {
                assert_eq!(netlink.add_route(&route, true).unwrap_err().errno(), Some(101));
            }
            netlink.add_route(&Route { onlink: true, ..route }, true).unwrap();
            let found = seen(command);
            assert_eq!((&found["gateway"], &found["flags"][0]), (&gateway.into(), &"onlink".into()), "{found}");
        }
        let routes = netlink.routes(index, Some(Route::MAIN_TABLE)).unwrap();
        assert_eq!(routes.iter().filter(|route| route.onlink && route.is_default()).count(), 2);
    }
}

network_test! {
    /// As the reference requests it (only CREATE), and exclusively (EXCL).
    fn a_second_route_is_an_error_when_exclusive() {
        let netlink = Netlink::open().unwrap();
        let index = Some(link(&netlink, "br0", ["10.1.0.2/24", "fd00::2/64"]));
        for (dst, one, two) in [("10.9.0.0/16", "10.1.0.1", "10.1.0.9"), ("fd09::/32", "fd00::1", "fd00::9")] {
            let first = Route { index, ..via(dst, one) };
            let second = Route { index, ..via(dst, two) };
            netlink.add_route(&first, false).unwrap();
            assert!(netlink.add_route(&first, false).unwrap_err().is_exists());
            let error = netlink.add_route(&second, true).unwrap_err();
            assert!(error.is_exists(), "{error:#}");
            let expected = format!("add route {dst} via {two} dev \"br0\" (scope 0, table 254)");
            assert!(error.to_string().starts_with(&expected), "{error:#}");
        }
        // IPv6 combines several next hops into one route: each is shown.
        netlink.add_route(&Route { index, ..via("fd09::/32", "fd00::9") }, false).unwrap();
        let both: Vec<_> = netlink.routes(index, None).unwrap().into_iter().filter(|r| r.dst.to_string() == "fd09::/32").collect();
        let mut gateways: Vec<_> = both.iter().map(|route| route.gateway.unwrap().to_string()).collect();
        gateways.sort();
        assert_eq!(gateways, ["fd00::1", "fd00::9"]);
    }
}

network_test! {
    fn a_multipath_route_lists_the_hops_of_each_link() {
        let netlink = Netlink::open().unwrap();
        let one = link(&netlink, "br1", ["10.1.0.2/24", "fd01::2/64"]);
        let two = link(&netlink, "br2", ["10.2.0.2/24", "fd02::2/64"]);
        run("ip route add 10.9.0.0/16 nexthop via 10.1.0.1 dev br1 nexthop via 10.2.0.1 dev br2");
        for (index, gateway) in [(one, "10.1.0.1"), (two, "10.2.0.1")] {
            let found = netlink.routes(Some(index), Some(Route::MAIN_TABLE)).unwrap();
            let hops: Vec<_> = found.iter().filter(|route| route.dst.to_string() == "10.9.0.0/16").collect();
            assert_eq!(hops.len(), 1, "{found:?}");
            assert_eq!(hops[0].gateway, Some(gateway.parse().unwrap()));
        }
    }
}

network_test! {
    /// The link for `mtu: "auto"`: lowest metric, IPv4 before IPv6, main table only.
    fn the_default_route_is_the_one_that_packets_take() {
        let netlink = Netlink::open().unwrap();
        let one = link(&netlink, "br1", ["10.1.0.2/24", "fd01::2/64"]);
        let two = link(&netlink, "br2", ["10.2.0.2/24", "fd02::2/64"]);
        assert_eq!(netlink.default_route_link().unwrap(), None);
        netlink.add_route(&Route { index: Some(one), table: 100, ..via("0.0.0.0/0", "10.1.0.1") }, true).unwrap();
        run("ip route add blackhole default metric 1");
        assert_eq!(netlink.default_route_link().unwrap(), None);
        netlink.add_route(&Route { index: Some(two), priority: Some(5), ..via("::/0", "fd02::1") }, true).unwrap();
        assert_eq!(netlink.default_route_link().unwrap(), Some(two));
        netlink.add_route(&Route { index: Some(one), priority: Some(200), ..via("0.0.0.0/0", "10.1.0.1") }, true).unwrap();
        assert_eq!(netlink.default_route_link().unwrap(), Some(one));
        netlink.add_route(&Route { index: Some(two), priority: Some(100), ..via("0.0.0.0/0", "10.2.0.1") }, true).unwrap();
        assert_eq!(netlink.default_route_link().unwrap(), Some(two));
    }
}

network_test! {
    /// In a container without IPv6, the listing must neither repeat IPv4 routes nor fail.
    fn a_namespace_without_ipv6_lists_ipv4_routes_once() {
        for kind in ["all", "default"] {
            sys::sysctl::write(&format!("net/ipv6/conf/{kind}/disable_ipv6"), "1").unwrap();
        }
        let netlink = Netlink::open().unwrap();
        netlink.create_bridge(&NewBridge { name: "br0", mac: None, mtu: None, vlan_filtering: false, up: true }).unwrap();
        let index = netlink.link_by_name("br0").unwrap().unwrap().index;
        netlink.add_address(&NewAddress { index, net: "10.1.0.2/24".parse().unwrap(), nodad: true }).unwrap();
        netlink.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        let found = netlink.routes(Some(index), Some(Route::MAIN_TABLE)).unwrap();
        assert_eq!(found.iter().map(|route| route.dst.to_string()).collect::<Vec<_>>(), ["10.1.0.0/24"]);
        assert_eq!((found[0].scope, found[0].protocol), (253, 2));
    }
}
