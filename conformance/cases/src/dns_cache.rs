//! dns: answers that are kept for later clients, and for how long.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::dns_client::{Question, Reply, kind, rcode};
use harness::room::Room;
use harness::stage::answer::{Record, reply};
use harness::stage::dns::{GATEWAYS, Named, ask, ask_tcp, cached, expect, until};
use harness::stage::upstream::{UPSTREAMS, Upstream, failed, outside};
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("dns/a_repeated_name_is_answered_from_the_cache", &["D-111", "D-117"], repeated),
    Case::new("dns/a_kept_answer_ends_with_its_shortest_ttl", &["D-111"], ends),
    Case::new("dns/absences_are_kept_for_the_time_of_their_zone", &["D-113"], absences),
    Case::new("dns/nothing_is_learned_from_other_records", &["D-114"], poisoned),
    Case::new("dns/failures_and_partial_answers_are_not_kept", &["D-114"], failures),
    Case::new("dns/a_cache_of_zero_keeps_nothing", &["D-111", "D-117"], off),
    Case::new("dns/a_registered_name_wins_over_a_kept_answer", &["D-116"], registered),
];

const WWW: &str = "www.moor.test";

/// The address of the answer to the query with that number.
fn nth(count: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, count + 1)
}

/// A server with another address for each query, all of that TTL.
fn changing(room: &Room, ttl: u32) -> Result<Upstream> {
    outside(room)?;
    Upstream::counting(room, UPSTREAMS[0], move |question, name, before| {
        reply(question, rcode::NOERROR, [&[Record::address(name, ttl, nth(before))], &[], &[]])
    })
}

fn query(room: &Room, name: &str) -> Result<Reply> {
    ask(room, Some("c1"), GATEWAYS[0], &Question::new(name, kind::A))
}

fn ttls(reply: &Reply) -> Vec<u32> {
    reply.answers.iter().map(|record| record.ttl).collect()
}

fn repeated(room: &Room) -> Result<()> {
    let upstream = changing(room, 100_000)?;
    let keys = || json!({"upstreams": [UPSTREAMS[0]]});
    let _one = Named::add(room, "c1", "web", keys())?;
    let _two = Named::add(room, "c2", "db", keys())?;
    let first = query(room, WWW)?;
    ensure!(first.texts() == ["203.0.113.1"] && ttls(&first) == [100_000], "{first:?}");
    let since = Instant::now();
    let again = query(room, "wWw.Moor.TesT")?;
    ensure!(again.texts() == ["203.0.113.1"] && again.question == "wWw.Moor.TesT", "{again:?}");
    ensure!(!again.is_authoritative() && again.offers_recursion(), "{again:?}");
    ensure!(ttls(&again)[0] <= 3600, "longer than an hour: {again:?}");
    expect(room, Some("c2"), GATEWAYS[0], WWW, &["203.0.113.1"]).context("another container")?;
    let by_tcp = ask_tcp(room, Some("c1"), GATEWAYS[0], &Question::new(WWW, kind::A))?;
    ensure!(by_tcp.texts() == ["203.0.113.1"], "over TCP: {by_tcp:?}");
    until(Duration::from_secs(3), "the TTL counts down", || {
        query(room, WWW).is_ok_and(|reply| ttls(&reply)[0] < ttls(&again)[0])
    })?;
    let late = query(room, WWW)?;
    let passed = u32::try_from(since.elapsed().as_secs())? + 1;
    ensure!(ttls(&late)[0] + passed >= 3600, "{passed} s passed: {late:?}");
    ensure!(upstream.asked() == [WWW], "{:?}", upstream.asked());
    let figures = cached("net")?;
    ensure!(figures["answers"] == json!(1) && figures["misses"] == json!(1), "{figures}");
    ensure!(figures["hits"].as_u64() >= Some(5), "{figures}");
    ensure!(figures["bytes"].as_u64().is_some_and(|bytes| (40..2000).contains(&bytes)), "{figures}");
    Ok(())
}

fn ends(room: &Room) -> Result<()> {
    const TTL: u32 = 3;
    outside(room)?;
    let upstream = Upstream::counting(room, UPSTREAMS[0], |question, name, before| {
        let chain = [
            Record::alias(name, 60, "b.moor.test"),
            Record::alias("b.moor.test", TTL, "c.moor.test"),
            Record::address("c.moor.test", 90, nth(before)),
        ];
        reply(question, rcode::NOERROR, [&chain, &[], &[]])
    })?;
    let _named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    let began = Instant::now();
    let last = |reply: &Reply| reply.texts().last().copied().unwrap_or_default().to_owned();
    ensure!(last(&query(room, WWW)?) == "203.0.113.1");
    let mut kept = 0;
    let mut fault = None;
    until(Duration::from_secs(8), "it is queried again", || {
        std::thread::sleep(Duration::from_millis(50));
        let Ok(reply) = query(room, WWW) else { return false };
        if last(&reply) == "203.0.113.2" {
            return true;
        }
        kept += 1;
        if ttls(&reply).iter().any(|ttl| !(1..=TTL).contains(ttl)) {
            fault = Some(format!("{reply:?}"));
        }
        false
    })?;
    let lasted = began.elapsed();
    ensure!(fault.is_none(), "a TTL of more than is left: {fault:?}");
    ensure!(kept > 0 && lasted >= Duration::from_secs(TTL.into()), "kept for {lasted:?}, {kept} times");
    ensure!(upstream.asked().len() == 2, "{:?}", upstream.asked());
    Ok(())
}

fn absences(room: &Room) -> Result<()> {
    outside(room)?;
    let upstream = Upstream::counting(room, UPSTREAMS[0], |question, name, _| {
        let (code, zone) = match name {
            "none.moor.test" => (rcode::NXDOMAIN, Some(Record::authority("moor.test", 5000, 400))),
            "empty.moor.test" => (rcode::NOERROR, Some(Record::authority("moor.test", 200, 5000))),
            "zero.moor.test" => (rcode::NXDOMAIN, Some(Record::authority("moor.test", 200, 0))),
            "foreign.moor.test" => (rcode::NXDOMAIN, Some(Record::authority("other.test", 200, 200))),
            _ => (rcode::NXDOMAIN, None),
        };
        reply(question, code, [&[], zone.as_slice(), &[]])
    })?;
    let _named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    for (name, code, times, most) in [
        ("none.moor.test", rcode::NXDOMAIN, 1, 300),
        ("empty.moor.test", rcode::NOERROR, 1, 200),
        ("zero.moor.test", rcode::NXDOMAIN, 2, 200),
        ("foreign.moor.test", rcode::NXDOMAIN, 2, 200),
        ("bare.moor.test", rcode::NXDOMAIN, 2, 0),
    ] {
        let before = upstream.asked().len();
        for _ in 0..2 {
            let reply = query(room, name)?;
            ensure!(reply.rcode() == code && reply.answers.is_empty(), "{name}: {reply:?}");
        }
        let asked = upstream.asked().len() - before;
        ensure!(asked == times, "{name}: queried {asked} times, not {times}");
        let last = query(room, name)?;
        let ttl = last.authority.first().map_or(0, |record| record.ttl);
        ensure!(ttl <= most, "{name}: {last:?}");
    }
    Ok(())
}

fn poisoned(room: &Room) -> Result<()> {
    const FALSE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
    outside(room)?;
    let upstream = Upstream::counting(room, UPSTREAMS[0], |question, name, before| {
        let own = Record::address(name, 60, nth(before));
        let others = ["bank.moor.test", "moor.test", "test"].map(|name| Record::address(name, 60, FALSE));
        let server = Record::new("moor.test", 2, 60, b"\x04bank\x04moor\x04test\0");
        match name {
            WWW => reply(question, rcode::NOERROR, [&[own], &[server], &others]),
            // In the answer section too.
            "ftp.moor.test" => {
                reply(question, rcode::NOERROR, [&[vec![own], others.to_vec()].concat(), &[], &[]])
            }
            _ => reply(question, rcode::NOERROR, [&[own], &[], &[]]),
        }
    })?;
    let _named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    query(room, WWW)?;
    query(room, "ftp.moor.test")?;
    for (name, address) in
        [("bank.moor.test", "203.0.113.3"), ("moor.test", "203.0.113.4"), ("test", "203.0.113.5")]
    {
        expect(room, Some("c1"), GATEWAYS[0], name, &[address]).context("learned from another answer")?;
    }
    query(room, "ftp.moor.test")?;
    let asked = upstream.asked();
    let last = asked.last().map(String::as_str);
    ensure!(
        asked.len() == 6 && last == Some("ftp.moor.test"),
        "an answer with records of others is kept: {asked:?}"
    );
    Ok(())
}

fn failures(room: &Room) -> Result<()> {
    outside(room)?;
    let upstream = Upstream::counting(room, UPSTREAMS[0], |question, name, before| {
        let address = |ttl| Record::address(name, ttl, nth(before));
        let mut whole = reply(question, rcode::NOERROR, [&[address(60)], &[], &[]]);
        match name {
            "servfail.moor.test" => failed(question, rcode::SERVFAIL),
            "refused.moor.test" => failed(question, rcode::REFUSED),
            "truncated.moor.test" => {
                whole[2] |= 2;
                whole
            }
            "zero.moor.test" => reply(question, rcode::NOERROR, [&[address(0)], &[], &[]]),
            // A record too few for its header.
            "short.moor.test" => {
                whole[7] = 2;
                whole
            }
            "referral.moor.test" => {
                let server = Record::new("moor.test", 2, 60, b"\x02ns\x04moor\x04test\0");
                reply(question, rcode::NOERROR, [&[], &[server], &[]])
            }
            _ => whole,
        }
    })?;
    let _named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    for (name, times) in [
        ("servfail.moor.test", 2),
        ("refused.moor.test", 2),
        ("truncated.moor.test", 2),
        ("zero.moor.test", 2),
        ("short.moor.test", 2),
        ("referral.moor.test", 2),
        (WWW, 1),
    ] {
        let before = upstream.asked().len();
        for _ in 0..2 {
            // A damaged answer is passed on; whether the client can read it is not ours to say.
            drop(query(room, name));
        }
        let asked = upstream.asked().len() - before;
        ensure!(asked == times, "{name}: queried {asked} times, not {times}");
    }
    Ok(())
}

fn off(room: &Room) -> Result<()> {
    let upstream = changing(room, 60)?;
    let _named = Named::add(room, "c1", "web", json!({"cache": 0, "upstreams": [UPSTREAMS[0]]}))?;
    for address in ["203.0.113.1", "203.0.113.2"] {
        expect(room, Some("c1"), GATEWAYS[0], WWW, &[address])?;
    }
    ensure!(upstream.asked().len() == 2, "{:?}", upstream.asked());
    let none = json!({"answers": 0, "bytes": 0, "hits": 0, "misses": 0});
    ensure!(cached("net")? == none, "{}", cached("net")?);
    // The next ADD of the network changes it.
    let two = Named::add(room, "c2", "db", json!({"cache": 1, "upstreams": [UPSTREAMS[0]]}))?;
    for _ in 0..2 {
        expect(room, Some("c1"), GATEWAYS[0], WWW, &["203.0.113.3"])?;
    }
    query(room, "ftp.moor.test")?;
    ensure!(cached("net")?["answers"] == json!(1), "{}", cached("net")?);
    two.del(room)
}

fn registered(room: &Room) -> Result<()> {
    let upstream = changing(room, 60)?;
    let keys = || json!({"domainName": "example.org", "upstreams": [UPSTREAMS[0]]});
    let _one = Named::add(room, "c1", "web", keys())?;
    expect(room, Some("c1"), GATEWAYS[0], "db.moor.test", &["203.0.113.1"])?;
    let reply = query(room, "db.example.org")?;
    ensure!(reply.rcode() == rcode::NXDOMAIN && reply.is_authoritative(), "{reply:?}");
    let keys = harness::config::with(&keys(), json!({"runtimeConfig": {"aliases": ["db.moor.test"]}}));
    let two = Named::add(room, "c2", "db", keys)?;
    for name in ["db.moor.test", "db.example.org", "db"] {
        expect(room, Some("c1"), GATEWAYS[0], name, &[&two.address(false)])?;
    }
    two.del(room)?;
    expect(room, Some("c1"), GATEWAYS[0], "db.moor.test", &["203.0.113.1"])?;
    ensure!(upstream.asked() == ["db.moor.test"], "{:?}", upstream.asked());
    ensure!(cached("net")?["answers"] == json!(1), "our own zone is kept: {}", cached("net")?);
    Ok(())
}
