//! Addresses and neighbours, as `ip` and packets see them.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink::{LinkChange, Mac, NeighbourState, Netlink, NewAddress, NewBridge, NotReady, Veth, VethPeer};
use serde_json::Value;
use sys::testing::{another_network, becomes_true, ip_link, look, run, soon};
use sys::{NetNs, network_test, sysctl};

const HOST_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const POD_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A pod with `eth0` as the far end of a port of `br0`; returns the index of `eth0`, which is down.
fn attach(pod: &NetNs, port: &str) -> u32 {
    let netlink = Netlink::open().unwrap();
    if netlink.link_by_name("br0").unwrap().is_none() {
        let bridge =
            NewBridge { name: "br0", mac: Some(HOST_MAC), mtu: None, vlan_filtering: false, up: true };
        netlink.create_bridge(&bridge).unwrap();
    }
    let master = netlink.link_by_name("br0").unwrap().unwrap().index;
    let peer = VethPeer { name: "eth0", mac: None, mtu: None, netns: Some(pod.as_fd()) };
    netlink
        .create_veth(&Veth { name: port, mac: None, mtu: None, master: Some(master), up: true, peer })
        .unwrap();
    Netlink::open_in(pod).unwrap().link_by_name("eth0").unwrap().unwrap().index
}

fn up(netlink: &Netlink, index: u32) {
    netlink.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
}

fn add(netlink: &Netlink, index: u32, net: &str, nodad: bool) {
    netlink.add_address(&NewAddress { index, net: net.parse().unwrap(), nodad }).unwrap();
}

/// The seconds for which the kernel uses the route to a subnet: none for ever, less than 0 not at all.
fn expiry(pod: &NetNs, subnet: &str) -> Option<i64> {
    let family = if subnet.contains(':') { "-6" } else { "-4" };
    let routes = pod.enter(|| look(&format!("ip -j {family} route show {subnet} dev eth0"))).unwrap();
    assert_eq!(routes.as_array().map(Vec::len), Some(1), "{subnet}: {routes}");
    routes[0]["expires"].as_i64()
}

fn seen(pod: &NetNs, address: &str) -> Value {
    let links = pod.enter(|| look("ip -j addr show dev eth0")).unwrap();
    let infos = links[0]["addr_info"].as_array().unwrap();
    infos.iter().find(|info| info["local"] == address).cloned().unwrap_or_default()
}

network_test! {
    fn a_limited_address_keeps_the_route_to_its_subnet() {
        let pod = another_network();
        let index = attach(&pod, "veth0");
        let netlink = Netlink::open_in(&pod).unwrap();
        up(&netlink, index);
        for (net, subnet) in [("10.1.2.3/24", "10.1.2.0/24"), ("2001:db8::3/64", "2001:db8::/64")] {
            add(&netlink, index, net, true);
            assert_eq!(expiry(&pod, subnet), None, "{net}");
            // First, and renewed.
            for seconds in [120, 300] {
                netlink.limit_address(index, net.parse().unwrap(), seconds, 60).unwrap();
                let info = seen(&pod, net.split_once('/').unwrap().0);
                let valid = info["valid_life_time"].as_u64().unwrap();
                assert!((u64::from(seconds) - 5..=u64::from(seconds)).contains(&valid), "{info}");
                let expiry = expiry(&pod, subnet).unwrap_or(i64::from(seconds));
                assert!((i64::from(seconds) - 5..=i64::from(seconds)).contains(&expiry), "{net}: {expiry}");
            }
        }
    }
}

network_test! {
    fn an_address_is_as_requested_with_its_broadcast() {
        let pod = another_network();
        let index = attach(&pod, "veth0");
        let netlink = Netlink::open_in(&pod).unwrap();
        for (net, broadcast) in
            [("10.1.2.3/24", Some("10.1.2.255")), ("10.2.0.0/31", None), ("10.3.0.1/32", None), ("10.4.0.1/8", Some("10.255.255.255"))]
        {
            add(&netlink, index, net, true);
            let (ip, prefix) = net.split_once('/').unwrap();
            let info = seen(&pod, ip);
            assert_eq!(info["prefixlen"].to_string(), prefix);
            assert_eq!(info["broadcast"].as_str(), broadcast, "{info}");
            assert_eq!(info["scope"], "global");
        }
        let found = netlink.addresses(Some(index)).unwrap();
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|address| address.index == index && !address.tentative()));
    }
}

network_test! {
    fn an_address_is_added_once_and_deleted_once() {
        let pod = another_network();
        let index = attach(&pod, "veth0");
        let netlink = Netlink::open_in(&pod).unwrap();
        for net in ["10.1.2.3/24", "fd00::2/64"] {
            let net = net.parse().unwrap();
            let address = NewAddress { index, net, nodad: true };
            netlink.add_address(&address).unwrap();
            let error = netlink.add_address(&address).unwrap_err();
            assert!(error.is_exists(), "{error:#}");
            assert!(error.to_string().starts_with(&format!("add address {net} to \"eth0\"")), "{error:#}");
            netlink.delete_address(index, net).unwrap();
            assert_eq!(seen(&pod, &net.ip().to_string()), Value::Null);
            let error = netlink.delete_address(index, net).unwrap_err();
            assert!(error.is_not_found(), "{error:#}");
        }
        assert!(netlink.add_address(&NewAddress { index: 999, net: "10.0.0.1/8".parse().unwrap(), nodad: true }).unwrap_err().is_not_found());
        assert_eq!(netlink.addresses(Some(999)).unwrap(), []);
    }
}

network_test! {
    fn addresses_are_listed_per_link() {
        run("ip link set lo up");
        let netlink = Netlink::open().unwrap();
        let pod = another_network();
        attach(&pod, "veth0");
        let bridge = netlink.link_by_name("br0").unwrap().unwrap().index;
        add(&netlink, bridge, "10.1.0.1/24", true);
        add(&netlink, bridge, "fd00::1/64", true);
        let of = |index| netlink.addresses(index).unwrap().into_iter().map(|a| a.net.to_string()).collect::<Vec<_>>();
        let on_bridge = of(Some(bridge));
        assert!(on_bridge.contains(&"10.1.0.1/24".to_owned()) && on_bridge.contains(&"fd00::1/64".to_owned()));
        assert!(!on_bridge.contains(&"127.0.0.1/8".to_owned()));
        let all = of(None);
        assert!(all.contains(&"127.0.0.1/8".to_owned()) && all.contains(&"10.1.0.1/24".to_owned()), "{all:?}");
    }
}

network_test! {
    /// The container's first act after ADD may be to bind to its address.
    fn without_duplicate_detection_an_ipv6_address_is_bindable_at_once() {
        let pod = another_network();
        let index = attach(&pod, "veth0");
        let netlink = Netlink::open_in(&pod).unwrap();
        add(&netlink, index, "fd00::2/64", true);
        up(&netlink, index);
        pod.enter(|| UdpSocket::bind("[fd00::2]:0").map(drop)).unwrap().unwrap();
        assert!(seen(&pod, "fd00::2")["nodad"].as_bool().unwrap());

        // The flag's effect: with detection the same bind fails.
        add(&netlink, index, "fd00::3/64", false);
        assert!(pod.enter(|| UdpSocket::bind("[fd00::3]:0")).unwrap().is_err());
        assert!(netlink.addresses(Some(index)).unwrap().iter().any(|address| address.tentative()));
    }
}

network_test! {
    fn waiting_for_addresses_ends_when_detection_does() {
        let pod = another_network();
        let index = attach(&pod, "veth0");
        let netlink = Netlink::open_in(&pod).unwrap();
        add(&netlink, index, "fd00::2/64", false);
        up(&netlink, index);
        netlink.wait_for_addresses(index, &["fd00::2".parse().unwrap()], true, soon()).unwrap();
        let addresses = netlink.addresses(Some(index)).unwrap();
        assert!(addresses.iter().any(|address| address.net.ip() == "fd00::2".parse::<IpAddr>().unwrap()));
        pod.enter(|| UdpSocket::bind("[fd00::2]:0").map(drop)).unwrap().unwrap();
    }
}

network_test! {
    fn an_address_that_stays_tentative_is_an_error_at_the_deadline() {
        let pod = another_network();
        let index = attach(&pod, "veth0");
        let netlink = Netlink::open_in(&pod).unwrap();
        // The link is down, so detection does not start.
        add(&netlink, index, "fd00::2/64", false);
        let start = Instant::now();
        let error = netlink
            .wait_for_addresses(index, &["fd00::2".parse().unwrap()], true, start + Duration::from_millis(100))
            .unwrap_err();
        assert!(matches!(error.reason(), Some(NotReady::TentativeAddress { link, .. }) if link == "\"eth0\""), "{error}");
        let waited = start.elapsed();
        assert!((Duration::from_millis(100)..Duration::from_secs(2)).contains(&waited), "{waited:?}");
    }
}

network_test! {
    /// RFC 4862, section 5.4.5.
    fn a_duplicate_address_is_an_error_that_names_it() {
        let (one, two) = (another_network(), another_network());
        let first = attach(&one, "veth1");
        let second = attach(&two, "veth2");
        let netlink = Netlink::open_in(&one).unwrap();
        add(&netlink, first, "fd00::2/64", true);
        up(&netlink, first);
        let netlink = Netlink::open_in(&two).unwrap();
        up(&netlink, second);
        netlink.wait_for_addresses(second, &[], true, soon()).unwrap();
        Netlink::open().unwrap().wait_for_port(port("veth1"), soon()).unwrap();
        add(&netlink, second, "fd00::2/64", false);
        let error = netlink.wait_for_addresses(second, &["fd00::2".parse().unwrap()], true, soon()).unwrap_err();
        assert!(
            matches!(error.reason(), Some(NotReady::DuplicateAddress { address, .. }) if address.to_string() == "fd00::2/64"),
            "{error}"
        );
    }
}

fn port(name: &str) -> u32 {
    Netlink::open().unwrap().link_by_name(name).unwrap().unwrap().index
}

network_test! {
    fn the_wait_ends_when_the_ports_far_end_is_up() {
        let pod = another_network();
        let index = attach(&pod, "veth0");
        let host = Netlink::open().unwrap();
        let deadline = Instant::now() + Duration::from_millis(100);
        let error = host.wait_for_port(port("veth0"), deadline).unwrap_err();
        // The reference's text. Which of the two states is shown depends on the kernel.
        let text = error.to_string();
        let states = ["down", "lower-layer-down"].map(|state| format!("bridge port in error state: {state} (veth0)"));
        assert!(states.contains(&text), "{text}");
        assert!(Instant::now() >= deadline);

        // From a thread in another namespace: the events are those of the socket's.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let host = host;
                pod.enter(|| host.wait_for_port(host.link_by_name("veth0").unwrap().unwrap().index, soon()))
                    .unwrap()
            });
            up(&Netlink::open_in(&pod).unwrap(), index);
            waiting.join().unwrap()
        })
        .unwrap();
        let state = ip_link("veth0");
        assert_eq!((&state["operstate"], &state["linkinfo"]["info_slave_data"]["state"]), (&"UP".into(), &"forwarding".into()));
    }
}

network_test! {
    fn a_port_that_goes_away_ends_the_wait() {
        let pod = another_network();
        attach(&pod, "veth0");
        let host = Netlink::open().unwrap();
        let index = port("veth0");
        let error = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let host = host;
                host.wait_for_port(index, Instant::now() + Duration::from_secs(20))
            });
            // Deleted from its far end, at any stage of the wait.
            let netlink = Netlink::open_in(&pod).unwrap();
            netlink.delete_link(netlink.link_by_name("eth0").unwrap().unwrap().index).unwrap();
            waiting.join().unwrap()
        })
        .unwrap_err();
        assert!(error.is_not_found(), "{error:#}");
    }
}

network_test! {
    fn a_neighbour_entry_is_set_replaced_and_deleted() {
        let pod = another_network();
        attach(&pod, "veth0");
        let netlink = Netlink::open().unwrap();
        let bridge = port("br0");
        for ip in ["10.1.0.2", "fd00::2"] {
            let entry = |state: &str| {
                let found = look("ip -j neigh show dev br0 nud all");
                found.as_array().unwrap().iter().any(|n| n["dst"] == ip && n["state"][0] == state)
            };
            let address = ip.parse().unwrap();
            netlink.set_neighbour(bridge, address, HOST_MAC, NeighbourState::Stale).unwrap();
            assert!(entry("STALE"));
            netlink.set_neighbour(bridge, address, POD_MAC, NeighbourState::Permanent).unwrap();
            assert!(entry("PERMANENT"));
            netlink.delete_neighbour(bridge, address).unwrap();
            assert!(!entry("PERMANENT"));
        }
        let error = netlink.delete_neighbour(bridge, "10.1.0.9".parse().unwrap()).unwrap_err();
        assert!(error.is_not_found(), "{error:#}");
        assert!(error.to_string().starts_with("delete neighbour 10.1.0.9 on interface"), "{error:#}");
    }
}

/// A pod with an address of each family on a forwarding port, and a neighbour on the bridge with
/// another station's entries for these addresses; returns the pod's socket and the index of its
/// `eth0`.
fn pod_with_stale_neighbour(pod: &NetNs, addresses: &[IpAddr]) -> (Netlink, u32) {
    let index = attach(pod, "veth0");
    let host = Netlink::open().unwrap();
    let bridge = port("br0");
    add(&host, bridge, "10.1.0.1/24", true);
    add(&host, bridge, "fd00::1/64", true);
    let netlink = Netlink::open_in(pod).unwrap();
    let change = LinkChange { mac: Some(POD_MAC), ..LinkChange::default() };
    netlink.set_link(index, &change).unwrap();
    add(&netlink, index, "10.1.0.2/24", true);
    add(&netlink, index, "fd00::2/64", true);
    up(&netlink, index);
    host.wait_for_port(port("veth0"), soon()).unwrap();
    for &ip in addresses {
        host.set_neighbour(bridge, ip, Mac([2, 0, 0, 0, 0, 0xee]), NeighbourState::Stale).unwrap();
    }
    (netlink, index)
}

fn neighbour_knows(ip: IpAddr, mac: Mac) -> bool {
    let found = look("ip -j neigh show dev br0");
    found.as_array().unwrap().iter().any(|n| n["dst"] == ip.to_string() && n["lladdr"] == mac.to_string())
}

network_test! {
    /// A reused address must reach its new owner at once: RFC 5227, section 3; RFC 4861, section
    /// 7.2.6.
    fn setting_the_same_mac_address_announces_addresses() {
        let pod = another_network();
        let addresses: [IpAddr; 2] = ["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let (netlink, index) = pod_with_stale_neighbour(&pod, &addresses);
        pod.enter(|| {
            sysctl::write("net/ipv4/conf/eth0/arp_notify", "1").unwrap();
            sysctl::write("net/ipv6/conf/eth0/ndisc_notify", "1").unwrap();
        })
        .unwrap();
        netlink.announce(index, POD_MAC).unwrap();
        for ip in addresses {
            assert!(becomes_true(|| neighbour_knows(ip, POD_MAC)), "{ip}: {}", look("ip -j neigh show dev br0"));
        }
        let link = netlink.link_by_index(index).unwrap().unwrap();
        assert_eq!((link.mac, link.up()), (Some(POD_MAC), true));
    }
}
