//! Containers on other hosts.

use std::collections::BTreeSet;

use cluster::local::{RemoteAttachment, RemoteNames};

use super::*;
use crate::record::Stamp;

fn host(silent: bool, containers: &[(&[&str], &[&str])]) -> RemoteNames {
    let attachments = containers.iter().map(|(names, ips)| RemoteAttachment {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
    });
    RemoteNames { v: 1, host: "node".into(), silent, attachments: attachments.collect() }
}

fn put(zone: &mut Zone, id: &str, names: RemoteNames) -> Result<(), TooMany> {
    let slot = zone.slot("n1").unwrap();
    zone.put_host(slot, id, Stamp::of_test(1), names)
}

fn addresses(zone: &Zone, name: &str, kind: u16) -> Vec<String> {
    let mut data = ask(zone, "n1", "10.0.0.3", name, kind).unwrap().data;
    data.sort();
    data
}

/// O-040, O-041
#[test]
fn containers_of_all_hosts_answer_together_and_the_first_varies() {
    let mut zone = plain();
    put(&mut zone, "a", host(false, &[(&["app", "www"], &["10.0.1.2", "fd00::1:2"])])).unwrap();
    put(&mut zone, "b", host(false, &[(&["other", "www"], &["10.0.2.2"])])).unwrap();
    let mut first = BTreeSet::new();
    for _ in 0..8 {
        let data = ask(&zone, "n1", "10.0.0.3", "www", kind::A).unwrap().data;
        first.insert(data[0].clone());
        assert_eq!(data.len(), 4, "{data:?}");
    }
    assert_eq!(first.len(), 4);
    for name in ["app", "App.foo.io", "app.n1"] {
        assert_eq!(ask(&zone, "n1", "10.0.0.3", name, kind::A), found(&["10.0.1.2"]), "{name}");
    }
    assert_eq!(addresses(&zone, "www", kind::AAAA), ["fd00::1:2", "fd00::2"]);
    let pointer = |name: &str| ask(&zone, "n1", "10.0.0.3", name, kind::PTR);
    assert_eq!(pointer("2.1.0.10.in-addr.arpa"), found(&["app.foo.io"]));
    assert_eq!(pointer("3.1.0.10.in-addr.arpa"), no_such_name());
}

/// O-042: in each family for itself.
#[test]
fn silent_hosts_are_left_out_while_another_address_is_left() {
    let mut zone = plain();
    let far = |silent| host(silent, &[(&["far", "www", "web"], &["10.0.1.2", "fd00::1:2"])]);
    put(&mut zone, "a", far(true)).unwrap();
    put(&mut zone, "b", host(true, &[(&["far"], &["10.0.2.2"])])).unwrap();
    assert_eq!(addresses(&zone, "www", kind::A), ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(addresses(&zone, "far", kind::A), ["10.0.1.2", "10.0.2.2"], "nothing else is left");
    assert_eq!(addresses(&zone, "far", kind::AAAA), ["fd00::1:2"]);
    put(&mut zone, "b", host(false, &[(&["far"], &["10.0.2.2"])])).unwrap();
    assert_eq!(addresses(&zone, "far", kind::A), ["10.0.2.2"]);
    assert_eq!(addresses(&zone, "far", kind::AAAA), ["fd00::1:2"]);
    put(&mut zone, "a", far(false)).unwrap();
    assert_eq!(addresses(&zone, "far", kind::A), ["10.0.1.2", "10.0.2.2"]);
    assert_eq!(addresses(&zone, "web", kind::A), ["10.0.0.2", "10.0.1.2"]);
}

#[test]
fn a_host_that_goes_takes_its_names_and_no_others() {
    let mut zone = plain();
    let slot = zone.slot("n1").unwrap();
    // One address on two hosts, while a container moves; and one that a local container has, too.
    let moving: &[(&[&str], &[&str])] = &[(&["app", "www"], &["10.0.1.2", "10.0.0.2"])];
    put(&mut zone, "a", host(true, moving)).unwrap();
    put(&mut zone, "b", host(false, moving)).unwrap();
    put(&mut zone, "b", host(false, moving)).unwrap();
    zone.remove_host(slot, "b");
    assert_eq!(addresses(&zone, "app", kind::A), ["10.0.0.2", "10.0.1.2"]);
    assert_eq!(addresses(&zone, "www", kind::A), ["10.0.0.2", "10.0.0.3"]);
    let pointer = |zone: &Zone| ask(zone, "n1", "10.0.0.3", "2.1.0.10.in-addr.arpa", kind::PTR);
    assert_eq!(pointer(&zone), found(&["app.foo.io"]));
    zone.remove_host(slot, "a");
    zone.remove_host(slot, "never");
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "app.foo.io", kind::A), no_such_name());
    assert_eq!(pointer(&zone), no_such_name());
    assert_eq!(addresses(&zone, "www", kind::A), ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(zone.held, Zone::default().held);
}

/// O-044. A remote container is no client that could learn more here.
#[test]
fn other_networks_never_see_them() {
    let mut zone = two();
    put(&mut zone, "a", host(false, &[(&["far"], &["10.0.1.2"])])).unwrap();
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "far", kind::A), found(&["10.0.1.2"]));
    assert_eq!(ask(&zone, "n2", "10.2.0.3", "far", kind::A), None, "on n2 alone");
    assert_eq!(ask(&zone, "n2", "10.2.0.3", "2.1.0.10.in-addr.arpa", kind::PTR), None);
    assert_eq!(ask(&zone, "n2", "10.2.0.2", "far", kind::A), found(&["10.0.1.2"]), "on both");
    assert_eq!(ask(&zone, "n1", "10.0.1.2", "two", kind::A), None, "not registered here");
    assert_eq!(zone.attachments(), 4, "they keep no responder alive");
    zone.remove_network("n1");
    assert_eq!(zone.held, Zone::default().held);
}

#[test]
fn more_than_there_may_be_are_left_out_and_the_others_answer() {
    let mut zone = plain();
    let slot = zone.slot("n1").unwrap();
    let many = |count: usize| {
        let attachment =
            RemoteAttachment { names: vec!["many".into()], ips: vec!["10.0.9.9".parse().unwrap()] };
        RemoteNames { attachments: vec![attachment; count], ..host(false, &[]) }
    };
    put(&mut zone, "a", host(false, &[(&["far"], &["10.0.1.2"])])).unwrap();
    put(&mut zone, "b", many(19_999)).unwrap();
    assert_eq!(put(&mut zone, "c", host(false, &[(&["one"], &["10.0.1.3"])])), Err(TooMany));
    assert_eq!(put(&mut zone, "b", many(20_000)), Err(TooMany));
    assert_eq!(addresses(&zone, "far", kind::A), ["10.0.1.2"]);
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "many.foo.io", kind::A), no_such_name());
    let names: Vec<String> = (0..64).map(|n| format!("{n:0>253}")).collect();
    let long = RemoteAttachment { names, ips: vec!["10.0.9.9".parse().unwrap()] };
    let long = RemoteNames { attachments: vec![long; 2_000], ..host(false, &[]) };
    assert_eq!(put(&mut zone, "d", long), Err(TooMany), "by memory");
    put(&mut zone, "b", many(1)).unwrap();
    put(&mut zone, "c", host(false, &[(&["one"], &["10.0.1.3"])])).unwrap();
    assert_eq!(addresses(&zone, "one", kind::A), ["10.0.1.3"]);
    assert_eq!(zone.hosts(slot).count(), 4);
}
