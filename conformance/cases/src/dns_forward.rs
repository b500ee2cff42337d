//! dns: forwarded queries.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::dns_client::{ID, Question, Reply, connect, framed, kind, rcode, read_frame, receive};
use harness::ip;
use harness::patience::ensure_prompt;
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, Named, ask, ask_tcp, expect, resolve, responder_pid, until};
use harness::stage::upstream::{UPSTREAMS, Upstream, answered, failed, outside};
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("dns/unknown_names_are_forwarded", &["D-021", "D-022", "D-024"], unknown),
    Case::new("dns/the_next_server_is_queried_after_a_timeout", &["D-040"], silent).alone(),
    Case::new("dns/the_next_server_is_queried_after_a_failure", &["D-041"], failing),
    Case::new("dns/forged_answers_are_ignored", &["D-042"], forged),
    Case::new("dns/the_responder_does_not_query_itself", &["D-043"], itself),
    Case::new("dns/changes_of_resolv_conf_take_effect", &["D-044"], resolv_conf),
    Case::new("dns/an_internal_network_forwards_nothing", &["D-045"], internal),
    Case::new("dns/truncated_upstream_answers_are_available_over_tcp", &["D-046"], over_tcp),
    Case::new("dns/a_silent_upstream_does_not_delay_local_names", &["D-047"], black_hole).alone(),
];

/// A name that is forwarded.
const WWW: &str = "www.moor.test";
/// The answers of the upstream servers.
const ANSWERS: [&str; 3] = ["203.0.113.1", "203.0.113.2", "203.0.113.3"];

fn question() -> Question {
    Question::new(WWW, kind::A)
}

fn unknown(room: &Room) -> Result<()> {
    outside(room)?;
    let upstream = Upstream::start(room, Some("outside"), UPSTREAMS[0], ANSWERS[0])?;
    let keys = json!({"domainName": "example.org", "upstreams": [UPSTREAMS[0]]});
    let named = Named::add(room, "c1", "web", keys)?;
    expect(room, Some("c1"), GATEWAYS[0], WWW, &[ANSWERS[0]])?;
    for kind in [15, 16, 33, 65, 255] {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new("web", kind))?;
        ensure!(reply.rcode() == rcode::NOERROR, "type {kind} of a known name: {reply:?}");
    }
    let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new("nosuch.example.org", kind::A))?;
    ensure!(reply.rcode() == rcode::NXDOMAIN, "{reply:?}");
    ensure!(reply.authority.iter().any(|record| record.kind == kind::SOA), "{reply:?}");
    for unused in ["10.1.2.200", "2001:db8:1::200"] {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::reverse(unused)?)?;
        ensure!(reply.rcode() == rcode::NXDOMAIN, "{unused}: {reply:?}");
    }
    ensure!(upstream.asked() == [WWW], "forwarded: {:?}", upstream.asked());
    ask(room, Some("c1"), GATEWAYS[0], &Question::reverse("192.0.2.1")?)?;
    ensure!(upstream.asked() == [WWW, "1.2.0.192.in-addr.arpa"], "{:?}", upstream.asked());
    named.del(room)
}

/// An upstream server that never answers.
fn mute(room: &Room, address: &str) -> Result<Upstream> {
    Upstream::with(room, Some("outside"), address, |_, _| vec![])
}

fn silent(room: &Room) -> Result<()> {
    outside(room)?;
    let first = mute(room, UPSTREAMS[0])?;
    let _second = Upstream::start(room, Some("outside"), UPSTREAMS[1], ANSWERS[1])?;
    let _third = mute(room, UPSTREAMS[2])?;
    let at = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    let ask = |from: &str| -> Result<(Reply, Duration)> {
        let began = Instant::now();
        let reply = room.inside(from, || question().udp_within(at, Duration::from_secs(8)))?;
        Ok((reply, began.elapsed()))
    };
    let named = Named::add(room, "c1", "web", json!({"cache": 0, "upstreams": &UPSTREAMS[..2]}))?;
    let (reply, took) = ask("c1")?;
    ensure!(reply.texts() == [ANSWERS[1]], "{reply:?}");
    ensure_prompt("the answer of the next server", took, Duration::from_secs(2))?;
    ensure!(first.asked().len() == 1, "{:?}", first.asked());
    // A silent server is remembered after more than one time-out.
    for _ in 0..2 {
        let (reply, took) = ask("c1")?;
        ensure!(reply.texts() == [ANSWERS[1]], "{reply:?}");
        ensure_prompt("the answer of the next server", took, Duration::from_secs(2))?;
    }
    ensure!(first.asked().len() == 3, "{:?}", first.asked());
    let (reply, took) = ask("c1")?;
    ensure!(reply.texts() == [ANSWERS[1]] && first.asked().len() == 3, "{:?}", first.asked());
    ensure_prompt("the answer without the silent server", took, Duration::from_secs(1))?;
    named.del(room)?;
    // An unused address, an unreachable address, and a silent server.
    let nobody = json!({"upstreams": ["198.51.100.77", "203.0.113.53", UPSTREAMS[2]]});
    let _named = Named::add(room, "c2", "db", nobody)?;
    let (reply, took) = ask("c2")?;
    ensure!(reply.rcode() == rcode::SERVFAIL, "{reply:?}");
    ensure_prompt("the failure", took, Duration::from_millis(5500))
}

fn failing(room: &Room) -> Result<()> {
    outside(room)?;
    for (nth, code) in [rcode::SERVFAIL, rcode::REFUSED, rcode::NXDOMAIN].into_iter().enumerate() {
        let (first, second) =
            (format!("198.51.100.{}", 10 + 2 * nth), format!("198.51.100.{}", 11 + 2 * nth));
        for address in [&first, &second] {
            ip::run_in("outside", &["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        }
        let failed = move |question: &[u8], _| vec![failed(question, code)];
        let one = Upstream::with(room, Some("outside"), &first, failed)?;
        let other = Upstream::start(room, Some("outside"), &second, ANSWERS[1])?;
        let id = format!("c{nth}");
        let named = Named::add(room, &id, "web", json!({"upstreams": [first, second]}))?;
        let reply = ask(room, Some(&id), GATEWAYS[0], &question())?;
        ensure!(one.asked().len() == 1, "code {code}: forwarded to the first: {:?}", one.asked());
        if code == rcode::NXDOMAIN {
            ensure!(reply.rcode() == code && other.asked().is_empty(), "NXDOMAIN is final: {reply:?}");
        } else {
            ensure!(reply.texts() == [ANSWERS[1]], "code {code}: {reply:?}");
        }
        named.del(room)?;
    }
    Ok(())
}

fn forged(room: &Room) -> Result<()> {
    outside(room)?;
    let bind = || Ok(UdpSocket::bind((UPSTREAMS[1], 53))?);
    let elsewhere = room.inside("outside", bind)?;
    let false_address = "203.0.113.66".parse()?;
    let right = ANSWERS[0].parse()?;
    let _server = Upstream::with(room, Some("outside"), UPSTREAMS[0], move |question, from| {
        let forged = answered(question, false_address);
        // From another address than the queried one.
        drop(elsewhere.send_to(&forged, from));
        let changed = |at: usize| {
            let mut forged = forged.clone();
            forged[at] ^= 1;
            forged
        };
        // Another id, another name, another type, no response at all; then the right
        // answer.
        let odd =
            [changed(0), changed(1), changed(14), changed(12 + WWW.len() + 3), question.to_vec(), vec![0; 5]];
        odd.into_iter().chain([answered(question, right)]).collect()
    })?;
    let _named = Named::add(room, "c1", "web", json!({"cache": 0, "upstreams": [UPSTREAMS[0]]}))?;
    for _ in 0..20 {
        expect(room, Some("c1"), GATEWAYS[0], WWW, &[ANSWERS[0]])?;
    }
    Ok(())
}

/// Datagrams that the host received, in both families.
fn datagrams() -> Result<u64> {
    let count = |file: &str, prefix: &str, column: usize| -> Result<u64> {
        let text = fs::read_to_string(file)?;
        // In the IPv4 file, the first line with that prefix names the columns.
        let line = text.lines().rfind(|line| line.starts_with(prefix)).unwrap_or_default();
        line.split_whitespace().nth(column).and_then(|word| word.parse().ok()).with_context(|| text.clone())
    };
    Ok(count("/proc/net/snmp", "Udp:", 1)? + count("/proc/net/snmp6", "Udp6InDatagrams", 1)?)
}

fn itself(room: &Room) -> Result<()> {
    outside(room)?;
    let upstream = Upstream::start(room, Some("outside"), UPSTREAMS[0], ANSWERS[0])?;
    let named =
        Named::add(room, "c1", "web", json!({"upstreams": [GATEWAYS[0], GATEWAYS[1], UPSTREAMS[0]]}))?;
    expect(room, Some("c1"), GATEWAYS[0], WWW, &[ANSWERS[0]])?;
    ensure!(upstream.asked() == [WWW], "{:?}", upstream.asked());
    named.del(room)?;
    let _named = Named::add(room, "c2", "db", json!({"upstreams": GATEWAYS}))?;
    let before = datagrams()?;
    let reply = ask(room, Some("c2"), GATEWAYS[0], &question())?;
    ensure!(reply.rcode() == rcode::SERVFAIL, "{reply:?}");
    let came = datagrams()? - before;
    ensure!(came <= 2, "one query and its answer made {came} datagrams");
    Ok(())
}

/// Gives the case its own /etc, so that it does not change the machine's resolv.conf.
fn own_etc() -> Result<()> {
    ip::output("mount", &["-t", "tmpfs", "tmpfs", "/etc"]).map(drop)
}

fn resolv_conf(room: &Room) -> Result<()> {
    outside(room)?;
    own_etc()?;
    let _servers: Vec<Upstream> = UPSTREAMS
        .into_iter()
        .zip(ANSWERS)
        .map(|(at, answer)| Upstream::start(room, Some("outside"), at, answer))
        .collect::<Result<_>>()?;
    let path = Path::new("/etc/resolv.conf");
    let server = |nth: usize| format!("nameserver {}\n", UPSTREAMS[nth]);
    fs::write(path, server(0))?;
    let _named = Named::add(room, "c1", "web", json!({}))?;
    let responder = responder_pid()?;
    let receive = || resolve(room, Some("c1"), GATEWAYS[0], WWW).unwrap_or_default();
    let follows = |nth: usize, how: &str| {
        until(Duration::from_secs(1), &format!("the new server is queried ({how})"), || {
            receive() == [ANSWERS[nth]]
        })
    };
    follows(0, "at first")?;
    let renamed = |to: &Path, text: &str| -> Result<()> {
        fs::write("/etc/new", text)?;
        Ok(fs::rename("/etc/new", to)?)
    };
    renamed(path, &server(1))?;
    follows(1, "replaced by rename")?;
    fs::write(path, server(2))?;
    follows(2, "rewritten")?;
    // As systemd-resolved and others do.
    let target = room.scratch("stub-resolv.conf");
    fs::write(&target, server(0))?;
    symlink(&target, "/etc/link")?;
    fs::rename("/etc/link", path)?;
    follows(0, "replaced by a link")?;
    fs::write("/etc/new", server(1))?;
    fs::copy("/etc/new", room.scratch("new"))?;
    fs::rename(room.scratch("new"), &target)?;
    follows(1, "link target replaced by rename")?;
    fs::write(&target, server(2))?;
    follows(2, "link target rewritten")?;
    let odd = "junk\n\u{1}nameserver\nnameserver x\nnameserver fe80::1%nolink0\n; c\noptions ndots:5 rotate\nnameserver \
        198.51.100.2 # one\nnameserver 198.51.100.3\nnameserver 198.51.100.4\nnameserver 198.51.100.99\n";
    fs::write(&target, odd)?;
    follows(0, "with junk, a zone and too many servers")?;
    ensure!(responder_pid()? == responder, "the responder was replaced");
    Ok(())
}

fn internal(room: &Room) -> Result<()> {
    outside(room)?;
    own_etc()?;
    let upstream = Upstream::start(room, Some("outside"), UPSTREAMS[0], ANSWERS[0])?;
    fs::write("/etc/resolv.conf", format!("nameserver {}\n", UPSTREAMS[0]))?;
    let outgoing = || -> Result<u64> {
        let rows = ip::rows(None, &["-s", "link", "show", "dev", "wan0"])?;
        rows.first().and_then(|row| row["stats64"]["tx"]["packets"].as_u64()).context("tx packets")
    };
    for (nth, keys) in [json!({}), json!({"upstreams": [UPSTREAMS[0]]})].into_iter().enumerate() {
        let id = format!("c{nth}");
        let named = Named::add(room, &id, "web", harness::config::with(&keys, json!({"internal": true})))?;
        let before = outgoing()?;
        for (name, code) in
            [(WWW, rcode::REFUSED), ("nosuch", rcode::NXDOMAIN), ("nosuch.net", rcode::NXDOMAIN)]
        {
            for reply in [
                ask(room, Some(&id), GATEWAYS[0], &Question::new(name, kind::A))?,
                ask_tcp(room, Some(&id), GATEWAYS[0], &Question::new(name, kind::A))?,
            ] {
                ensure!(reply.rcode() == code, "{name}: {reply:?}");
            }
        }
        expect(room, Some(&id), GATEWAYS[0], "web", &[&named.address(false)])?;
        ensure!(upstream.asked().is_empty(), "{:?}", upstream.asked());
        // Neighbour discovery is allowed; queries would be a dozen packets.
        ensure!(outgoing()? - before <= 3, "{} packets went out", outgoing()? - before);
        named.del(room)?;
    }
    Ok(())
}

fn over_tcp(room: &Room) -> Result<()> {
    outside(room)?;
    let cut = |question: &[u8], _| {
        let mut reply = failed(question, rcode::NOERROR);
        reply[2] |= 2;
        vec![reply]
    };
    let _udp = Upstream::with(room, Some("outside"), UPSTREAMS[0], cut)?;
    Upstream::over_tcp(room, UPSTREAMS[0], ANSWERS[0])?;
    let named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    let reply = ask(room, Some("c1"), GATEWAYS[0], &question())?;
    ensure!(reply.is_truncated() && reply.answers.is_empty(), "{reply:?}");
    let reply = ask_tcp(room, Some("c1"), GATEWAYS[0], &question())?;
    ensure!(reply.texts() == [ANSWERS[0]] && !reply.is_truncated(), "{reply:?}");
    // Queries one after the other on one connection; then many at once, in pieces that end
    // anywhere.
    let at = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    let local = named.address(false);
    room.inside("c1", || {
        let mut stream = connect(at)?;
        for (name, address) in [("web", local.as_str()), (WWW, ANSWERS[0]), ("web.net", &local)] {
            stream.write_all(&framed(&Question::new(name, kind::A).message(ID)?)?)?;
            let reply = Reply::read(read_frame(&mut stream)?)?;
            ensure!(reply.texts() == [address], "{name}: {reply:?}");
        }
        let mut all = vec![];
        for id in 0..20u16 {
            let name = if id % 3 == 0 { WWW } else { "web" };
            all.extend(framed(&Question::new(name, kind::A).message(id)?)?);
        }
        for piece in all.chunks(13) {
            stream.write_all(piece)?;
        }
        let mut ids = vec![];
        for _ in 0..20 {
            let reply = read_frame(&mut stream)?;
            ensure!(reply[3] & 15 == rcode::NOERROR && reply[7] == 1, "{reply:02x?}");
            ids.push(u16::from_be_bytes([reply[0], reply[1]]));
        }
        ids.sort_unstable();
        ensure!(ids == (0..20).collect::<Vec<_>>(), "{ids:?}");
        Ok(())
    })
}

/// Queries in flight of all unregistered addresses together.
const UNREGISTERED_MAX: usize = 32;

fn black_hole(room: &Room) -> Result<()> {
    outside(room)?;
    let _hole = mute(room, UPSTREAMS[0])?;
    let _named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    let clients: Vec<String> = (0..6).map(|n| format!("10.1.2.{}", 100 + n)).collect();
    for client in &clients {
        ip::run_in("c1", &["addr", "add", &format!("{client}/24"), "dev", "eth0"])?;
    }
    let at = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    let message = |name: &str, id: u16| Question::new(name, kind::A).message(id);
    let (refused, quickest) = room.inside("c1", || {
        let mut refused = 0;
        let mut sockets = vec![];
        for client in &clients {
            let socket = UdpSocket::bind((client.as_str(), 0))?;
            socket.connect(at)?;
            for id in 0..250 {
                socket.send(&message(WWW, id)?)?;
                // A local query after them is answered, before the socket's
                // buffer is full. The last one is sent when nothing else is in
                // flight: answers that are ready together come in any order.
                for _ in 0..usize::from(id % 50 == 49) + usize::from(id == 249) {
                    socket.send(&message("web", 0xffff)?)?;
                    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
                    loop {
                        let reply = receive(&socket).context("a local name has to wait")?;
                        if reply[..2] == [0xff, 0xff] {
                            ensure!(reply[7] == 1, "{reply:02x?}");
                            break;
                        }
                        ensure!(reply[3] & 15 == rcode::SERVFAIL, "{reply:02x?}");
                        refused += 1;
                    }
                }
            }
            sockets.push(socket);
        }
        // While all of them are in flight.
        let mut quickest = Duration::MAX;
        for _ in 0..50 {
            let began = Instant::now();
            let reply = Question::new("web", kind::A).udp(at)?;
            ensure!(reply.answers.len() == 1, "{reply:?}");
            quickest = quickest.min(began.elapsed());
        }
        Ok((refused, quickest))
    })?;
    let all = UNREGISTERED_MAX;
    ensure!(refused == 1500 - all, "{refused} of 1500 were refused at once, not {}", 1500 - all);
    ensure_prompt("the quickest answer for a local name", quickest, Duration::from_millis(5))?;
    let open = fs::read_dir(format!("/proc/{}/fd", responder_pid()?))?.count();
    ensure!(open < all + 50, "{open} descriptors");
    Ok(())
}
