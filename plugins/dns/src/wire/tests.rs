//! The codec, tested against itself, its invariants, and another implementation.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns as TheirEdns, Message, MessageType, OpCode, Query as TheirQuery};
use hickory_proto::rr::{Name as TheirName, RData, RecordType};
use proptest::prelude::*;

use super::*;

/// A query as another implementation encodes it.
fn question(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.authentic_data = true;
    message.add_query(TheirQuery::query(TheirName::from_ascii(name).unwrap(), kind));
    if let Some(size) = edns {
        let mut options = TheirEdns::new();
        options.set_max_payload(size);
        message.edns = Some(options);
    }
    message.to_vec().unwrap()
}

fn query(packet: &[u8]) -> Query<'_> {
    match read(packet) {
        Received::Query(query) => query,
        _ => panic!("not a question: {packet:?}"),
    }
}

fn code(packet: &[u8]) -> Option<Rcode> {
    match read(packet) {
        Received::Rejected(code, _) => Some(code),
        _ => None,
    }
}

#[test]
fn queries_of_another_implementation_are_parsed() {
    let packet = question("WeB.Example.ORG.", RecordType::AAAA, Some(4096));
    let query = query(&packet);
    assert_eq!(query.name.text(), b"web.example.org");
    assert_eq!((query.kind, query.id()), (kind::AAAA, 7));
    assert_eq!(query.edns, Some(Edns { size: 4096, dnssec: false }));
    assert_eq!(query.udp_limit(), UDP_MAX);
    assert_eq!(query.name.before(b"example.org"), Some(&b"web"[..]));
    assert_eq!(query.name.before(b"web.example.org"), Some(&b""[..]));
    assert_eq!(query.name.before(b"xample.org"), None, "not at a dot");
}

/// D-027
#[test]
fn the_udp_limit_is_512_or_that_of_edns_up_to_1232() {
    for (edns, limit) in [(None, 512), (Some(0), 512), (Some(600), 600), (Some(65535), 1232)] {
        assert_eq!(query(&question("a.", RecordType::A, edns)).udp_limit(), limit);
    }
}

/// D-028.
#[test]
fn non_queries_are_ignored_and_bad_queries_rejected_with_a_code() {
    let good = question("a.", RecordType::A, Some(1232));
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    assert!(matches!(read(&with(2, 0x81)), Received::NotQuery), "a response");
    assert!(matches!(read(&good[..11]), Received::NotQuery), "no header");
    assert_eq!(code(&with(2, 0x11)), Some(Rcode::NotImp), "STATUS");
    assert_eq!(code(&with(2, 0x29)), Some(Rcode::NotImp), "UPDATE");
    assert_eq!(code(&with(5, 0)), Some(Rcode::FormErr), "no question");
    assert_eq!(code(&with(5, 2)), Some(Rcode::FormErr), "two questions");
    assert_eq!(code(&with(7, 1)), Some(Rcode::FormErr), "an answer in a question");
    assert_eq!(code(&with(18, 3)), Some(Rcode::Refused), "class CH");
    assert_eq!(code(&with(16, 252)), Some(Rcode::Refused), "AXFR");
    assert_eq!(code(&with(16, 251)), Some(Rcode::Refused), "IXFR");
    assert_eq!(code(&with(25, 1)), Some(Rcode::BadVers), "EDNS version 1");
    assert_eq!(code(&with(12, 0xc0)), Some(Rcode::FormErr), "a pointer in the question");
    for length in 12..good.len() {
        assert_eq!(code(&good[..length]), Some(Rcode::FormErr), "cut off after {length}");
    }
}

/// D-028: another implementation reads BADVERS.
#[test]
fn an_error_response_repeats_the_question_only() {
    let mut packet = question("a.b.", RecordType::A, Some(1232));
    packet[27] = 1;
    let mut buffer = [0xff; 64];
    let Received::Rejected(code, understood) = read(&packet) else { panic!("EDNS version 1 is accepted") };
    let length = error_response(understood, code, &mut buffer);
    let message = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(u16::from(message.metadata.response_code), 16);
    assert_eq!((message.queries.len(), message.answers.len()), (1, 0));
    assert!(!message.metadata.authentic_data);
}

/// D-028, D-030, D-031: another implementation reads header and records.
#[test]
fn another_implementation_parses_our_answers() {
    let packet = question("WeB.foo.io.", RecordType::A, Some(1232));
    let query = query(&packet);
    let mut buffer = [0; UDP_MAX];
    let mut answer = Answer::new(&mut buffer, UDP_MAX, &query, true);
    answer.authoritative();
    assert!(answer.address(30, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
    assert!(answer.address(30, "fd00::1".parse().unwrap()));
    assert!(answer.pointer(30, "db", "foo.io"));
    assert!(answer.soa(30, 4, false));
    let length = answer.finish(Rcode::NoError);
    let message = Message::from_vec(&buffer[..length]).unwrap();
    let head = &message.metadata;
    assert!(head.authoritative && head.recursion_available && head.recursion_desired && !head.truncation);
    assert!(!head.authentic_data && !head.checking_disabled);
    assert_eq!(message.queries[0].name().to_ascii(), "WeB.foo.io.", "the case of the question is kept");
    let records: Vec<_> = message
        .answers
        .iter()
        .map(|record| (record.name.to_ascii(), record.ttl, record.data.to_string()))
        .collect();
    let of = |data: &str| ("WeB.foo.io.".to_owned(), 30, data.to_owned());
    assert_eq!(records, [of("10.0.0.1"), of("fd00::1"), of("db.foo.io.")]);
    let authority = &message.authorities[0];
    assert_eq!(authority.name.to_ascii(), "foo.io.");
    let RData::SOA(soa) = &authority.data else { panic!("not an SOA record") };
    assert_eq!((soa.minimum, soa.rname.to_ascii().as_str()), (30, "hostmaster.foo.io."));
    assert_eq!(message.edns.map(|edns| edns.max_payload()), Some(1232));
}

#[test]
fn an_overlong_reverse_name_omits_its_suffix() {
    let packet = question("1.0.0.10.in-addr.arpa.", RecordType::PTR, None);
    let query = query(&packet);
    let host = vec!["h".repeat(60); 4].join(".");
    for (suffix, whole) in [("foo.io", true), ("a.longer.suffix.org", false)] {
        let mut buffer = [0; UDP_PLAIN];
        let mut answer = Answer::new(&mut buffer, UDP_PLAIN, &query, false);
        assert!(answer.pointer(0, &host, suffix));
        let length = answer.finish(Rcode::NoError);
        let message = Message::from_vec(&buffer[..length]).unwrap();
        let name = if whole { format!("{host}.{suffix}.") } else { format!("{host}.") };
        assert_eq!(message.answers[0].data.to_string(), name);
    }
}

proptest! {
    /// D-029: random bytes.
    #[test]
    fn random_packets_break_no_invariant(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz::query(&packet);
    }

    /// D-029: queries with some bytes changed.
    #[test]
    fn mutated_queries_break_no_invariant(
        name in "([a-zA-Z0-9][a-zA-Z0-9_-]{0,20}\\.){1,6}",
        edns in prop::option::of(any::<u16>()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut packet = question(&name, RecordType::A, edns);
        fuzz::query(&packet);
        for (at, value) in changes {
            let at = at.index(packet.len());
            packet[at] = value;
            fuzz::query(&packet);
        }
        fuzz::query(&packet[..cut.index(packet.len())]);
    }

    /// D-029
    #[test]
    fn names_of_another_implementation_are_parsed(
        name in "([a-zA-Z0-9][a-zA-Z0-9_-]{0,62}\\.){1,3}",
        kind in any::<u16>(),
    ) {
        let kind = if matches!(kind, 251 | 252) { 1 } else { kind };
        let packet = question(&name, RecordType::from(kind), None);
        let query = query(&packet);
        prop_assert_eq!(std::str::from_utf8(query.name.text()).unwrap(), name.trim_end_matches('.').to_lowercase());
        prop_assert_eq!(query.kind, kind);
        prop_assert_eq!(&packet[HEADER..], query.question());
    }
}
