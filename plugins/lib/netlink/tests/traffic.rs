//! Traffic control: what is created is described the same, also to `tc`.

#![allow(clippy::unwrap_used)]

use netlink::{
    Classes, Discipline, FairQueue, Filter, Handle, Key, LinkChange, Netlink, RateClass, Rule, TokenBucket,
};
use sys::network_test;
use sys::testing::run;

const OURS: Handle = Handle::discipline(0x6d6f);

/// A netlink socket, and a veth that is up.
fn link() -> (Netlink, u32) {
    run("ip link add v0 up type veth peer name v1");
    let netlink = Netlink::open().unwrap();
    let index = netlink.link_by_name("v0").unwrap().unwrap().index;
    (netlink, index)
}

network_test! {
    fn a_token_bucket_is_described_as_created() {
        let (netlink, index) = link();
        assert_eq!(netlink.qdisc(index, Handle::INGRESS).unwrap(), None);
        assert!(netlink.qdisc(index, Handle::ROOT).unwrap().is_none_or(|found| !found.handle.is_configured()));
        // 8 Mbit/s; 100 Gbit/s; and 4 GB at 8 kbit/s, which the kernel describes modulo 2^32.
        for (rate, ticks, text) in [
            (1_000_000, 1_562_500, "rate 8Mbit burst 100000b"),
            (12_500_000_000, 781_250, "rate 100Gbit"),
            (1_000_000, 78_125_000, "rate 8Mbit burst 5000000b"),
            (1_000, 7 << 32, "rate 8Kbit"),
        ] {
            let bucket = TokenBucket { rate, ticks, limit: 125_000, longest: None };
            netlink.create_qdisc(index, Handle::ROOT, OURS, &Discipline::TokenBucket(bucket)).unwrap();
            let found = netlink.qdisc(index, Handle::ROOT).unwrap().unwrap();
            assert_eq!((found.handle, found.index), (OURS, index));
            let Discipline::TokenBucket(read) = found.discipline else { panic!("{found:?}") };
            assert_eq!((read.rate, read.limit), (rate, 125_000));
            assert!(bucket.has_content_of(&read), "{} for {ticks}", read.ticks);
            let shown = run("tc qdisc show dev v0 root");
            assert!(shown.contains(text), "{shown}");
            netlink.delete_qdisc(index, Handle::ROOT).unwrap();
        }
        netlink.delete_qdisc(index, Handle::ROOT).unwrap();
        netlink.delete_qdisc(index, Handle::INGRESS).unwrap();
    }
}

network_test! {
    fn classes_filters_and_queues_are_described_as_created() {
        let (netlink, index) = link();
        let classes = Discipline::Classes(Classes { default: 1, direct: 1000 });
        netlink.create_qdisc(index, Handle::ROOT, OURS, &classes).unwrap();
        assert_eq!(netlink.class(index, OURS.class(1)).unwrap(), None);
        let class = RateClass { rate: 12_500_000_000, ticks: 781_250, quantum: 15_000 };
        netlink.create_class(index, OURS.class(1), &class).unwrap();
        let queue = Discipline::Queue(125_000);
        netlink.create_qdisc(index, OURS.class(1), Handle::NONE, &queue).unwrap();
        let key = Key { offset: 12, mask: 0xffff_ff00, value: 0x0a00_0100 };
        let rule = Rule { keys: vec![key], class: OURS, redirect: None };
        let filter = Filter { priority: 1, protocol: 0x0800, handle: Handle::NONE, rule: Some(rule) };
        netlink.create_filter(index, OURS, &filter).unwrap();
        assert_eq!(netlink.qdisc(index, Handle::ROOT).unwrap().unwrap().discipline, classes);
        assert_eq!(netlink.class(index, OURS.class(1)).unwrap(), Some(class));
        assert_eq!(netlink.qdisc(index, OURS.class(1)).unwrap().unwrap().discipline, queue);
        let found = netlink.filters(index, OURS).unwrap();
        assert_eq!(found, [Filter { handle: found[0].handle, ..filter }]);
        let shown = run("tc filter show dev v0");
        assert!(shown.contains("match 0a000100/ffffff00 at 12") && shown.contains("*flowid 6d6f:"), "{shown}");
        netlink.delete_filter(index, OURS, &found[0]).unwrap();
        netlink.delete_filter(index, OURS, &found[0]).unwrap();
        assert_eq!(netlink.filters(index, OURS).unwrap(), []);
    }
}

network_test! {
    fn arriving_packets_are_redirected() {
        let (netlink, index) = link();
        netlink.create_ifb("ifb9", 1400).unwrap();
        assert!(netlink.create_ifb("ifb9", 1400).unwrap_err().is_exists());
        let ifb = netlink.link_by_name("ifb9").unwrap().unwrap();
        assert_eq!((ifb.kind.as_deref(), ifb.mtu, ifb.up()), (Some("ifb"), 1400, false));
        netlink.set_link(ifb.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        assert_eq!(netlink.filters(index, Handle::ARRIVING).unwrap(), []);
        for place in [Discipline::Ingress, Discipline::Clsact] {
            netlink.create_qdisc(index, Handle::INGRESS, Handle::discipline(0xffff), &place).unwrap();
            let rule = Rule {
                keys: vec![Key { offset: 0, mask: 0, value: 0 }],
                class: Handle(0x10001),
                redirect: Some(ifb.index),
            };
            let filter = Filter { priority: 1, protocol: 3, handle: Handle::NONE, rule: Some(rule) };
            netlink.create_filter(index, Handle::ARRIVING, &filter).unwrap();
            let found = netlink.filters(index, Handle::ARRIVING).unwrap();
            assert_eq!(found, [Filter { handle: found[0].handle, ..filter }]);
            let shown = run("tc filter show dev v0 ingress");
            assert!(shown.contains("Egress Redirect to device ifb9"), "{shown}");
            assert_eq!(netlink.qdisc(index, Handle::INGRESS).unwrap().unwrap().discipline, place);
            netlink.delete_qdisc(index, Handle::INGRESS).unwrap();
        }
    }
}

network_test! {
    fn a_probe_finds_kinds_and_creates_nothing() {
        let (netlink, _) = link();
        let before = run("tc qdisc show");
        assert!(netlink.has_discipline("tbf").unwrap() && netlink.has_discipline("htb").unwrap());
        assert!(!netlink.has_discipline("nonesuch").unwrap());
        let fair = netlink.has_discipline("fq_codel").unwrap();
        assert_eq!(run("tc qdisc show"), before);
        if fair {
            let index = netlink.link_by_name("v0").unwrap().unwrap().index;
            let queue = Discipline::FairQueue(FairQueue { target_us: 20_000, quantum: 300 });
            netlink.create_qdisc(index, Handle::ROOT, OURS, &queue).unwrap();
            let Discipline::FairQueue(read) = netlink.qdisc(index, Handle::ROOT).unwrap().unwrap().discipline
            else { panic!("no fair queue") };
            assert!(read.target_us.abs_diff(20_000) < 10 && read.quantum == 300, "{read:?}");
        }
    }
}
