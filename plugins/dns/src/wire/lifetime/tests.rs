//! Lifetimes, of messages that another implementation writes.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn address(owner: &str, ttl: u32) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A::new(192, 0, 2, 1)))
}

fn alias(owner: &str, target: &str, ttl: u32) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

fn authority(owner: &str, ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(name("ns.a.test."), name("root.a.test."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name(owner), ttl, RData::SOA(soa))
}

/// An answer to a query for the address of `www.a.test`.
fn message(
    code: ResponseCode,
    answers: &[Record],
    authorities: &[Record],
    additionals: &[Record],
) -> Message {
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.metadata.response_code = code;
    message.add_query(Query::query(name("Www.A.test."), RecordType::A));
    message.answers = answers.to_vec();
    message.authorities = authorities.to_vec();
    message.additionals = additionals.to_vec();
    message
}

fn seconds(message: &Message) -> Option<u32> {
    Lifetime::read(&message.to_vec().unwrap(), false).map(|lifetime| lifetime.seconds)
}

fn found(answers: &[Record]) -> Option<u32> {
    seconds(&message(ResponseCode::NoError, answers, &[], &[]))
}

/// D-111: the least TTL of all records, with a bound.
#[test]
fn an_answer_lives_as_long_as_its_shortest_record() {
    let www = "www.a.test.";
    assert_eq!(found(&[address(www, 60)]), Some(60));
    assert_eq!(found(&[address(www, 60), address(www, 7)]), Some(7));
    assert_eq!(found(&[address(www, 86400)]), Some(POSITIVE_MAX));
    assert_eq!(found(&[address(www, 0)]), None);
    assert_eq!(found(&[address(www, 1 << 31)]), None, "RFC 2181: as 0");
    let chain = [alias(www, "b.test.", 50), alias("b.test.", "c.test.", 9), address("c.test.", 60)];
    assert_eq!(found(&chain), Some(9));
    let servers = [Record::from_rdata(name("a.test."), 5, RData::NS(NS(name("ns.a.test."))))];
    let with_others =
        |ttl| message(ResponseCode::NoError, &[address(www, 60)], &servers, &[address("ns.a.test.", ttl)]);
    assert_eq!(seconds(&with_others(3)), Some(3), "no record is given out past its time");
    assert_eq!(seconds(&with_others(0)), None);
}

/// D-113: RFC 2308.
#[test]
fn an_absence_lives_as_long_as_its_zone_allows() {
    let www = "www.a.test.";
    for (code, answers) in [
        (ResponseCode::NXDomain, vec![]),
        (ResponseCode::NoError, vec![]),
        (ResponseCode::NXDomain, vec![alias(www, "b.a.test.", 100)]),
        (ResponseCode::NoError, vec![alias(www, "b.a.test.", 100)]),
    ] {
        let with = |authorities: &[Record]| seconds(&message(code, &answers, authorities, &[]));
        assert_eq!(with(&[]), None, "{code}: without an SOA record");
        assert_eq!(with(&[authority("a.test.", 60, 30)]), Some(30), "{code}");
        assert_eq!(with(&[authority("a.test.", 20, 30)]), Some(20), "{code}");
        assert_eq!(with(&[authority("a.test.", 60, 0)]), None, "{code}");
        assert_eq!(with(&[authority("c.test.", 60, 30)]), None, "{code}: of another zone");
        assert_eq!(with(&[authority("w.a.test.", 60, 30)]), None, "{code}: of another zone");
        assert_eq!(with(&[authority(".", 60, 30)]), Some(30), "{code}: of the root");
    }
    let long = message(ResponseCode::NXDomain, &[], &[authority("a.test.", 90_000, 80_000)], &[]);
    assert_eq!(seconds(&long), Some(NEGATIVE_MAX));
    let servers = [Record::from_rdata(name("a.test."), 5, RData::NS(NS(name("ns.a.test."))))];
    assert_eq!(seconds(&message(ResponseCode::NoError, &[], &servers, &[])), None, "a referral");
}

/// D-114
#[test]
fn other_answers_are_not_kept() {
    let www = "www.a.test.";
    let soa = [authority("a.test.", 60, 30)];
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::FormErr, ResponseCode::NotImp] {
        assert_eq!(seconds(&message(code, &[address(www, 60)], &soa, &[])), None, "{code}");
    }
    assert_eq!(seconds(&message(ResponseCode::NXDomain, &[address(www, 60)], &soa, &[])), None, "both");
    let mut cut = message(ResponseCode::NoError, &[address(www, 60)], &[], &[]);
    cut.metadata.truncation = true;
    assert_eq!(seconds(&cut), None, "truncated");
    for strange in [
        vec![address("x.test.", 60)],
        vec![address("x.test.", 60), address(www, 60)],
        vec![address(www, 60), address("x.test.", 60)],
        vec![alias("x.test.", www, 60), address(www, 60)],
        vec![address("b.test.", 60), alias(www, "b.test.", 60)],
    ] {
        assert_eq!(found(&strange), None, "not a chain: {strange:?}");
    }
    let whole = message(ResponseCode::NoError, &[address(www, 60)], &[], &[]).to_vec().unwrap();
    for length in 0..whole.len() {
        assert_eq!(Lifetime::read(&whole[..length], false), None, "{length} bytes");
    }
    assert_eq!(Lifetime::read(&[&whole[..], &[0]].concat(), false), None, "bytes after the last record");
    // The class of the record is CH.
    let mut chaos = whole.clone();
    let at = chaos.len() - 11;
    chaos[at] = 3;
    assert_eq!(Lifetime::read(&chaos, false), None);
}

/// D-112: without EDNS no client gets an OPT record.
#[test]
fn options_are_kept_for_clients_that_use_them() {
    let mut message = message(ResponseCode::NoError, &[address("www.a.test.", 60)], &[], &[]);
    message.edns = Some(Edns::new());
    let bytes = message.to_vec().unwrap();
    assert_eq!(Lifetime::read(&bytes, false), None);
    let lifetime = Lifetime::read(&bytes, true).unwrap();
    assert_eq!((lifetime.seconds, lifetime.ttls.len()), (60, 1), "an OPT record has no TTL");
    message.metadata.response_code = ResponseCode::BADVERS;
    assert_eq!(Lifetime::read(&message.to_vec().unwrap(), true), None, "an extended code");
}

#[test]
fn names_end_whatever_their_pointers() {
    let mut bytes = vec![0; HEADER];
    bytes.extend([1, b'A', 0, 1, b'b', 0xc0, 12, 0xc0, 19, 0xc0, 2, 0xc0, 15]);
    let read = |at| Labels::read(&bytes, at).map(|name| name.bytes[..name.length].to_vec());
    assert_eq!(read(12), Some(vec![1, b'a', 0]));
    assert_eq!(read(15), Some(vec![1, b'b', 1, b'a', 0]));
    assert_eq!(read(19), None, "to itself");
    assert_eq!(read(21), None, "into the header");
    assert_eq!(read(23), Some(vec![1, b'b', 1, b'a', 0]));
    assert_eq!(read(25), None, "past the end");
}

proptest! {
    /// D-114: whatever the TTLs, another implementation finds the same least one.
    #[test]
    fn the_least_ttl_is_that_of_another_implementation(
        chain in prop::collection::vec(1..100_000u32, 0..5),
        addresses in prop::collection::vec(1..100_000u32, 1..5),
        others in prop::collection::vec(1..100_000u32, 0..3),
    ) {
        let owner = |nth: usize| if nth == 0 { "www.a.test.".to_owned() } else { format!("n{nth}.b.test.") };
        let mut answers: Vec<Record> = chain.iter().enumerate()
            .map(|(nth, ttl)| alias(&owner(nth), &owner(nth + 1), *ttl)).collect();
        answers.extend(addresses.iter().map(|ttl| address(&owner(chain.len()), *ttl)));
        let others: Vec<Record> = others.iter().map(|ttl| address("ns.a.test.", *ttl)).collect();
        let message = message(ResponseCode::NoError, &answers, &[], &others);
        let bytes = message.to_vec().unwrap();
        let lifetime = Lifetime::read(&bytes, false).unwrap();
        let theirs = Message::from_vec(&bytes).unwrap();
        let records = || theirs.answers.iter().chain(&theirs.additionals);
        prop_assert_eq!(lifetime.seconds, records().map(|record| record.ttl).min().unwrap().min(POSITIVE_MAX));
        let ttls: Vec<u32> = lifetime.ttls.iter().map(|at| {
            let at = usize::from(*at);
            u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
        }).collect();
        prop_assert_eq!(ttls, records().map(|record| record.ttl).collect::<Vec<_>>());
    }
}
