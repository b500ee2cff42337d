//! Links stacked on another, also in namespaces that cannot be listed.

#![allow(clippy::unwrap_used)]

use std::os::fd::AsFd;

use netlink::{Macvlan, MacvlanMode, Netlink, Stacked};
use sys::testing::{another_network, run};
use sys::{NetNs, network_test};

network_test! {
    fn a_link_is_built_upon_by_links_in_any_namespace() {
        run("ip link add wan0 type veth peer name far0");
        let netlink = Netlink::open().unwrap();
        let index = netlink.link_by_name("wan0").unwrap().unwrap().index;
        let before = netlink.links().unwrap().len();
        assert!(!netlink.is_built_upon(index).unwrap());
        let pod = another_network();
        let inside = Netlink::open_in(&pod).unwrap();
        let parent_netns_id = Some(inside.make_netns_id(NetNs::current().unwrap().as_fd()).unwrap());
        let link = Stacked { name: "eth0", parent: index, parent_netns_id, mac: None, mtu: None, index: 0, group: 7 };
        for mode in [MacvlanMode::Bridge, MacvlanMode::Private, MacvlanMode::Passthru] {
            inside.create_macvlan(&link, &Macvlan { mode, bc_queue_len: None, sources: &[] }).unwrap();
            assert!(netlink.is_built_upon(index).unwrap(), "{mode:?}");
            let made = inside.link_by_name("eth0").unwrap().unwrap();
            assert_eq!(made.group, 7);
            inside.delete_link(made.index).unwrap();
            assert!(!netlink.is_built_upon(index).unwrap(), "{mode:?}");
        }
        // The probe leaves nothing and changes nothing.
        assert_eq!(netlink.links().unwrap().len(), before);
        let link = netlink.link_by_name("wan0").unwrap().unwrap();
        assert_eq!((link.promiscuity, link.up()), (0, false));
    }
}

network_test! {
    fn a_port_and_a_missing_link_are_reported_as_built_upon() {
        run("ip link add wan0 type veth peer name far0");
        run("ip link add br0 type bridge");
        run("ip link set wan0 master br0");
        let netlink = Netlink::open().unwrap();
        let index = netlink.link_by_name("wan0").unwrap().unwrap().index;
        assert!(netlink.is_built_upon(index).unwrap());
        netlink.delete_link(index).unwrap();
        assert!(netlink.is_built_upon(index).unwrap());
    }
}
