//! The index as records are added and removed.

use super::*;

/// D-004, D-005, D-006.
#[test]
fn removing_or_replacing_an_attachment_keeps_the_others() {
    let mut zone = plain();
    let slot = zone.slot("n1").unwrap();
    zone.put_attachment(slot, attachment("n1", "c", &["web"], &["10.0.0.9"], 3));
    let mut second = attachment("n1", "c", &["web"], &["10.0.0.8"], 4);
    second.key.ifname = "eth1".into();
    zone.put_attachment(slot, second);
    zone.put_attachment(slot, attachment("n1", "c", &["web"], &["10.0.0.7"], 3));
    let web = |zone: &Zone| {
        let mut data = ask(zone, "n1", "10.0.0.3", "web", kind::A).unwrap().data;
        data.sort();
        data
    };
    assert_eq!(web(&zone), ["10.0.0.2", "10.0.0.7", "10.0.0.8"]);
    zone.remove_attachment(slot, &Key { container: "c".into(), ifname: "eth0".into() });
    assert_eq!(web(&zone), ["10.0.0.2", "10.0.0.8"]);
    zone.remove_attachment(slot, &Key { container: "a".into(), ifname: "eth0".into() });
    assert_eq!(web(&zone), ["10.0.0.8"]);
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "2.0.0.10.in-addr.arpa", kind::PTR), no_such_name());
    assert_eq!(zone.attachments(), 2);
    zone.remove_network("n1");
    assert_eq!((zone.attachments(), zone.slot("n1")), (0, None));
    assert!(zone.containers.is_empty(), "no leftovers");
}

/// A network that is read again replaces its former state. Its index stays, since sockets refer
/// to it.
#[test]
fn a_network_that_is_read_again_keeps_its_index_and_recorded_attachments() {
    let mut zone = Zone::default();
    zone.replace_network(network("n1", &[]), vec![attachment("n1", "c1", &["web"], &["10.0.0.2"], 1)]);
    let n2 = || network("n2", &["10.0.0.0/8"]);
    let later = attachment("n2", "c3", &["web", "db"], &["10.0.0.2"], 3);
    zone.replace_network(n2(), vec![later.clone(), attachment("n2", "c2", &["old"], &["10.0.0.2"], 2)]);
    let slot = zone.slot("n2").unwrap();
    let owner = |zone: &Zone| {
        zone.network(slot).unwrap().owner("10.0.0.2".parse().unwrap()).unwrap().primary().to_owned()
    };
    assert_eq!(owner(&zone), "web", "the latest, in whatever order they are read");
    zone.remove_network("n1");
    zone.replace_network(n2(), vec![attachment("n2", "c4", &["new"], &["10.0.0.4"], 4), later.clone()]);
    assert_eq!(zone.slot("n2"), Some(slot));
    let held = zone.network(slot).unwrap();
    let mut keys: Vec<&str> = held.attachments().map(|(key, _)| key.container.as_str()).collect();
    keys.sort_unstable();
    assert_eq!((keys, owner(&zone).as_str(), zone.attachments()), (vec!["c3", "c4"], "web", 2));
}
