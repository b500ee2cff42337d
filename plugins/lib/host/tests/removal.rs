//! What a DEL may take: the objects of its own attachment, and those of a renamed network once that
//! attachment is not alive.

#![allow(clippy::unwrap_used)]

use std::os::fd::{AsFd, AsRawFd};

use host::{Owner, Removal};
use netlink::{LinkChange, Netlink, NewBridge, Veth, VethPeer};
use sys::testing::{another_network, run};
use sys::{NetNs, network_test};

fn owner(network: &str, container_id: &str) -> Owner {
    Owner::new(network, container_id, "eth0")
}

/// A pod on a bridge; its host veth has that label, if any.
fn attached(pod: &NetNs, label: Option<&str>) -> Netlink {
    let host = Netlink::open().unwrap();
    host.create_bridge(&NewBridge { name: "br0", mac: None, mtu: None, vlan_filtering: false, up: true })
        .unwrap();
    let master = host.link_by_name("br0").unwrap().map(|link| link.index);
    let peer = VethPeer { name: "eth0", mac: None, mtu: None, netns: Some(pod.as_fd()) };
    host.create_veth(&Veth { name: "veth0", mac: None, mtu: None, master, up: true, peer }).unwrap();
    let index = host.link_by_name("veth0").unwrap().unwrap().index;
    host.set_link(index, &LinkChange { alias: label, ..LinkChange::default() }).unwrap();
    host
}

fn takes(pod: Option<&NetNs>, of: &Owner, remembered: &[&str], label: &str) -> bool {
    let path = pod.map(|pod| format!("/proc/self/fd/{}", pod.as_fd().as_raw_fd())).unwrap_or_default();
    let remembered = remembered.iter().map(|name| (*name).to_owned()).collect();
    Removal::new(of.clone(), &path, remembered).takes(label).unwrap()
}

network_test! {
    fn another_networks_things_stay_while_its_attachment_is_alive() {
        let (one, two) = (owner("one", "c1"), owner("two", "c1"));
        let pod = another_network();
        attached(&pod, Some(&one.label()));
        for path in [Some(&pod), None] {
            assert!(takes(path, &one, &[], &one.label()));
            assert!(!takes(path, &two, &[], &one.label()));
            assert!(takes(path, &two, &[], &two.label()));
            // Left over from a network that had this name, since what lives there is another's.
            assert!(takes(path, &two, &[], &owner("three", "c1").label()));
            // A renamed network, as the runtime remembers.
            assert!(takes(path, &two, &["br0", "veth0"], &one.label()));
            assert!(!takes(path, &two, &["br0"], &one.label()));
            assert!(!takes(path, &owner("one", "c2"), &["veth0"], &one.label()));
        }
        run("ip link del veth0");
        for path in [Some(&pod), None] {
            assert!(takes(path, &two, &[], &one.label()));
        }
    }
}

network_test! {
    fn an_interface_that_nobody_has_labelled_keeps_every_networks_things() {
        let (one, two) = (owner("one", "c1"), owner("two", "c1"));
        let pod = another_network();
        attached(&pod, None);
        assert!(!takes(Some(&pod), &two, &[], &one.label()));
        assert!(takes(Some(&pod), &two, &["veth0"], &one.label()));
        assert!(takes(None, &two, &[], &one.label()));
    }
}

network_test! {
    fn another_containers_interface_at_the_path_keeps_nothing() {
        let pod = another_network();
        attached(&pod, Some(&owner("one", "c2").label()));
        assert!(takes(Some(&pod), &owner("two", "c1"), &[], &owner("one", "c1").label()));
    }
}

network_test! {
    /// More than one request deletes.
    fn gc_deletes_stale_pairs_of_its_network_only_and_changes_no_other() {
        let host = Netlink::open().unwrap();
        let create = |name: &str, alias: Option<&str>, group: u32| {
            let peer = VethPeer { name: &format!("{name}p"), mac: None, mtu: None, netns: None };
            host.create_veth(&Veth { name, mac: None, mtu: None, master: None, up: false, peer }).unwrap();
            let index = host.link_by_name(name).unwrap().unwrap().index;
            host.set_link(index, &LinkChange { alias, group: Some(group), ..LinkChange::default() }).unwrap();
        };
        for nth in 0..70 {
            create(&format!("stale{nth}"), Some(&owner("one", &format!("c{nth}")).label()), nth % 3);
        }
        create("valid", Some(&owner("one", "valid").label()), 2);
        create("other", Some(&owner("two", "c1").label()), 0);
        create("nobodys", None, 1);
        host::piece::delete_veths_but(&host, "one", &[owner("one", "valid")]).unwrap();
        let left = host.links().unwrap().into_iter().filter(|link| !link.loopback() && !link.name.ends_with('p'));
        let mut left: Vec<(String, u32)> = left.map(|link| (link.name, link.group)).collect();
        left.sort();
        assert_eq!(left, [("nobodys".into(), 1), ("other".into(), 0), ("valid".into(), 2)]);
    }
}
