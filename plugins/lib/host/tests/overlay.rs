//! Overlay networks between two hosts, which are network namespaces here.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use host::intent::By;
use host::piece::{
    self, AddressFilter, Kernel, MacFilter, OverlayAddresses, OverlayLinks, OverlayPeers, OverlayPort,
    OverlayRules, Piece, Place, Recorded, Up, VethPair, overlay_bridge, overlay_device, release_overlay,
};
use host::{OverlayNetwork, Owner, rules};
use netlink::{LinkChange, Mac, Netlink, NewAddress, Veth, VethPeer};
use sys::testing::{another_network, ip_link, no_link, run};
use sys::{NetNs, network_test};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0x6d, 10, 9, 0, last])
}

/// Host `n` of a network: container .n*10, own address .n*10+1.
fn plan(network: &str, vni: u32, n: u8) -> Vec<Piece> {
    let owner = Owner::new(network, format!("c{n}"), "eth0");
    let port = owner.host_veth_names().next().unwrap();
    let subnet = if network == "front" { 9 } else { 8 };
    let v4 = |last: u8| ip(&format!("10.{subnet}.0.{last}"));
    let v6 = |last: u8| ip(&format!("fd00:{subnet}::{last:x}"));
    let (gateways, own) = ([v4(1), v6(1)], [v4(n * 10 + 1), v6(n * 10 + 1)]);
    let net = |ip: IpAddr| ipnetwork::IpNetwork::new(ip, if ip.is_ipv4() { 16 } else { 64 }).unwrap();
    let rules = OverlayNetwork {
        bridge: overlay_bridge(network),
        port: 4789,
        addresses: gateways.iter().chain(&own).copied().collect(),
        internal: false,
    };
    let addresses = vec![v4(n * 10), v6(n * 10)];
    let mut pieces = vec![
        Piece::OverlayRules(OverlayRules { network: network.into(), rules }),
        Piece::OverlayLinks(OverlayLinks {
            network: network.into(),
            vni,
            local: ip(&format!("192.0.2.{n}")),
            port: 4789,
            mtu: 1450,
            bridge_mac: mac(n * 10 + 1),
            ipv6: true,
        }),
        Piece::OverlayAddresses(OverlayAddresses {
            network: network.into(),
            own: own.map(net).to_vec(),
            gateways: gateways.map(net).to_vec(),
        }),
        Piece::MacFilter(MacFilter { owner: owner.clone(), port: port.clone(), mac: mac(n * 10) }),
        Piece::AddressFilter(AddressFilter {
            owner: owner.clone(),
            port: port.clone(),
            mac: mac(n * 10),
            addresses: addresses.clone(),
        }),
        Piece::Veth(VethPair {
            host_name: port.clone(),
            host_mac: Mac::random().unwrap(),
            bridge: Some(overlay_bridge(network)),
            container_name: "eth0".into(),
            container_mac: mac(n * 10),
            mtu: Some(1450),
            label: owner.label(),
        }),
        Piece::OverlayPort(OverlayPort { port, mac: mac(n * 10), hairpin: false }),
    ];
    pieces.extend(addresses.iter().map(|ip| {
        let net = net(*ip);
        Piece::Address(piece::Address { place: Place::Sandbox, link: "eth0".into(), net, dad: false })
    }));
    pieces.push(Piece::Up(Up { place: Place::Sandbox, link: "eth0".into() }));
    let record = Recorded::of(By::Bridge, &owner, &pieces);
    pieces.extend(record);
    pieces
}

/// Two hosts on a wire. The first is this process's namespace.
fn wire() -> NetNs {
    let other = another_network();
    let host = Netlink::open().unwrap();
    let peer = VethPeer { name: "u", mac: None, mtu: None, netns: Some(other.as_fd()) };
    host.create_veth(&Veth { name: "u", mac: None, mtu: None, master: None, up: true, peer }).unwrap();
    let number = |host: &Netlink, n: u8| {
        let index = host.link_by_name("u").unwrap().unwrap().index;
        let net = format!("192.0.2.{n}/24").parse().unwrap();
        host.add_address(&NewAddress { index, net, nodad: true }).unwrap();
        host.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    };
    number(&host, 1);
    number(&Netlink::open_in(&other).unwrap(), 2);
    other
}

fn again(pod: &NetNs) -> Kernel {
    Kernel::open(pod.enter(|| NetNs::current().unwrap()).unwrap()).unwrap()
}

fn attach(pieces: &[Piece]) -> (NetNs, Kernel) {
    let pod = another_network();
    // As `attach` sets it for a container's link: its link-local address is usable at once.
    for of in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{of}/accept_dad");
        pod.enter(|| std::fs::write(path, "0")).unwrap().unwrap();
    }
    let mut kernel = again(&pod);
    piece::apply(pieces, &mut kernel).unwrap();
    assert_eq!(piece::verify(pieces, &mut kernel).unwrap(), []);
    (pod, kernel)
}

/// What the agent of a host programs of the other host `n`.
fn program(network: &str, n: u8) {
    let subnet = if network == "front" { 9 } else { 8 };
    let host = Netlink::open().unwrap();
    let peers = OverlayPeers::find(&host, network).unwrap().unwrap();
    for last in [n * 10, n * 10 + 1] {
        peers.set_entry(mac(last), ip(&format!("192.0.2.{n}"))).unwrap();
        peers.set_neighbour(ip(&format!("10.{subnet}.0.{last}")), mac(last)).unwrap();
        peers.set_neighbour(ip(&format!("fd00:{subnet}::{last:x}")), mac(last)).unwrap();
    }
}

/// Whether a datagram of this namespace, with that source if any, reaches an address of another.
fn reaches_from(source: &str, to: &NetNs, address: &str) -> bool {
    let socket = |address: &str| UdpSocket::bind((ip(address), 0));
    let receiver = to.enter(|| socket(address)).unwrap().unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let sender = socket(source).unwrap();
    let bytes = b"moor";
    let sent = sender.send_to(bytes, receiver.local_addr().unwrap());
    sent.is_ok() && receiver.recv_from(&mut [0; 8]).is_ok_and(|(length, _)| length == bytes.len())
}

fn reaches(to: &NetNs, address: &str) -> bool {
    reaches_from(if address.contains(':') { "::" } else { "0.0.0.0" }, to, address)
}

network_test! {
    fn containers_and_hosts_reach_each_other_and_nobody_else_gets_in() {
        let (here, other) = (NetNs::current().unwrap(), wire());
        let plans = [plan("front", 0x6d_0001, 1), plan("front", 0x6d_0001, 2)];
        let (pod1, mut kernel1) = attach(&plans[0]);
        let (pod2, kernel2) = other.enter(|| attach(&plans[1])).unwrap();
        drop(kernel2);
        program("front", 2);
        other.enter(|| program("front", 1)).unwrap();
        let to_pod2 = || pod1.enter(|| reaches(&pod2, "10.9.0.20")).unwrap();
        // The guard of a new network lets nobody in.
        assert!(!to_pod2());
        let members = [ip("192.0.2.1"), ip("192.0.2.2")];
        assert!(piece::set_members(&members).unwrap());
        // The hosts have one /run here, so the record is the other's, too.
        assert!(!to_pod2());
        assert!(other.enter(|| piece::set_members(&members).unwrap()).unwrap());
        pod1.enter(|| {
            assert!(reaches(&pod2, "10.9.0.20") && reaches(&pod2, "fd00:9::14"));
            assert!(reaches(&other, "10.9.0.21") && reaches(&other, "fd00:9::15"));
            assert!(reaches(&here, "10.9.0.1") && reaches(&here, "fd00:9::1"));
            // Each host is the gateway of its own containers.
            assert!(!reaches(&other, "10.9.0.1"));
        })
        .unwrap();
        // What the hosts send has their own addresses, also between them.
        for (to, address) in
            [(&pod2, "10.9.0.20"), (&other, "10.9.0.21"), (&pod2, "fd00:9::14"), (&other, "fd00:9::15")]
        {
            assert!(reaches(to, address), "{address}");
        }
        assert!(pod2.enter(|| reaches(&here, "10.9.0.11") && reaches(&here, "fd00:9::b")).unwrap());
        // Nothing of it is a connection of the hosts.
        let tracked = std::fs::read_to_string("/proc/net/nf_conntrack").unwrap_or_default();
        assert!(!tracked.contains("dport=4789"), "{tracked}");

        other.enter(|| piece::set_members(&members[1..]).unwrap()).unwrap();
        assert!(!to_pod2());
        piece::set_members(&members).unwrap();
        other.enter(|| {
            run("nft flush ruleset");
            assert!(pod1.enter(|| reaches(&pod2, "10.9.0.20")).unwrap());
        })
        .unwrap();
        run("nft flush ruleset");
        assert_ne!(piece::verify(&plans[0], &mut kernel1).unwrap(), []);
        // As at the end of the process: from then on, others may make the rules again.
        kernel1 = again(&pod1);
        rules::reapply(&rules::open().unwrap()).unwrap();
        assert_eq!(piece::verify(&plans[0], &mut kernel1).unwrap(), []);
        assert!(to_pod2() && pod2.enter(|| reaches(&pod1, "10.9.0.10")).unwrap());
    }
}

network_test! {
    fn a_container_sends_with_its_own_addresses_alone() {
        let (here, other) = (NetNs::current().unwrap(), wire());
        let (pod1, _kernel1) = attach(&plan("front", 0x6d_0001, 1));
        let (pod2, _kernel2) = other.enter(|| attach(&plan("front", 0x6d_0001, 2))).unwrap();
        program("front", 2);
        other.enter(|| program("front", 1)).unwrap();
        let members = [ip("192.0.2.1"), ip("192.0.2.2")];
        piece::set_members(&members).unwrap();
        other.enter(|| piece::set_members(&members).unwrap()).unwrap();
        pod1.enter(|| {
            run("ip addr add 10.9.0.77/16 dev eth0");
            run("ip addr add fd00:9::77/64 dev eth0 nodad");
            assert!(reaches(&pod2, "10.9.0.20") && reaches_from("fd00:9::a", &pod2, "fd00:9::14"));
            for (to, address) in [(&pod2, "10.9.0.20"), (&here, "10.9.0.1")] {
                assert!(!reaches_from("10.9.0.77", to, address), "{address}");
            }
            for (to, address) in [(&pod2, "fd00:9::14"), (&here, "fd00:9::1")] {
                assert!(!reaches_from("fd00:9::77", to, address), "{address}");
            }
        })
        .unwrap();
        // The host asks, and gets no answer for the foreign address.
        assert!(reaches(&pod1, "10.9.0.10") && !reaches(&pod1, "10.9.0.77") && !reaches(&pod1, "fd00:9::77"));
        pod1.enter(|| {
            run("ip link set eth0 address 02:6d:0a:09:00:63");
            assert!(!reaches(&here, "10.9.0.1"));
        })
        .unwrap();
    }
}

network_test! {
    fn two_networks_do_not_reach_each_other_on_a_host() {
        let (here, _other) = (NetNs::current().unwrap(), wire());
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let (front, _kernel1) = attach(&plan("front", 0x6d_0001, 1));
        let (back, _kernel2) = attach(&plan("back", 0x6d_0002, 1));
        for (pod, gateway) in [(&front, "10.9.0.1"), (&back, "10.8.0.1")] {
            pod.enter(|| run(&format!("ip route add default via {gateway}"))).unwrap();
        }
        front
            .enter(|| {
                assert!(reaches(&here, "10.9.0.1") && reaches(&here, "192.0.2.1"));
                assert!(!reaches(&back, "10.8.0.10"));
                assert!(!reaches(&here, "10.8.0.1") && !reaches(&here, "10.8.0.11"));
            })
            .unwrap();
        back.enter(|| assert!(reaches(&here, "10.8.0.1") && !reaches(&front, "10.9.0.10"))).unwrap();
    }
}

network_test! {
    fn links_and_rules_go_with_the_last_attachment() {
        wire();
        let host = Netlink::open().unwrap();
        let plans = [plan("front", 0x6d_0001, 1), plan("front", 0x6d_0001, 2)];
        let mut second = plans[1].clone();
        // Another container of the same host.
        second.splice(0..3, plans[0][0..3].iter().cloned());
        let (_pod1, kernel1) = attach(&plans[0]);
        let (_pod2, kernel2) = attach(&second);
        drop((kernel1, kernel2));
        let delete = |n: u8| {
            let owner = Owner::new("front", format!("c{n}"), "eth0");
            let removal = host::Removal::new(owner, "", Vec::new());
            rules::delete(&removal, &[]).unwrap();
            piece::delete_veth(&host, &removal).unwrap();
            release_overlay(&host, "front").unwrap();
        };
        delete(1);
        assert_eq!(ip_link(&overlay_device("front"))["master"], overlay_bridge("front"));
        delete(2);
        assert!(no_link(&overlay_device("front")) && no_link(&overlay_bridge("front")));
        assert_eq!(run("nft list ruleset"), "");
    }
}

network_test! {
    fn a_device_that_somebody_deleted_is_made_again() {
        wire();
        let pieces = plan("front", 0x6d_0001, 1);
        let host = Netlink::open().unwrap();
        let Piece::OverlayLinks(links) = &pieces[1] else { panic!("{pieces:?}") };
        assert!(!links.restore(&host).unwrap());
        let (_pod, mut kernel) = attach(&pieces);
        assert!(!links.restore(&host).unwrap());
        run(&format!("ip link del {}", overlay_device("front")));
        assert_ne!(piece::verify(&pieces, &mut kernel).unwrap(), []);
        assert!(links.restore(&host).unwrap());
        assert_eq!(piece::verify(&pieces, &mut kernel).unwrap(), []);
        // The host has another address now.
        let moved = OverlayLinks { local: ip("192.0.2.7"), ..links.clone() };
        assert!(moved.restore(&host).unwrap() && !moved.restore(&host).unwrap());
        assert_eq!(ip_link(&overlay_device("front"))["linkinfo"]["info_data"]["local"], "192.0.2.7");
    }
}

network_test! {
    fn a_link_of_somebody_else_is_not_used() {
        wire();
        run(&format!("ip link add {} type bridge", overlay_bridge("front")));
        let mut kernel = Kernel::open(another_network()).unwrap();
        let error = piece::apply(&plan("front", 0x6d_0001, 1), &mut kernel).unwrap_err();
        assert!(format!("{error:#}").contains("no bridge of ours"), "{error:#}");
        assert_eq!(run("nft list ruleset"), "");
        run(&format!("ip link del {}", overlay_bridge("front")));
        run("ip link add vx type vxlan id 7143425 dstport 4789");
        let error = piece::apply(&plan("front", 0x6d_0001, 1), &mut kernel).unwrap_err();
        assert!(format!("{error:#}").contains("another VXLAN device"), "{error:#}");
        assert!(no_link(&overlay_bridge("front")));
    }
}
