//! Links, as `ip` sees them.

#![allow(clippy::unwrap_used)]

use std::os::fd::AsFd;

use netlink::{LinkChange, Mac, Netlink, NewBridge, PortChange, Veth, VethPeer};
use sys::testing::{another_network, ip_link, look, no_link, run};
use sys::{NetNs, network_test};

const HOST_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const POD_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn bridge(netlink: &Netlink, name: &str) -> u32 {
    netlink
        .create_bridge(&NewBridge { name, mac: None, mtu: None, vlan_filtering: false, up: true })
        .unwrap();
    netlink.link_by_name(name).unwrap().unwrap().index
}

fn veth<'a>(name: &'a str, peer: &'a str, netns: Option<&'a NetNs>) -> Veth<'a> {
    let netns = netns.map(AsFd::as_fd);
    let peer = VethPeer { name: peer, mac: None, mtu: None, netns };
    Veth { name, mac: None, mtu: None, master: None, up: false, peer }
}

network_test! {
    fn a_veth_is_created_in_place_with_all_attributes() {
        let pod = another_network();
        let netlink = Netlink::open().unwrap();
        let master = bridge(&netlink, "br0");
        let asked = veth("veth0", "eth0", Some(&pod));
        let peer = VethPeer { mac: Some(POD_MAC), mtu: Some(1400), ..asked.peer };
        let asked = Veth { mac: Some(HOST_MAC), mtu: Some(1400), master: Some(master), up: true, peer, ..asked };
        netlink.create_veth(&asked).unwrap();

        let near = ip_link("veth0");
        assert_eq!(near["master"], "br0");
        assert_eq!(near["mtu"], 1400);
        assert_eq!(near["address"], HOST_MAC.to_string());
        assert!(near["flags"].as_array().unwrap().contains(&"UP".into()), "{near}");
        assert_eq!(near["linkinfo"]["info_kind"], "veth");
        let far = pod.enter(|| ip_link("eth0")).unwrap();
        assert_eq!(far["mtu"], 1400);
        assert_eq!(far["address"], POD_MAC.to_string());
        assert!(!far["flags"].as_array().unwrap().contains(&"UP".into()), "{far}");
        assert!(no_link("eth0"));

        let near = netlink.link_by_name("veth0").unwrap().unwrap();
        let far = Netlink::open_in(&pod).unwrap().link_by_name("eth0").unwrap().unwrap();
        assert_eq!((near.peer_index, far.peer_index), (Some(far.index), Some(near.index)));
        assert!(near.peer_netns_id.is_some());
        assert_eq!((near.master, near.mac, near.mtu, near.up()), (Some(master), Some(HOST_MAC), 1400, true));
        assert_eq!((far.mac, far.mtu, far.up(), far.kind.as_deref()), (Some(POD_MAC), 1400, false, Some("veth")));
        assert!(near.port.is_some_and(|port| !port.hairpin && !port.isolated));
    }
}

network_test! {
    fn both_ends_may_be_in_one_namespace() {
        let netlink = Netlink::open().unwrap();
        let asked = veth("veth0", "br0.100", None);
        netlink.create_veth(&Veth { up: true, ..asked }).unwrap();
        assert_eq!(ip_link("veth0")["link"], "br0.100");
        assert_eq!(ip_link("br0.100")["link"], "veth0");
        let near = netlink.link_by_name("veth0").unwrap().unwrap();
        let far = netlink.link_by_name("br0.100").unwrap().unwrap();
        assert_eq!((near.peer_index, near.peer_netns_id), (Some(far.index), None));
        assert!(near.up() && !far.up());
    }
}

network_test! {
    fn a_name_taken_on_either_side_is_an_error_and_creates_nothing() {
        let pod = another_network();
        let netlink = Netlink::open().unwrap();
        netlink.create_veth(&veth("veth0", "eth0", Some(&pod))).unwrap();
        for (near, far) in [("veth0", "eth1"), ("veth1", "eth0")] {
            let error = netlink.create_veth(&veth(near, far, Some(&pod))).unwrap_err();
            assert!(error.is_exists(), "{error:#}");
            let text = format!("{error:#}");
            assert!(text.starts_with(&format!("create veth \"{near}\" with peer \"{far}\": ")), "{text}");
        }
        assert!(no_link("veth1"));
        assert!(pod.enter(|| no_link("eth1")).unwrap());
    }
}

network_test! {
    fn an_existing_bridge_is_distinguished_from_other_failures() {
        let netlink = Netlink::open().unwrap();
        let asked = NewBridge { name: "br0", mac: Some(HOST_MAC), mtu: Some(1400), vlan_filtering: false, up: true };
        netlink.create_bridge(&asked).unwrap();
        let link = ip_link("br0");
        assert_eq!(link["linkinfo"]["info_kind"], "bridge");
        assert_eq!(link["mtu"], 1400);
        assert_eq!(link["address"], HOST_MAC.to_string());
        assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
        let link = netlink.link_by_name("br0").unwrap().unwrap();
        assert_eq!(link.bridge.map(|bridge| bridge.vlan_filtering), Some(false));

        assert!(netlink.create_bridge(&asked).unwrap_err().is_exists());
        // Any link may have the name.
        assert!(netlink.create_bridge(&NewBridge { name: "lo", ..asked }).unwrap_err().is_exists());
        for name in ["", "a-name-of-17-byte", "a/b", "nul\0"] {
            let error = netlink.create_bridge(&NewBridge { name, ..asked }).unwrap_err();
            assert!(!error.is_exists(), "{error:#}");
            assert!(!error.to_string().contains('\0'));
        }
        assert_eq!(look("ip -j link show type bridge").as_array().unwrap().len(), 1);
    }
}

network_test! {
    /// Either the kernel filters, and `ip` shows it, or it refuses and nothing is created.
    fn vlan_filtering_is_enabled_or_refused() {
        let netlink = Netlink::open().unwrap();
        let asked = NewBridge { name: "br0", mac: None, mtu: None, vlan_filtering: true, up: true };
        match netlink.create_bridge(&asked) {
            Ok(()) => {
                assert_eq!(ip_link("br0")["linkinfo"]["info_data"]["vlan_filtering"], 1);
                let link = netlink.link_by_name("br0").unwrap().unwrap();
                assert_eq!(link.bridge.map(|bridge| bridge.vlan_filtering), Some(true));
            }
            Err(error) => {
                assert!(error.is_not_supported(), "{error:#}");
                assert!(no_link("br0"));
            }
        }
    }
}

network_test! {
    fn a_group_of_links_is_deleted_with_the_peers_and_nothing_else() {
        let pod = another_network();
        let netlink = Netlink::open().unwrap();
        for (near, far, group) in [("veth0", "eth0", 1 << 29), ("veth1", "eth1", 1 << 29), ("veth2", "eth2", 7)] {
            netlink.create_veth(&veth(near, far, Some(&pod))).unwrap();
            let index = netlink.link_by_name(near).unwrap().unwrap().index;
            netlink.set_link(index, &LinkChange { group: Some(group), ..LinkChange::default() }).unwrap();
            assert_eq!(netlink.link_by_index(index).unwrap().unwrap().group, group);
        }
        assert_eq!(ip_link("veth0")["group"], "536870912");
        assert!(netlink.delete_link_group(0).is_err());
        netlink.delete_link_group(1 << 29).unwrap();
        assert!(no_link("veth0") && no_link("veth1") && !no_link("veth2"));
        assert!(pod.enter(|| no_link("eth0") && no_link("eth1") && !no_link("eth2")).unwrap());
        assert!(netlink.delete_link_group(1 << 29).unwrap_err().is_not_found());
    }
}

network_test! {
    fn a_link_changes_only_as_requested() {
        let netlink = Netlink::open().unwrap();
        let master = bridge(&netlink, "br0");
        netlink.create_veth(&veth("veth0", "veth1", None)).unwrap();
        let index = netlink.link_by_name("veth0").unwrap().unwrap().index;
        let nothing = LinkChange::default();
        netlink.set_link(index, &LinkChange { up: Some(true), ..nothing }).unwrap();
        let all = LinkChange {
            mac: Some(HOST_MAC), mtu: Some(1300), alias: Some("moor net/pod"), promiscuous: Some(true),
            all_multicast: Some(true), queue_length: Some(50),
            master: Some(master), ..nothing
        };
        netlink.set_link(index, &all).unwrap();
        let link = ip_link("veth0");
        assert_eq!((&link["address"], &link["mtu"]), (&HOST_MAC.to_string().into(), &1300.into()));
        assert_eq!((&link["ifalias"], &link["master"]), (&"moor net/pod".into(), &"br0".into()));
        let flags = link["flags"].as_array().unwrap();
        assert!(flags.contains(&"UP".into()) && flags.contains(&"PROMISC".into()), "{link}");
        let read = netlink.link_by_index(index).unwrap().unwrap();
        assert_eq!((read.alias.as_deref(), read.promiscuous()), (Some("moor net/pod"), true));
        assert_eq!((read.all_multicast(), u64::from(read.queue_length)), (true, link["txqlen"].as_u64().unwrap()));
        assert_eq!(read.queue_length, 50);
        // A bridge also makes its ports promiscuous.
        assert_eq!(u64::from(read.promiscuity), link["promiscuity"].as_u64().unwrap());

        let back = LinkChange { up: Some(false), alias: Some(""), promiscuous: Some(false), master: Some(0), ..nothing };
        netlink.set_link(index, &back).unwrap();
        netlink.set_link(index, &LinkChange { name: Some("renamed0"), ..nothing }).unwrap();
        let link = ip_link("renamed0");
        assert_eq!((&link["ifalias"], &link["master"]), (&().into(), &().into()));
        assert_eq!((&link["address"], &link["mtu"]), (&HOST_MAC.to_string().into(), &1300.into()));
        let flags = link["flags"].as_array().unwrap();
        assert!(!flags.contains(&"UP".into()) && !flags.contains(&"PROMISC".into()), "{link}");
    }
}

network_test! {
    /// The kernel acknowledges RTM_SETLINK for this and ignores it, so `ip` must confirm it.
    fn hairpin_and_isolation_are_really_set() {
        let netlink = Netlink::open().unwrap();
        let master = bridge(&netlink, "br0");
        let asked = veth("veth0", "veth1", None);
        netlink.create_veth(&Veth { master: Some(master), ..asked }).unwrap();
        let index = netlink.link_by_name("veth0").unwrap().unwrap().index;
        for (hairpin, isolated) in [(true, false), (true, true), (false, false), (false, true)] {
            let change = PortChange { hairpin: Some(hairpin), isolated: Some(isolated), ..PortChange::default() };
            netlink.set_bridge_port(index, &change).unwrap();
            let seen = ip_link("veth0")["linkinfo"]["info_slave_data"].take();
            assert_eq!((&seen["hairpin"], &seen["isolated"]), (&hairpin.into(), &isolated.into()));
            let port = netlink.link_by_index(index).unwrap().unwrap().port.unwrap();
            assert_eq!((port.hairpin, port.isolated), (hairpin, isolated));
        }
        netlink.set_bridge_port(index, &PortChange { hairpin: Some(true), ..PortChange::default() }).unwrap();
        let port = netlink.link_by_index(index).unwrap().unwrap().port.unwrap();
        assert_eq!((port.hairpin, port.isolated), (true, true));
        // Not a port.
        assert!(netlink.set_bridge_port(master, &PortChange { hairpin: Some(true), ..PortChange::default() }).is_err());
    }
}

network_test! {
    fn deleting_a_veth_deletes_its_peer_and_a_second_delete_is_not_found() {
        let pod = another_network();
        let netlink = Netlink::open().unwrap();
        netlink.create_veth(&veth("veth0", "eth0", Some(&pod))).unwrap();
        let index = netlink.link_by_name("veth0").unwrap().unwrap().index;
        netlink.delete_link(index).unwrap();
        assert!(no_link("veth0"));
        assert!(pod.enter(|| no_link("eth0")).unwrap());
        let error = netlink.delete_link(index).unwrap_err();
        assert!(error.is_not_found(), "{error:#}");
        assert_eq!(netlink.link_by_name("veth0").unwrap(), None);
        assert_eq!(netlink.link_by_index(index).unwrap(), None);
    }
}

network_test! {
    fn an_impossible_name_finds_no_link() {
        let netlink = Netlink::open().unwrap();
        for name in ["", "a-name-of-17-byte", "nul\0", "a/b", ".", "%d", "ü", "\n"] {
            assert_eq!(netlink.link_by_name(name).unwrap(), None, "{name:?}");
        }
        assert_eq!(netlink.link_by_index(0).unwrap(), None);
        assert_eq!(netlink.link_by_index(u32::MAX).unwrap_or(None), None);
    }
}

network_test! {
    /// 400 links do not fit one datagram.
    fn all_links_are_listed_however_many() {
        let netlink = Netlink::open().unwrap();
        for n in 0..200 {
            netlink.create_veth(&veth(&format!("near{n}"), &format!("far{n}"), None)).unwrap();
        }
        let mut ours: Vec<_> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
        let seen = look("ip -j link show");
        let mut theirs: Vec<_> =
            seen.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect();
        ours.sort();
        theirs.sort();
        assert!(ours.len() >= 401);
        assert_eq!(ours, theirs);
    }
}

network_test! {
    fn a_refusal_contains_the_kernels_message() {
        let netlink = Netlink::open().unwrap();
        netlink.create_veth(&veth("veth0", "veth1", None)).unwrap();
        let index = netlink.link_by_name("veth0").unwrap().unwrap().index;
        let error = netlink.set_link(index, &LinkChange { mtu: Some(100_000), ..LinkChange::default() }).unwrap_err();
        assert_eq!(error.errno(), Some(22));
        assert_eq!(
            format!("{error:#}"),
            "change link \"veth0\": mtu greater than device maximum: Invalid argument (os error 22)"
        );
    }
}

network_test! {
    /// An answer must not be lost or mixed up when links change during a listing.
    fn listing_works_while_links_come_and_go() {
        let netlink = Netlink::open().unwrap();
        run("ip link set lo up");
        for n in 0..60 {
            netlink.create_veth(&veth(&format!("near{n}"), &format!("far{n}"), None)).unwrap();
        }
        let here = NetNs::current().unwrap();
        std::thread::scope(|scope| {
            let churn = scope.spawn(|| {
                let netlink = Netlink::open_in(&here).unwrap();
                for _ in 0..200 {
                    netlink.create_veth(&veth("churn0", "churn1", None)).unwrap();
                    let index = netlink.link_by_name("churn0").unwrap().unwrap().index;
                    netlink.delete_link(index).unwrap();
                }
            });
            let mut listed = 0;
            while !churn.is_finished() {
                match netlink.links() {
                    Ok(links) => {
                        assert_eq!(links.iter().filter(|link| link.name.starts_with("near")).count(), 60);
                        listed += 1;
                    }
                    // Every attempt was disturbed, and the error reports it.
                    Err(error) => assert_eq!(error.errno(), Some(4), "{error:#}"),
                }
            }
            churn.join().unwrap();
            assert_eq!(netlink.link_by_name("near7").unwrap().unwrap().name, "near7");
            assert!(listed > 0);
        });
    }
}
