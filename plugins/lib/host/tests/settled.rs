//! Addresses that a piece waits for.

#![allow(clippy::unwrap_used)]

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use host::piece::{self, Kernel, Piece, Place, Settled};
use netlink::{Netlink, NewAddress, Veth, VethPeer};
use sys::network_test;
use sys::testing::another_network;

network_test! {
    /// Where many namespaces come and go, the kernel settles link-local addresses seconds later.
    fn an_address_that_the_kernel_is_slow_to_settle_fails_nothing_unless_duplicates_are_looked_for() {
        let pod = another_network();
        let peer = VethPeer { name: "eth0", mac: None, mtu: None, netns: Some(pod.as_fd()) };
        let veth = Veth { name: "veth0", mac: None, mtu: None, master: None, up: true, peer };
        Netlink::open().unwrap().create_veth(&veth).unwrap();
        let inside = Netlink::open_in(&pod).unwrap();
        let index = inside.link_by_name("eth0").unwrap().unwrap().index;
        // The link is down: for the kernel there is nothing to do yet.
        let net = "fe80::2/64".parse().unwrap();
        inside.add_address(&NewAddress { index, net, nodad: false }).unwrap();
        let mut kernel = Kernel::open(pod).unwrap();
        let (place, link) = (Place::Sandbox, "eth0".to_owned());
        let settled = Piece::Settled(Settled { place, link, addresses: Vec::new(), dad: false });
        let start = Instant::now();
        piece::apply(&[settled], &mut kernel).unwrap();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}
