//! dns: the content of answers.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::dns_client::{ID, Question, client, kind, rcode, receive};
use harness::rng::Rng;
use harness::room::Room;
use harness::stage::dns::{
    GATEWAYS, Named, ask, ask_tcp, call, dns, expect, expect_no_answer, responder_pid, send_raw,
};
use harness::stage::upstream::{Upstream, outside};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("dns/a_name_is_found_bare_and_with_its_suffixes", &["D-020", "D-023", "D-024"], forms),
    Case::new(
        "dns/a_name_without_an_address_of_the_family_has_an_empty_answer",
        &["D-020", "D-030"],
        other_family,
    ),
    Case::new("dns/long_answers_are_truncated_over_udp_only", &["D-027"], long_answer),
    Case::new("dns/a_thousand_addresses_fit_over_tcp", &["D-027"], thousand),
    Case::new("dns/malformed_queries_get_the_standard_response", &["D-028"], odd),
    Case::new("dns/no_packet_crashes_the_responder", &["D-029"], junk),
    Case::new("dns/ttl_is_zero_unless_configured", &["D-030"], ttl),
    Case::new("dns/header_flags_show_authority_and_recursion", &["D-031"], flags),
];

fn forms(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({"domainName": "Example.Org", "ttl": 7}))?;
    ensure!(
        named.result["dns"] == json!({"nameservers": GATEWAYS, "search": ["example.org"]}),
        "{}",
        named.result
    );
    for server in GATEWAYS {
        for name in ["web", "WEB", "web.example.org", "Web.EXAMPLE.org", "web.net"] {
            for (kind, v6) in [(kind::A, false), (kind::AAAA, true)] {
                for reply in [
                    ask(room, Some("c1"), server, &Question::new(name, kind))?,
                    ask_tcp(room, Some("c1"), server, &Question::new(name, kind))?,
                ] {
                    ensure!(reply.texts() == [&named.address(v6)], "{name} at {server}: {reply:?}");
                    ensure!(
                        reply.question == name,
                        "the query is {name}, the answer repeats {}",
                        reply.question
                    );
                    ensure!(reply.is_authoritative() && reply.answers[0].ttl == 7, "{reply:?}");
                }
            }
        }
    }
    for v6 in [false, true] {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::reverse(&named.address(v6))?)?;
        ensure!(reply.texts() == ["web.example.org"], "{reply:?}");
        expect(room, Some("c1"), GATEWAYS[0], reply.texts()[0], &[&named.address(false)])?;
    }
    let unused = ask(room, Some("c1"), GATEWAYS[0], &Question::reverse("10.1.2.200")?)?;
    ensure!(unused.rcode() == rcode::NXDOMAIN && unused.answers.is_empty(), "{unused:?}");
    Ok(())
}

/// Gives a container these addresses and this name, which `c1` can query.
fn with_addresses(room: &Room, named: &Named, name: &str, addresses: Vec<String>) -> Result<()> {
    let ips: Vec<Value> = addresses
        .into_iter()
        .map(|address| json!({"address": format!("{address}/16"), "gateway": GATEWAYS[0]}))
        .collect();
    let previous = with(&named.config["prevResult"], json!({"ips": ips}));
    call(room, "ADD", &named.container, name, &dns(&previous, json!({}))).run()?.result()?;
    Ok(())
}

fn other_family(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    with_addresses(room, &named, "web", vec!["10.1.2.2".into()])?;
    for name in ["web", "web.net"] {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new(name, kind::AAAA))?;
        ensure!(reply.rcode() == rcode::NOERROR && reply.answers.is_empty(), "{name}: {reply:?}");
        let [soa] = &reply.authority[..] else { anyhow::bail!("{name}: {reply:?}") };
        ensure!(soa.kind == kind::SOA && (soa.ttl, soa.text.as_str()) == (0, "0"), "{name}: {soa:?}");
    }
    Ok(())
}

/// One container with sixty addresses has as long an answer as sixty containers with one alias.
fn long_answer(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    with_addresses(room, &named, "many", (2..62).map(|last| format!("10.1.2.{last}")).collect())?;
    let question = Question::new("many", kind::A);
    let short = ask(room, Some("c1"), GATEWAYS[0], &question)?;
    ensure!(short.bytes.len() <= 512 && short.is_truncated(), "{} bytes: {short:?}", short.bytes.len());
    let extended = Question { edns: Some(1232), ..question.clone() };
    let all =
        [ask(room, Some("c1"), GATEWAYS[0], &extended)?, ask_tcp(room, Some("c1"), GATEWAYS[0], &question)?];
    for reply in all {
        ensure!(reply.answers.len() == 60 && !reply.is_truncated(), "{} answers", reply.answers.len());
        ensure!(reply.answers.iter().all(|record| record.name == "many"), "{reply:?}");
    }
    Ok(())
}

fn thousand(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let addresses: Vec<String> = (0..1000).map(|n| format!("10.1.{}.{}", n / 200 + 3, n % 200 + 1)).collect();
    with_addresses(room, &named, "many", addresses.clone())?;
    let question = Question::new("many", kind::A);
    let all = ask_tcp(room, None, GATEWAYS[0], &question)?;
    let mut texts: Vec<String> = all.texts().into_iter().map(str::to_owned).collect();
    texts.sort();
    let mut wanted = addresses;
    wanted.sort();
    ensure!(texts == wanted && !all.is_truncated(), "{} answers", texts.len());
    // Announcing more has no effect: larger datagrams may not arrive.
    for (announced, most) in [(512, 512), (1232, 1232), (4096, 1232)] {
        let question = Question { edns: Some(announced), ..question.clone() };
        let reply = ask(room, None, GATEWAYS[0], &question)?;
        ensure!(reply.is_truncated() && reply.bytes.len() <= most, "{announced}: {}", reply.bytes.len());
    }
    Ok(())
}

/// Length of the OPT record at the end of a query (RFC 6891, section 6.1.2).
const OPT_LENGTH: usize = 11;

fn odd(room: &Room) -> Result<()> {
    let _named = Named::add(room, "c1", "web", json!({}))?;
    let question = Question::new("web", kind::A);
    let plain = question.message(ID)?;
    let changed = |at: usize, value: u8| {
        let mut packet = plain.clone();
        packet[at] = value;
        packet
    };
    // A server that answers responses could loop with another one.
    expect_no_answer(room, Some("c1"), GATEWAYS[0], &changed(2, 0x81))?;
    expect_no_answer(room, Some("c1"), GATEWAYS[0], &plain[..11])?;
    expect_no_answer(room, Some("c1"), GATEWAYS[0], &[])?;
    let end = plain.len();
    let two = [&changed(5, 2)[..], &plain[12..]].concat();
    for (what, packet, code) in [
        ("opcode STATUS", changed(2, 2 << 3), rcode::NOTIMP),
        ("opcode UPDATE", changed(2, 5 << 3), rcode::NOTIMP),
        ("no question", changed(5, 0)[..12].to_vec(), rcode::FORMERR),
        ("two questions", two, rcode::FORMERR),
        ("half a question", plain[..end - 3].to_vec(), rcode::FORMERR),
        ("class CH", changed(end - 1, 3), rcode::REFUSED),
        ("AXFR", changed(end - 3, 252), rcode::REFUSED),
        ("IXFR", changed(end - 3, 251), rcode::REFUSED),
    ] {
        let answer = send_raw(room, "c1", GATEWAYS[0], &packet)?;
        ensure!(answer[3] & 15 == code && answer[2] & 0x80 != 0, "{what}: {answer:02x?}");
        ensure!(answer[..2] == packet[..2] && answer[6..8] == [0, 0], "{what}: {answer:02x?}");
    }
    let mut extended = Question { edns: Some(1232), ..question }.message(ID)?;
    // A cookie (RFC 7873), and the bits AD, CD and DO: none of them may be in the answer.
    let opt = extended.len() - OPT_LENGTH;
    extended[3] |= 0x30;
    extended[opt + 7] = 0x80;
    extended[opt + 10] = 12;
    extended.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let answer = send_raw(room, "c1", GATEWAYS[0], &extended)?;
    ensure!(answer[3] & 15 == rcode::NOERROR && answer[3] & 0x20 == 0, "{answer:02x?}");
    ensure!(!answer.windows(8).any(|part| part == [1, 2, 3, 4, 5, 6, 7, 8]), "{answer:02x?}");
    ensure!(answer[11] == 1 && answer[answer.len() - 2..] == [0, 0], "options: {answer:02x?}");
    // Version 1 of EDNS: BADVERS is 16, and its upper bits are in the OPT record (RFC 6891,
    // section 6.1.3).
    let mut later = extended[..opt + OPT_LENGTH].to_vec();
    (later[opt + 6], later[opt + 10]) = (1, 0);
    let answer = send_raw(room, "c1", GATEWAYS[0], &later)?;
    let opt = answer.len() - OPT_LENGTH;
    ensure!((answer[3] & 15, answer[opt + 5], answer[opt + 6]) == (0, 1, 0), "{answer:02x?}");
    ensure!(answer[6..8] == [0, 0], "{answer:02x?}");
    Ok(())
}

/// A packet with some bytes changed, truncated, or followed by others.
fn mutated(packet: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut packet = packet.to_vec();
    for _ in 0..random.below(4) {
        let at = random.index(packet.len());
        packet[at] = random.byte();
    }
    match random.below(8) {
        0 => packet.truncate(random.index(packet.len())),
        1 => packet.extend((0..random.below(600)).map(|_| 0xc0)),
        _ => {}
    }
    packet
}

/// Random changes of real packets. The fuzz target tries ten million.
fn junk(room: &Room) -> Result<()> {
    let _named = Named::add(room, "c1", "web", json!({}))?;
    let before = responder_pid()?;
    let mut seeds = vec![];
    for (name, edns) in [("web", None), ("web.net", Some(1232)), ("2.2.1.10.in-addr.arpa", Some(512))] {
        for kind in [kind::A, kind::AAAA, kind::PTR, 255] {
            seeds.push(Question { edns, ..Question::new(name, kind) }.message(ID)?);
        }
    }
    let server = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    let probe = Question::new("web", kind::A).message(0xffff)?;
    room.inside("c1", || {
        let socket = client(server)?;
        let mut random = Rng::new(1);
        for round in 0..20_000u32 {
            let at = random.index(seeds.len());
            let mut packet = mutated(&seeds[at], &mut random);
            // Not the id of the query sent after it.
            if let Some(number) = packet.first_mut() {
                *number = 0;
            }
            socket.send(&packet)?;
            // Whatever the response, the query after it is answered.
            socket.send(&probe)?;
            loop {
                let context = || format!("round {round}: {packet:02x?}");
                let answer = receive(&socket).with_context(context)?;
                ensure!(answer.len() <= 1232 && answer[2] & 0x80 != 0, "{}: {answer:02x?}", context());
                if answer[..2] == [0xff, 0xff] {
                    ensure!(answer[3] & 15 == rcode::NOERROR, "{}: {answer:02x?}", context());
                    break;
                }
            }
        }
        Ok(())
    })?;
    ensure!(responder_pid()? == before, "the responder was replaced");
    Ok(())
}

fn ttl(room: &Room) -> Result<()> {
    for ttl in [None, Some(7), Some(3600)] {
        let keys = json!({"domainName": "example.org", "ttl": ttl});
        let named = Named::add(room, &format!("c{}", ttl.unwrap_or(0)), "web", keys)?;
        let wanted = ttl.unwrap_or(0);
        let from = Some(named.container.id.as_str());
        let reply = ask(room, from, GATEWAYS[0], &Question::new("web", kind::A))?;
        ensure!(reply.answers[0].ttl == wanted, "{ttl:?}: {reply:?}");
        for (name, kind) in [("web", 16), ("nosuch.example.org", kind::A)] {
            let reply = ask(room, from, GATEWAYS[0], &Question::new(name, kind))?;
            let [soa] = &reply.authority[..] else { anyhow::bail!("{ttl:?}: {reply:?}") };
            ensure!((soa.ttl, &soa.text) == (wanted, &wanted.to_string()), "{ttl:?}: {soa:?}");
        }
        named.del(room)?;
        for odd in [json!(-1), json!(3601), json!("7")] {
            let config = with(&named.config, json!({"ttl": odd}));
            call(room, "ADD", &named.container, "web", &config).run()?.refused("ttl")?;
        }
    }
    Ok(())
}

fn flags(room: &Room) -> Result<()> {
    outside(room)?;
    let _upstream = Upstream::start(room, Some("outside"), "198.51.100.2", "203.0.113.9")?;
    let names = ["web", "nosuch.example.org", "www.moor.test"];
    let ask_all = |from: &str| -> Result<Vec<(bool, bool)>> {
        names
            .into_iter()
            .map(|name| {
                let reply = ask(room, Some(from), GATEWAYS[0], &Question::new(name, kind::A))?;
                // Recursion desired is copied into the response (RFC 1035,
                // section 4.1.1).
                ensure!(reply.flags & 0x100 != 0, "{name}: {reply:?}");
                Ok((reply.is_authoritative(), reply.offers_recursion()))
            })
            .collect()
    };
    let open =
        Named::add(room, "c1", "web", json!({"domainName": "example.org", "upstreams": ["198.51.100.2"]}))?;
    let flags = ask_all("c1")?;
    ensure!(flags == [(true, true), (true, true), (false, true)], "authoritative and recursive: {flags:?}");
    open.del(room)?;
    let closed = Named::add(room, "c2", "web", json!({"domainName": "example.org", "internal": true}))?;
    let flags = ask_all("c2")?;
    ensure!(flags == [(true, false), (true, false), (false, false)], "in an internal network: {flags:?}");
    closed.del(room)
}
