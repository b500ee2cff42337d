//! Publications as elements; no root, no kernel.

use std::net::IpAddr;

use nft::{Data, Element, Set, Target, Verdict};

use super::elements;
use super::layout::{PUBLISHERS, V4, V6};
use crate::Owner;
use crate::ports::{Conditions, Container, Mapping, Masquerade, Publication};

const TCP: u8 = nft::Protocol::TCP;
const UDP: u8 = nft::Protocol::UDP;

fn mapping(proto: u8, address: Option<&str>, ports: (u16, u16), target: u16) -> Mapping {
    Mapping { proto, address: address.map(|address| address.parse().unwrap()), ports, target }
}

fn single(port: u16, target: u16) -> Mapping {
    mapping(TCP, None, (port, port), target)
}

fn publication(address: &str, masquerade: Masquerade, mappings: Vec<Mapping>) -> Publication {
    let owner = Owner::new("net", "c1", "eth0");
    let address: IpAddr = address.parse().unwrap();
    Publication {
        owner,
        containers: vec![Container {
            address,
            link: Some("br0".into()),
            mappings,
            masquerade,
            conditions: Conditions::default(),
        }],
        chain: None,
        chosen: Vec::new(),
        netns: None,
    }
}

fn show((set, element): &(Set<'_>, Element)) -> String {
    let types = match set.data {
        Data::Value(types) | Data::Range(types) => types,
        _ => &[],
    };
    let target = match &element.target {
        Target::Value(value) => value.show(types),
        Target::Range(first, last) => format!("{} to {}", first.show(types), last.show(types)),
        _ => "-".into(),
    };
    let comment = element.comment.as_deref().unwrap_or_default();
    format!("{} {}: {target} ({comment})", set.name, element.show(set))
}

fn shown(publication: &Publication) -> Vec<String> {
    elements::of(publication).iter().filter(|(set, _)| set.name != PUBLISHERS.name).map(show).collect()
}

/// PM-K3, PM-K5, PM-R5: a port of any address, one of one address; hairpin and localhost of the
/// container alone.
#[test]
fn ports_become_hashed_elements_with_their_owner() {
    let mappings = vec![single(8080, 80), mapping(UDP, Some("192.0.2.1"), (53, 53), 53)];
    assert_eq!(
        shown(&publication("10.1.2.3", Masquerade::Needed, mappings)),
        [
            "ports4 tcp . 8080: 10.1.2.3 . 80 (moor/net/eth0/c1)",
            "ports-at4 192.0.2.1 . udp . 53: 10.1.2.3 . 53 (moor/net/eth0/c1)",
            "hairpin4 br0 . 10.1.2.3: - (moor/net/eth0/c1)",
            "oneself4 10.1.2.3 . 10.1.2.3: - (moor/net/eth0/c1)",
            "loopback4 10.1.2.3: - (moor/net/eth0/c1)",
        ]
    );
}

/// PM-K5, PM-K6: `snat: false` and `masqAll`; IPv6 has no localhost.
#[test]
fn masquerade_is_for_nobody_for_those_who_need_it_or_for_everybody() {
    let of = |address, masquerade| shown(&publication(address, masquerade, vec![single(80, 80)]));
    assert_eq!(of("10.1.2.3", Masquerade::Nobody).len(), 1);
    assert_eq!(of("10.1.2.3", Masquerade::Everybody)[1], "everyone4 10.1.2.3: - (moor/net/eth0/c1)");
    assert_eq!(
        of("fd00::3", Masquerade::Needed),
        [
            "ports6 tcp . 80: fd00::3 . 80 (moor/net/eth0/c1)",
            "hairpin6 br0 . fd00::3: - (moor/net/eth0/c1)",
            "oneself6 fd00::3 . fd00::3: - (moor/net/eth0/c1)"
        ]
    );
}

/// PM-B3: the host's own loopback is opened only for mappings that it can reach.
#[test]
fn loopback_is_for_mappings_that_it_can_reach() {
    let by = |masquerade, address| {
        publication("10.1.2.3", masquerade, vec![mapping(TCP, address, (80, 80), 80)]).containers[0]
            .by_loopback()
    };
    assert!(by(Masquerade::Needed, None) && by(Masquerade::Everybody, Some("127.0.0.1")));
    assert!(!by(Masquerade::Needed, Some("192.0.2.1")) && !by(Masquerade::Nobody, None));
}

/// Ports that keep their numbers become one range, however they are written.
#[test]
fn adjacent_mappings_are_one_range() {
    let adjacent: Vec<_> = (20_000..40_000).rev().map(|port| single(port, port)).collect();
    let range = vec![mapping(TCP, None, (20_000, 39_999), 20_000)];
    let ports = |mappings| {
        let mut shown = shown(&publication("10.1.2.3", Masquerade::Nobody, mappings));
        shown.retain(|line| line.contains("4 tcp . "));
        shown
    };
    assert_eq!(ports(adjacent.clone()), ports(range));
    assert_eq!(ports(adjacent), ["port-ranges4 tcp . 20000 - tcp . 39999: 10.1.2.3 (moor/net/eth0/c1)"]);
    // A few ports stay single: they are hashed.
    let few: Vec<_> = (1..=15).map(|port| single(port, port)).collect();
    assert!(ports(few.clone()).iter().all(|line| line.starts_with("ports4")) && ports(few).len() == 15);
}

/// nft's language cannot shift a range: each moved port is an element.
#[test]
fn moved_ports_are_elements_of_their_own() {
    let mut two: Vec<_> = (100..200).map(|port| single(port, port)).collect();
    two.push(mapping(TCP, None, (200, 299), 201));
    let shown = shown(&publication("10.1.2.3", Masquerade::Nobody, two));
    let of = |prefix: &str| shown.iter().filter(|line| line.starts_with(prefix)).count();
    assert_eq!((of("port-ranges4"), of("ports4")), (1, 100));
    assert!(shown.contains(&"ports4 tcp . 299: 10.1.2.3 . 300 (moor/net/eth0/c1)".to_owned()));
}

/// An element is read as the mapping that it was made from.
#[test]
fn elements_are_read_back() {
    let mappings = vec![
        single(8080, 80),
        mapping(UDP, Some("192.0.2.1"), (53, 53), 54),
        mapping(TCP, Some("192.0.2.1"), (1000, 2000), 1000),
    ];
    let publication = publication("10.1.2.3", Masquerade::Nobody, mappings.clone());
    let mut read: Vec<_> = elements::of(&publication)
        .iter()
        .filter_map(|(set, element)| elements::read(set, element))
        .map(|(mapping, to)| (mapping.proto, mapping.address, mapping.ports, to.to_string()))
        .collect();
    read.sort();
    let mut meant: Vec<_> = mappings
        .iter()
        .map(|mapping| (mapping.proto, mapping.address, mapping.ports, "10.1.2.3".to_owned()))
        .collect();
    meant.sort();
    assert_eq!(read, meant);
}

#[test]
fn an_owner_element_lists_where_the_others_are() {
    let mut publication = publication("10.1.2.3", Masquerade::Needed, vec![single(80, 80)]);
    let v6 = Container { address: "fd00::3".parse().unwrap(), ..publication.containers[0].clone() };
    publication.containers.push(v6);
    let all = elements::of(&publication);
    let (_, publisher) = all.last().unwrap();
    assert_eq!(elements::count(publisher.comment.as_deref().unwrap()), Some(all.len() - 1));
    let found = elements::beside_ports(publisher);
    let beside = all.iter().filter(|(set, _)| elements::is_beside_ports(set));
    for (set, element) in beside {
        assert!(
            found.iter().any(|(other, key)| other.name == set.name && key.key == element.key),
            "{}",
            set.name
        );
    }
}

/// An attachment's elements are found after its network was renamed.
#[test]
fn an_attachment_is_the_interface_and_the_container() {
    assert_eq!(elements::attachment("moor/net/eth0/c1"), "eth0/c1");
    assert_eq!(elements::attachment("moor/renamed/eth0/c1 12"), "eth0/c1");
    assert_eq!(elements::attachment("somebody's own"), "");
    assert_ne!(elements::publisher_key("eth0/c1"), elements::publisher_key("eth1/c1"));
}

/// PM-I10: the ports are in iptables; the ledger keeps their owner and the chain.
#[test]
fn ports_of_iptables_are_in_the_ledger_only() {
    let mut publication = publication("10.1.1.2", Masquerade::Needed, vec![single(80, 80)]);
    publication.chain = Some("CNI-DN-b40d6be49a3410ab31bc2".into());
    let all = elements::of(&publication);
    assert_eq!(shown(&publication), ["iptables4 0.0.0.0 . tcp . 80: 10.1.1.2 (moor/net/eth0/c1)"]);
    let [(set, held), (_, publisher)] = all.as_slice() else { panic!("{} elements", all.len()) };
    let (read, to) = elements::read(set, held).unwrap();
    assert_eq!((read, to), (mapping(TCP, None, (80, 80), 0), "10.1.1.2".parse().unwrap()));
    let comment = publisher.comment.as_deref().unwrap();
    assert_eq!(elements::chain(comment), Some("CNI-DN-b40d6be49a3410ab31bc2"));
    assert!(elements::attachment(comment).ends_with("/c1"), "{comment}");
    // The longest names fit a comment (NFT_USERDATA_MAXLEN, less the length, the kind and a NUL).
    publication.owner = crate::Owner::new("n".repeat(200), "c".repeat(200), "e".repeat(15));
    let (_, publisher) = elements::of(&publication).pop().unwrap();
    assert!(publisher.comment.unwrap().len() <= 253);
}

/// PM-C1, unlike the reference. Ports with different targets are one run for their condition; the
/// publisher counts the elements that are found by the ports.
#[test]
fn ports_under_conditions_lead_to_the_owners_chain_first() {
    let mappings = vec![single(80, 8080), single(81, 9090), mapping(UDP, Some("192.0.2.1"), (53, 53), 53)];
    let mut publication = publication("10.1.2.3", Masquerade::Nobody, mappings);
    let without = elements::of(&publication);
    assert!(super::guard::of(&publication).is_empty());
    publication.containers[0].conditions =
        Conditions::read(&["ip saddr 10.0.0.0/8"], sys::IpFamily::V4).unwrap();
    let with = elements::of(&publication);
    let guarded: Vec<_> =
        shown(&publication).into_iter().filter(|line| line.starts_with("conditional")).collect();
    assert_eq!(
        guarded,
        [
            "conditional4 tcp . 80 - tcp . 81: - (moor/net/eth0/c1)",
            "conditional-at4 192.0.2.1 . udp . 53: - (moor/net/eth0/c1)"
        ]
    );
    assert_eq!(with.len(), without.len() + 2);
    let comment = |all: &[(Set<'_>, Element)]| all.last().and_then(|(_, last)| last.comment.clone()).unwrap();
    assert_eq!(elements::count(&comment(&with)), elements::count(&comment(&without)));
    assert!(elements::is_conditional(&comment(&with)) && !elements::is_conditional(&comment(&without)));
    assert_eq!(elements::chain(&comment(&with)), None);
    let [guard] = &super::guard::of(&publication)[..] else { panic!("one chain, of the one family") };
    let name = guard.filled().chain.name.to_owned();
    assert!(with.iter().any(|(_, element)| element.target == Target::Verdict(Verdict::Jump(name.clone()))));
    // The longest names fit a comment.
    publication.owner = crate::Owner::new("n".repeat(200), "c".repeat(200), "e".repeat(15));
    assert!(comment(&elements::of(&publication)).len() <= 253);
    // Conditions of iptables are in its own rules.
    publication.chain = Some("CNI-DN-b40d6be49a3410ab31bc2".into());
    assert!(super::guard::of(&publication).is_empty() && elements::of(&publication).len() == 3);
}

/// PM-R1: any address overlaps with every address.
#[test]
fn an_address_overlaps_with_any_address() {
    let any = single(80, 80);
    let one = mapping(TCP, Some("192.0.2.1"), (1, 100), 1);
    let other = mapping(TCP, Some("192.0.2.2"), (80, 80), 80);
    assert!(any.overlaps(&one) && one.overlaps(&any) && any.overlaps(&other));
    assert!(!one.overlaps(&other) && !any.overlaps(&mapping(UDP, None, (80, 80), 80)));
    assert!(!single(80, 80).overlaps(&single(81, 80)));
}

/// Each family has names of its own, and no two sets have the same name.
#[test]
fn sets_have_names_of_their_own() {
    let mut names: Vec<_> = super::layout::sets().iter().map(|(set, _)| set.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), super::layout::sets().len());
    assert_ne!(V4.ports.name, V6.ports.name);
}
