//! VXLAN devices, their forwarding tables and neighbours, as `ip` and `bridge` see them.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use netlink::{
    Change, ForwardingEntry, LinkChange, Mac, Neighbour, NeighbourState, Netlink, NewBridge, NewVxlan,
    PortChange, Veth, VethPeer, VxlanEntry, VxlanInfo, Watch,
};
use sys::network_test;
use sys::testing::{ip_link, run};

const PEER: Mac = Mac([2, 0x6d, 10, 9, 0, 66]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn device(netlink: &Netlink, local: &str) -> u32 {
    let new = NewBridge { name: "mo0", mac: None, mtu: Some(1450), vlan_filtering: false, up: true };
    netlink.create_bridge_in_group(&new, 5).unwrap();
    let master = Some(netlink.link_by_name("mo0").unwrap().unwrap().index);
    let (id, port, local) = (0x6d_0001, 4789, ip(local));
    let new = NewVxlan { name: "mx0", id, local, port, mtu: 1450, mac: None, master, group: 5 };
    netlink.create_vxlan(&new).unwrap();
    let index = netlink.link_by_name("mx0").unwrap().unwrap().index;
    netlink.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    index
}

network_test! {
    fn a_vxlan_device_is_made_as_asked_and_read_back() {
        let netlink = Netlink::open().unwrap();
        device(&netlink, "192.0.2.1");
        let link = netlink.link_by_name("mx0").unwrap().unwrap();
        let info = VxlanInfo {
            id: 0x6d_0001, local: Some(ip("192.0.2.1")), port: 4789, learning: false, proxy: true, ttl: 64,
        };
        assert_eq!((link.vxlan, link.mtu, link.group), (Some(info), 1450, 5));
        let seen = ip_link("mx0");
        let data = &seen["linkinfo"]["info_data"];
        assert_eq!((data["id"].as_u64(), data["local"].as_str()), (Some(0x6d_0001), Some("192.0.2.1")), "{seen}");
        assert_eq!((data["port"].as_u64(), data["ttl"].as_u64()), (Some(4789), Some(64)), "{seen}");
        assert_eq!((data["learning"].as_bool(), data["proxy"].as_bool()), (Some(false), Some(true)), "{seen}");
        assert_eq!(seen["master"], "mo0");
        let bridge = netlink.link_by_name("mo0").unwrap().unwrap();
        assert!(bridge.bridge.is_some_and(|bridge| !bridge.multicast_snooping) && bridge.group == 5);
    }
}

network_test! {
    fn entries_are_replaced_listed_and_deleted() {
        let netlink = Netlink::open().unwrap();
        let index = device(&netlink, "192.0.2.1");
        let entry = |host: &str| VxlanEntry { mac: PEER, host: ip(host), permanent: true };
        // Somebody's entry, as learning would make it.
        run(&format!("bridge fdb add {PEER} dev mx0 dst 192.0.2.9 self dynamic"));
        netlink.set_vxlan_entry(index, PEER, ip("192.0.2.2")).unwrap();
        assert_eq!(netlink.vxlan_entries(index).unwrap(), [entry("192.0.2.2")]);
        netlink.set_vxlan_entry(index, PEER, ip("192.0.2.3")).unwrap();
        netlink.set_vxlan_entry(index, PEER, ip("192.0.2.3")).unwrap();
        assert_eq!(netlink.vxlan_entries(index).unwrap(), [entry("192.0.2.3")]);
        netlink.delete_vxlan_entry(index, PEER, ip("192.0.2.3")).unwrap();
        assert!(netlink.delete_vxlan_entry(index, PEER, ip("192.0.2.3")).unwrap_err().is_not_found());
        let zero = Mac([0; 6]);
        for host in ["192.0.2.2", "192.0.2.3", "192.0.2.2"] {
            netlink.set_vxlan_entry(index, zero, ip(host)).unwrap();
        }
        let mut all = netlink.vxlan_entries(index).unwrap();
        all.sort();
        let receiver = |host: &str| VxlanEntry { mac: zero, host: ip(host), permanent: true };
        assert_eq!(all, [receiver("192.0.2.2"), receiver("192.0.2.3")]);
        netlink.delete_vxlan_entry(index, zero, ip("192.0.2.2")).unwrap();
        assert_eq!(netlink.vxlan_entries(index).unwrap(), [receiver("192.0.2.3")]);
    }
}

network_test! {
    fn entries_over_ipv6_and_neighbours_of_both_families() {
        let netlink = Netlink::open().unwrap();
        let index = device(&netlink, "2001:db8::1");
        netlink.set_vxlan_entry(index, PEER, ip("2001:db8::2")).unwrap();
        let entry = VxlanEntry { mac: PEER, host: ip("2001:db8::2"), permanent: true };
        assert_eq!(netlink.vxlan_entries(index).unwrap(), [entry]);
        for of in ["10.9.0.66", "fd00:9::42"] {
            netlink.set_neighbour(index, ip(of), PEER, NeighbourState::Permanent).unwrap();
        }
        let mut all = netlink.permanent_neighbours(index).unwrap();
        all.sort();
        let neighbour = |of: &str| Neighbour { ip: ip(of), mac: Some(PEER) };
        assert_eq!(all, [neighbour("10.9.0.66"), neighbour("fd00:9::42")]);
        netlink.delete_neighbour(index, ip("fd00:9::42")).unwrap();
        assert_eq!(netlink.permanent_neighbours(index).unwrap(), [neighbour("10.9.0.66")]);
    }
}

network_test! {
    fn a_port_neither_learns_nor_is_flooded_and_has_its_address() {
        let netlink = Netlink::open().unwrap();
        device(&netlink, "192.0.2.1");
        let master = Some(netlink.link_by_name("mo0").unwrap().unwrap().index);
        let peer = VethPeer { name: "peer0", mac: None, mtu: None, netns: None };
        netlink.create_veth(&Veth { name: "veth0", mac: None, mtu: None, master, up: true, peer }).unwrap();
        let port = netlink.link_by_name("veth0").unwrap().unwrap().index;
        let change = PortChange { learning: Some(false), flood: Some(false), ..PortChange::default() };
        netlink.set_bridge_port(port, &change).unwrap();
        netlink.set_forwarding_entry(port, PEER).unwrap();
        let link = netlink.link_by_name("veth0").unwrap().unwrap();
        assert!(link.port.is_some_and(|port| !port.learning && !port.flood), "{link:?}");
        let entries = netlink.forwarding_entries(port).unwrap();
        assert!(entries.contains(&ForwardingEntry { mac: PEER, fixed: true }), "{entries:?}");
    }
}

network_test! {
    fn a_watch_reports_what_others_delete() {
        let netlink = Netlink::open().unwrap();
        let index = device(&netlink, "192.0.2.1");
        netlink.set_vxlan_entry(index, PEER, ip("192.0.2.2")).unwrap();
        netlink.set_neighbour(index, ip("10.9.0.66"), PEER, NeighbourState::Permanent).unwrap();
        let watch = Watch::open().unwrap();
        assert_eq!(watch.pending().unwrap(), []);
        run(&format!("bridge fdb del {PEER} dev mx0 dst 192.0.2.2 self"));
        run("ip neigh del 10.9.0.66 dev mx0");
        let seen = watch.pending().unwrap();
        assert!(seen.contains(&Change::EntryGone { index, mac: Some(PEER) }), "{seen:?}");
        assert!(seen.contains(&Change::NeighbourGone { index, ip: Some(ip("10.9.0.66")) }), "{seen:?}");
        run("ip link del mx0");
        assert!(watch.pending().unwrap().contains(&Change::LinkGone { index }));
    }
}
