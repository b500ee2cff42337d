//! Each drift that the comparison of record and kernel finds, alone.

use ipnetwork::IpNetwork;
use netlink::{Link, Route};
use runtime::{Attachment, Conflist, Record};
use serde_json::json;

use super::compare::{Seen, drifts};
use super::expected::Expected;

fn expected() -> Expected {
    let list = r#"{"cniVersion":"1.0.0","name":"front","plugins":[{"type":"bridge","bridge":"br0","isGateway":true,
        "ipam":{"type":"host-local","subnet":"10.90.1.0/24"}}]}"#;
    let list = Conflist::from_bytes(list.as_bytes()).unwrap();
    let result = json!({
        "interfaces": [{"name": "br0"}, {"name": "veth1"},
            {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": "/run/netns/c1"}],
        "ips": [{"address": "10.90.1.2/24", "gateway": "10.90.1.1", "interface": 2}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.90.1.1"}]});
    let record = Record {
        network: "front".into(),
        attachment: Attachment::new("c1", "/run/netns/c1".to_owned(), "eth0"),
        config: list.bytes.clone(),
        result: Some(result),
    };
    Expected::of(&record, Some(&list), "/var/lib/cni".as_ref())
}

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn link(name: &str) -> Link {
    Link {
        index: 2,
        name: name.into(),
        mac: "02:00:00:00:00:01".parse().ok(),
        permanent_mac: None,
        mtu: 1500,
        flags: 1,
        promiscuity: 0,
        queue_length: 1000,
        oper_state: netlink::OperState::Up,
        master: None,
        kind: Some("veth".into()),
        peer_index: None,
        peer_netns_id: None,
        alias: None,
        group: 0,
        makes_link_local: true,
        port: None,
        bridge: None,
        macvlan: None,
        ipvlan: None,
        vlan: None,
        tun: None,
        vrf_table: None,
        vxlan: None,
    }
}

fn sane() -> Seen {
    Seen {
        link: Some(link("eth0")),
        addresses: vec![net("10.90.1.2/24")],
        routes: Some(vec![Route { gateway: "10.90.1.1".parse().ok(), ..Route::new(net("0.0.0.0/0")) }]),
        host_link: Some(link("veth1")),
        master: Some("br0".into()),
        bridge: Some((true, vec![net("10.90.1.1/24")])),
        leases: vec![("/var/lib/cni/networks/front/10.90.1.2".into(), Some("c1\r\neth0".into()))],
        forwarding: [Some(true), Some(false)],
        twice: Vec::new(),
    }
}

#[test]
fn what_is_as_recorded_has_no_drift() {
    assert_eq!(drifts(&expected(), &sane()), []);
    assert_eq!(expected().leases, sane().leases.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>());
}

type Change = fn(&mut Seen);

/// T-050
#[test]
fn each_drift_is_named_with_what_is_expected_and_what_is_there() {
    let cases: [(&str, &str, &str, Change); 16] = [
        ("link", "eth0", "none", |seen| seen.link = None),
        ("link", "eth0", "eth9", |seen| seen.link.as_mut().unwrap().name = "eth9".into()),
        ("link state", "up", "down", |seen| seen.link.as_mut().unwrap().flags = 0),
        ("mac", "02:00:00:00:00:01", "none", |seen| seen.link.as_mut().unwrap().mac = None),
        ("mtu", "1500", "1400", |seen| seen.link.as_mut().unwrap().mtu = 1400),
        ("address", "10.90.1.2/24", "none", |seen| seen.addresses.clear()),
        ("address", "10.90.1.2/24", "10.90.1.2/16", |seen| seen.addresses = vec![net("10.90.1.2/16")]),
        ("route", "0.0.0.0/0 via 10.90.1.1", "none", |seen| seen.routes = Some(Vec::new())),
        ("route", "0.0.0.0/0 via 10.90.1.1", "without a gateway", |seen| {
            seen.routes.as_mut().unwrap()[0].gateway = None;
        }),
        ("host link", "veth1 up", "down", |seen| seen.host_link.as_mut().unwrap().flags = 0),
        ("bridge", "br0", "none", |seen| seen.master = None),
        ("bridge", "br0 present", "absent", |seen| seen.bridge = None),
        ("gateway", "10.90.1.1/24 on br0", "none", |seen| seen.bridge = Some((true, Vec::new()))),
        ("forwarding", "IPv4 on", "off", |seen| seen.forwarding[0] = Some(false)),
        ("lease", "c1 eth0 in /var/lib/cni/networks/front/10.90.1.2", "c2 eth0", |seen| {
            seen.leases[0].1 = Some("c2\r\neth0".into());
        }),
        ("address", "10.90.1.2 of one container", "also that of c2 eth0", |seen| {
            seen.twice = vec![("10.90.1.2".into(), "c2 eth0".into())];
        }),
    ];
    for (what, expects, actual, change) in cases {
        let mut seen = sane();
        change(&mut seen);
        let found = drifts(&expected(), &seen);
        let [drift] = &found[..] else { panic!("{what}: {found:?}") };
        assert_eq!((drift.what, drift.expected.as_str(), drift.actual.as_str()), (what, expects, actual));
    }
}

#[test]
fn a_lease_of_an_old_release_is_no_drift() {
    let mut seen = sane();
    seen.leases[0].1 = Some("c1\n".into());
    assert_eq!(drifts(&expected(), &seen), []);
    seen.leases[0].1 = None;
    assert_eq!(drifts(&expected(), &seen).len(), 1);
}
