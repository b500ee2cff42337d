//! Answers to queries.

mod held;
mod remote;
mod sizes;

use std::net::IpAddr;

use super::*;
use crate::record::{self, CrossNetwork};
use crate::wire::{Answer, HEADER, Query, Rcode, Received, TCP_MAX, UDP_PLAIN, flag, kind, read, u16_at};

fn network(name: &str, subnets: &[&str]) -> record::Network {
    record::Network {
        name: name.into(),
        listen: Vec::new(),
        subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
        ingress: Vec::new(),
        domain: Some("foo.io".into()),
        ..record::tests::network()
    }
}

fn attachment(
    network: &str,
    container: &str,
    names: &[&str],
    ips: &[&str],
    order: u64,
) -> record::Attachment {
    record::Attachment {
        v: record::VERSION,
        network: network.into(),
        key: Key { container: container.into(), ifname: "eth0".into() },
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        upstreams: None,
        ingress: None,
        netns: None,
        namespace: None,
        order,
    }
}

fn zone(networks: Vec<record::Network>, attachments: Vec<record::Attachment>) -> Zone {
    let mut zone = Zone::default();
    for network in networks {
        zone.put_network(network);
    }
    for record in attachments {
        let slot = zone.slot(&record.network).unwrap();
        zone.put_attachment(slot, record);
    }
    zone
}

/// Two networks without containers.
pub(crate) fn two_networks() -> Zone {
    zone(vec![network("one", &[]), network("two", &[])], Vec::new())
}

/// One network with both families, and two containers that share an alias.
fn plain() -> Zone {
    zone(
        vec![network("n1", &["10.0.0.0/16", "fd00::/64"])],
        vec![
            attachment("n1", "a", &["web", "www"], &["10.0.0.2", "fd00::2"], 1),
            attachment("n1", "b", &["db", "www"], &["10.0.0.3"], 2),
        ],
    )
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&kind::IN.to_be_bytes());
    packet
}

fn query(packet: &[u8]) -> Query<'_> {
    match read(packet) {
        Received::Query(query) => query,
        _ => panic!("not a question"),
    }
}

/// The answer to a query: `None` if it is forwarded; else the code, whether it is
/// authoritative, the data of the answer section, the number of authority records.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    code: u16,
    own: bool,
    data: Vec<String>,
    authorities: u16,
}

fn ask(zone: &Zone, at: &str, source: &str, name: &str, kind: u16) -> Option<Got> {
    let slot = zone.slot(at).unwrap();
    let querier = zone.querier(&[slot], source.parse().unwrap()).unwrap();
    let packet = question(name, kind);
    let mut buffer = [0; 1232];
    match respond(&querier, &query(&packet), &mut buffer, UDP_PLAIN, true) {
        Outcome::Forward(_) => None,
        Outcome::Answer(length) => Some(got(&buffer[..length], packet.len())),
    }
}

/// Reads what [`Answer`] writes.
fn got(message: &[u8], mut at: usize) -> Got {
    let flags = u16_at(message, 2).unwrap();
    let mut data = Vec::new();
    for _ in 0..u16_at(message, 6).unwrap() {
        let length = usize::from(u16_at(message, at + 10).unwrap());
        let bytes = &message[at + 12..at + 12 + length];
        data.push(match u16_at(message, at + 2).unwrap() {
            kind::A => IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap()).to_string(),
            kind::AAAA => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_string(),
            kind::PTR => String::from_utf8_lossy(crate::wire::Name::read(bytes).unwrap().0.text()).into(),
            other => other.to_string(),
        });
        at += 12 + length;
    }
    Got {
        code: flags & flag::RCODE,
        own: flags & flag::AA != 0,
        data,
        authorities: u16_at(message, 8).unwrap(),
    }
}

fn found(data: &[&str]) -> Option<Got> {
    Some(Got {
        code: 0,
        own: true,
        data: data.iter().map(|text| (*text).to_owned()).collect(),
        authorities: 0,
    })
}

fn nothing() -> Option<Got> {
    Some(Got { code: 0, own: true, data: Vec::new(), authorities: 1 })
}

fn no_such_name() -> Option<Got> {
    Some(Got { code: Rcode::NxDomain as u16, ..nothing().unwrap() })
}

/// D-020, D-023.
#[test]
fn a_name_is_found_bare_in_its_domain_and_in_its_network_in_any_case() {
    let zone = plain();
    for name in ["web", "WEB", "web.foo.io", "Web.Foo.IO", "web.n1", "wEb.N1"] {
        assert_eq!(ask(&zone, "n1", "10.0.0.3", name, kind::A), found(&["10.0.0.2"]), "{name}");
        assert_eq!(ask(&zone, "n1", "10.0.0.3", name, kind::AAAA), found(&["fd00::2"]), "{name}");
    }
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "db", kind::AAAA), nothing());
}

/// D-021.
#[test]
fn known_names_are_authoritative_for_every_type() {
    let zone = plain();
    for kind in [15, 16, 33, 65, kind::SOA, kind::PTR] {
        assert_eq!(ask(&zone, "n1", "10.0.0.3", "web", kind), nothing(), "{kind}");
    }
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "web", kind::ANY), found(&["10.0.0.2", "fd00::2"]));
}

/// D-022.
#[test]
fn unknown_names_in_the_domain_are_not_forwarded() {
    let zone = plain();
    for name in ["none.foo.io", "web.web.foo.io"] {
        assert_eq!(ask(&zone, "n1", "10.0.0.3", name, kind::A), no_such_name(), "{name}");
    }
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "foo.io", kind::A), nothing());
    for name in ["none", "example.org", "xfoo.io", "web.n2", "", "n1", "none.n1", "web.web.n1"] {
        assert_eq!(ask(&zone, "n1", "10.0.0.3", name, kind::A), None, "{name}");
    }
}

/// D-022: where nothing may be forwarded, we are authoritative below the network's name.
#[test]
fn an_internal_network_is_authoritative_below_its_name() {
    let mut internal = network("n1", &["10.0.0.0/16"]);
    internal.internal = true;
    let zone = zone(vec![internal], vec![attachment("n1", "a", &["web"], &["10.0.0.2"], 1)]);
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "web.n1", kind::A), found(&["10.0.0.2"]));
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "none.n1", kind::A), no_such_name());
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "n1", kind::A), nothing());
}

/// D-105
#[test]
fn special_use_names_are_not_forwarded() {
    let zone = plain();
    let ask = |name: &str, kind| ask(&zone, "n1", "10.0.0.3", name, kind);
    for name in ["localhost", "a.LocalHost"] {
        assert_eq!(ask(name, kind::A), found(&["127.0.0.1"]), "{name}");
        assert_eq!(ask(name, kind::AAAA), found(&["::1"]), "{name}");
        assert_eq!(ask(name, 15), nothing(), "{name}");
    }
    let v6 = |last: char| format!("{last}.{}ip6.arpa", "0.".repeat(31));
    for name in ["1.0.0.127.in-addr.arpa", &v6('1')] {
        assert_eq!(ask(name, kind::PTR), found(&["localhost"]), "{name}");
    }
    for name in [
        "invalid",
        "x.invalid",
        "abc.onion",
        "2.0.0.127.in-addr.arpa",
        "1.2.3.0.in-addr.arpa",
        "255.255.255.255.in-addr.arpa",
        "1.1.254.169.in-addr.arpa",
        "x.1.0.0.127.in-addr.arpa",
        &v6('0'),
    ] {
        assert_eq!(ask(name, kind::PTR), no_such_name(), "{name}");
    }
    assert_eq!(ask("127.in-addr.arpa", kind::PTR), nothing());
    for name in
        ["xlocalhost", "localhost.org", "www.test", "1.1.168.192.in-addr.arpa", "1.0.128.in-addr.arpa"]
    {
        assert_eq!(ask(name, kind::PTR), None, "{name}");
    }
}

/// A dot within a label does not separate labels.
#[test]
fn a_label_that_contains_a_dot_matches_no_name() {
    let zone = plain();
    let mut packet = question("web-foo.io", kind::A);
    packet[HEADER + 4] = b'.';
    let querier = zone.querier(&[zone.slot("n1").unwrap()], "10.0.0.3".parse().unwrap()).unwrap();
    let mut buffer = [0; 512];
    assert!(matches!(respond(&querier, &query(&packet), &mut buffer, 512, true), Outcome::Forward(_)));
}

/// D-003, D-030.
#[test]
fn a_shared_alias_rotates_over_all_addresses_without_duplicates() {
    let mut zone = plain();
    let slot = zone.slot("n1").unwrap();
    zone.put_attachment(slot, attachment("n1", "c", &["third", "www"], &["10.0.0.3"], 3));
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let mut data = ask(&zone, "n1", "10.0.0.3", "www", kind::A).unwrap().data;
        first.insert(data[0].clone());
        data.sort();
        assert_eq!(data, ["10.0.0.2", "10.0.0.3"]);
    }
    assert_eq!(first.len(), 2);
}

/// D-024.
#[test]
fn reverse_names_in_the_subnets_are_authoritative_and_consistent() {
    let zone = plain();
    let ptr = |name: &str| ask(&zone, "n1", "10.0.0.3", name, kind::PTR);
    assert_eq!(ptr("2.0.0.10.in-addr.arpa"), found(&["web.foo.io"]));
    let v6 = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    assert_eq!(ptr(&v6), found(&["web.foo.io"]));
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "web.foo.io", kind::A), found(&["10.0.0.2"]));
    assert_eq!(ptr("9.0.0.10.in-addr.arpa"), no_such_name());
    assert_eq!(ptr("1.2.0.0.10.in-addr.arpa"), no_such_name());
    assert_eq!(ptr("0.0.10.in-addr.arpa"), nothing());
    for name in
        ["10.in-addr.arpa", "1.2.1.10.in-addr.arpa", "256.0.0.10.in-addr.arpa", "02.0.0.10.in-addr.arpa"]
    {
        assert_eq!(ptr(name), None, "{name}");
    }
}

/// Two networks. The container `both` is on both, in this order.
fn two() -> Zone {
    let mut other = network("n2", &["10.2.0.0/16"]);
    other.domain = None;
    zone(
        vec![network("n1", &["10.0.0.0/16"]), other],
        vec![
            attachment("n1", "both", &["both"], &["10.0.0.2"], 1),
            attachment("n2", "both", &["both"], &["10.2.0.2"], 2),
            attachment("n1", "one", &["one", "same"], &["10.0.0.3"], 3),
            attachment("n2", "two", &["two", "same"], &["10.2.0.3"], 4),
        ],
    )
}

/// D-025, D-026.
#[test]
fn the_first_network_of_a_container_that_has_the_name_answers() {
    let zone = two();
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "two", kind::A), found(&["10.2.0.3"]));
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "two.n2", kind::A), found(&["10.2.0.3"]));
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "same", kind::A), found(&["10.0.0.3"]));
    assert_eq!(
        ask(&zone, "n2", "10.2.0.2", "same", kind::A),
        found(&["10.2.0.3"]),
        "the queried network is first"
    );
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "same.n2", kind::A), found(&["10.2.0.3"]));
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "two", kind::A), None, "on n1 alone");
    assert_eq!(ask(&zone, "n1", "10.0.0.77", "two", kind::A), None, "not registered");
    assert_eq!(ask(&zone, "n1", "10.0.0.77", "one", kind::A), found(&["10.0.0.3"]));
}

#[test]
fn cross_network_union_and_none_are_honoured() {
    let mut zone = two();
    let mut record = network("n1", &["10.0.0.0/16"]);
    record.cross_network = CrossNetwork::Union;
    zone.put_network(record.clone());
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "same", kind::A), found(&["10.0.0.3", "10.2.0.3"]));
    record.cross_network = CrossNetwork::None;
    zone.put_network(record);
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "same", kind::A), found(&["10.0.0.3"]));
    assert_eq!(ask(&zone, "n1", "10.0.0.2", "two", kind::A), None);
}

/// D-045: refused, so that stub resolvers try their next server.
#[test]
fn an_internal_network_forwards_nothing() {
    let mut zone = plain();
    let mut record = network("n1", &["10.0.0.0/16"]);
    record.internal = true;
    record.upstreams = Some(vec!["192.0.2.1:53".parse().unwrap()]);
    zone.put_network(record);
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "none", kind::A), no_such_name());
    let refused = Got { code: Rcode::Refused as u16, own: false, data: Vec::new(), authorities: 0 };
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "example.org", kind::A), Some(refused));
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "web", kind::A), found(&["10.0.0.2"]));
}

#[test]
fn bare_names_are_not_forwarded_if_so_configured() {
    let mut zone = plain();
    let mut record = network("n1", &["10.0.0.0/16"]);
    record.forward_single_label = false;
    zone.put_network(record);
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "none", kind::A), no_such_name());
    assert_eq!(ask(&zone, "n1", "10.0.0.3", "example.org", kind::A), None);
}

/// The container's servers, else the network's, else the host's.
#[test]
fn the_most_specific_servers_are_used() {
    let mut zone = plain();
    let slot = zone.slot("n1").unwrap();
    let servers = |zone: &Zone| {
        let querier = zone.querier(&[slot], "10.0.0.3".parse().unwrap()).unwrap();
        querier.servers().map(|servers| servers[0].to_string())
    };
    assert_eq!(servers(&zone), None);
    let mut record = network("n1", &["10.0.0.0/16"]);
    record.upstreams = Some(vec!["192.0.2.1:53".parse().unwrap()]);
    zone.put_network(record);
    assert_eq!(servers(&zone).as_deref(), Some("192.0.2.1:53"));
    let mut own = attachment("n1", "b", &["db"], &["10.0.0.3"], 2);
    own.upstreams = Some(vec!["192.0.2.2:53".parse().unwrap()]);
    zone.put_attachment(slot, own);
    assert_eq!(servers(&zone).as_deref(), Some("192.0.2.2:53"));
}
