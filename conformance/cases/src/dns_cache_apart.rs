//! dns: whose answers are kept apart, and what one network's clients can do to others' answers.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::dns_client::{ID, Question, Reply, client, kind, rcode, receive};
use harness::room::Room;
use harness::stage::answer::{Record, reply};
use harness::stage::dns::{
    GATEWAYS, Named, OTHER_GATEWAY, ask, cached, expect, other_bridge, responder_pid, send_raw,
};
use harness::stage::upstream::{UPSTREAMS, Upstream, outside};
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("dns/networks_share_no_kept_answers", &["D-112"], networks),
    Case::new("dns/containers_with_their_own_servers_share_no_kept_answers", &["D-112"], own_servers),
    Case::new("dns/a_change_of_servers_drops_kept_answers", &["D-112"], changed_servers),
    Case::new("dns/kept_answers_depend_on_edns_and_dnssec", &["D-112"], bits),
    Case::new("dns/a_kept_answer_is_truncated_for_a_small_client", &["D-112"], small_client),
    Case::new("dns/random_names_evict_only_their_networks_answers", &["D-115"], random).alone(),
];

const WWW: &str = "www.moor.test";

/// A server with another address for each query, in a range of its own.
fn server(room: &Room, which: usize) -> Result<Upstream> {
    let first = u8::try_from(which * 50)?;
    Upstream::counting(room, UPSTREAMS[which], move |question, name, before| {
        let address = Ipv4Addr::new(203, 0, 113, first + before + 1);
        reply(question, rcode::NOERROR, [&[Record::address(name, 60, address)], &[], &[]])
    })
}

fn networks(room: &Room) -> Result<()> {
    outside(room)?;
    let upstream = server(room, 0)?;
    let keys = || json!({"upstreams": [UPSTREAMS[0]]});
    let _one = Named::add(room, "c1", "web", keys())?;
    let _two = Named::behind(room, "c2", "db", &other_bridge(), keys())?;
    for _ in 0..2 {
        expect(room, Some("c1"), GATEWAYS[0], WWW, &["203.0.113.1"])?;
        expect(room, Some("c2"), OTHER_GATEWAY, WWW, &["203.0.113.2"]).context("another network")?;
    }
    ensure!(upstream.asked().len() == 2, "{:?}", upstream.asked());
    for network in ["net", "other"] {
        let figures = cached(network)?;
        ensure!(figures["hits"] == json!(1) && figures["misses"] == json!(1), "{network}: {figures}");
    }
    Ok(())
}

fn own_servers(room: &Room) -> Result<()> {
    outside(room)?;
    let (_first, second) = (server(room, 0)?, server(room, 1)?);
    let keys =
        |own: &[&str]| json!({"upstreams": [UPSTREAMS[0]], "runtimeConfig": {"dns": {"servers": own}}});
    let _plain = Named::add(room, "c1", "web", keys(&[]))?;
    for id in ["c2", "c3"] {
        Named::add(room, id, id, keys(&[UPSTREAMS[1]]))?;
    }
    // The network's server, but of its own.
    Named::add(room, "c4", "c4", keys(&[UPSTREAMS[0]]))?;
    for _ in 0..2 {
        let wanted =
            [("c2", "203.0.113.51"), ("c1", "203.0.113.1"), ("c3", "203.0.113.52"), ("c4", "203.0.113.2")];
        for (id, address) in wanted {
            expect(room, Some(id), GATEWAYS[0], WWW, &[address])?;
        }
    }
    ensure!(second.asked().len() == 2, "{:?}", second.asked());
    Ok(())
}

fn changed_servers(room: &Room) -> Result<()> {
    outside(room)?;
    let _servers = (server(room, 0)?, server(room, 1)?);
    let keys = |which: usize| json!({"upstreams": [UPSTREAMS[which]]});
    let _one = Named::add(room, "c1", "web", keys(0))?;
    for (id, which, address) in [
        ("c2", 0, "203.0.113.1"),
        ("c3", 1, "203.0.113.51"),
        // The former servers are queried again.
        ("c4", 0, "203.0.113.2"),
    ] {
        Named::add(room, id, id, keys(which))?;
        for _ in 0..2 {
            expect(room, Some("c1"), GATEWAYS[0], WWW, &[address])
                .with_context(|| format!("server {which}"))?;
        }
        ensure!(cached("net")?["answers"] == json!(1), "{}", cached("net")?);
    }
    Ok(())
}

/// A query with bits of the second header byte, and with EDNS: whether with DO.
fn query(bits: u8, edns: Option<bool>) -> Result<Vec<u8>> {
    let question = Question { edns: edns.map(|_| 1232), ..Question::new(WWW, kind::A) };
    let mut message = question.message(ID)?;
    message[3] |= bits;
    if edns == Some(true) {
        // The OPT record ends the message: flags, and the length of no options.
        let flags = message.len() - 4;
        message[flags] |= 0x80;
    }
    Ok(message)
}

fn bits(room: &Room) -> Result<()> {
    const AD: u8 = 0x20;
    const CD: u8 = 0x10;
    outside(room)?;
    let upstream = Upstream::counting(room, UPSTREAMS[0], |question, name, before| {
        let address = Record::address(name, 60, Ipv4Addr::new(203, 0, 113, before + 1));
        let edns = question.get(11) == Some(&1);
        let dnssec = edns && question.get(question.len() - 4).is_some_and(|flags| flags & 0x80 != 0);
        let options = edns.then(|| Record::options(dnssec));
        let mut reply = reply(question, rcode::NOERROR, [&[address], &[], options.as_slice()]);
        // It validated the answer, and says so to everybody.
        reply[3] |= AD;
        reply
    })?;
    let _named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    let kinds = [(0, None), (0, Some(false)), (0, Some(true)), (CD, None), (AD, None), (AD | CD, Some(true))];
    for round in 0..2 {
        for (nth, (bits, edns)) in kinds.into_iter().enumerate() {
            let about = || format!("round {round}, bits {bits:#x}, EDNS and DO {edns:?}");
            let bytes = send_raw(room, "c1", GATEWAYS[0], &query(bits, edns)?)?;
            let reply = Reply::read(bytes)?;
            ensure!(reply.texts() == [format!("203.0.113.{}", nth + 1)], "{}: {reply:?}", about());
            let wants = bits & AD != 0 || edns == Some(true);
            ensure!(
                reply.flags & u16::from(AD) == if wants { AD.into() } else { 0 },
                "{}: {reply:?}",
                about()
            );
            ensure!(reply.bytes[11] == u8::from(edns.is_some()), "an OPT record, {}: {reply:?}", about());
        }
    }
    ensure!(upstream.asked().len() == kinds.len(), "{:?}", upstream.asked());
    Ok(())
}

fn small_client(room: &Room) -> Result<()> {
    outside(room)?;
    let upstream = Upstream::counting(room, UPSTREAMS[0], |question, name, _| {
        let all: Vec<Record> =
            (0..30).map(|n| Record::address(name, 60, Ipv4Addr::new(203, 0, 113, n + 1))).collect();
        reply(question, rcode::NOERROR, [&all, &[], &[Record::options(false)]])
    })?;
    let _named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    for (size, count) in [(1232, 30), (512, 0), (1232, 30)] {
        let question = Question { edns: Some(size), ..Question::new(WWW, kind::A) };
        let reply = ask(room, Some("c1"), GATEWAYS[0], &question)?;
        ensure!(reply.answers.len() == count && reply.is_truncated() == (count == 0), "{size}: {reply:?}");
        ensure!(reply.bytes.len() <= usize::from(size), "{} bytes, not {size}", reply.bytes.len());
    }
    ensure!(upstream.asked().len() == 1, "{:?}", upstream.asked());
    Ok(())
}

/// Queries of the flood, and how many are in flight at once.
const RANDOM: u16 = 1500;
const AT_ONCE: u16 = 50;

fn random(room: &Room) -> Result<()> {
    outside(room)?;
    let _upstream = Upstream::with(room, Some("outside"), UPSTREAMS[0], |question, _| {
        vec![harness::stage::upstream::answered(question, Ipv4Addr::new(203, 0, 113, 1).into())]
    })?;
    let keys = || json!({"upstreams": [UPSTREAMS[0]]});
    let _hostile = Named::add(room, "c1", "web", keys())?;
    let _other = Named::behind(room, "c2", "db", &other_bridge(), keys())?;
    expect(room, Some("c2"), OTHER_GATEWAY, WWW, &["203.0.113.1"])?;
    let pid = responder_pid()?;
    let at = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    room.inside("c1", || {
        let socket = client(at)?;
        for first in (0..RANDOM).step_by(AT_ONCE.into()) {
            for n in first..first + AT_ONCE {
                socket.send(&Question::new(&format!("n{n}.{}.test", "x".repeat(60)), kind::A).message(n)?)?;
            }
            for _ in 0..AT_ONCE {
                receive(&socket)?;
            }
        }
        Ok(())
    })?;
    let hostile = cached("net")?;
    let answers = hostile["answers"].as_u64().context("no figures")?;
    ensure!((200..=512).contains(&answers), "{hostile}");
    ensure!(hostile["bytes"].as_u64().is_some_and(|bytes| bytes <= 256 << 10), "{hostile}");
    let before = cached("other")?;
    ensure!(before["answers"] == json!(1), "{before}");
    expect(room, Some("c2"), OTHER_GATEWAY, WWW, &["203.0.113.1"])?;
    ensure!(
        cached("other")?["hits"] == json!(before["hits"].as_u64().unwrap_or(0) + 1),
        "{}",
        cached("other")?
    );
    ensure!(responder_pid()? == pid, "the responder was replaced");
    Ok(())
}
