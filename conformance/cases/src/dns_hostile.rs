//! dns with hostile neighbours: what one container can exhaust, and for whom.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::dns_client::{ID, Question, connect, framed, kind, rcode, read_frame};
use harness::ip;
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, Named, OTHER_GATEWAY, ask, expect, other_bridge, responder_pid};
use harness::stage::upstream::{UPSTREAMS, Upstream, answered, failed, outside};
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("dns/a_flood_loses_no_answers_of_others", &["D-047", "D-100"], flood).alone(),
    Case::new("dns/a_slow_name_does_not_fail_a_server", &["D-101"], slow_name).alone(),
    Case::new("dns/clients_that_do_not_read_use_little_memory", &["D-102"], memory).alone(),
    Case::new("dns/running_out_of_descriptors_does_not_spin", &["D-103"], descriptors).alone(),
];

const WWW: &str = "www.moor.test";
const ANSWERS: [&str; 2] = ["203.0.113.1", "203.0.113.2"];

/// An upstream server that answers for one name and ignores all others.
fn choosy(room: &Room, at: &str, answer: &str) -> Result<Upstream> {
    let answer = answer.parse()?;
    Upstream::with(room, Some("outside"), at, move |question, _| {
        let known = question.windows(3).any(|part| part == b"www");
        if known { vec![answered(question, answer)] } else { vec![] }
    })
}

/// Adds addresses to a container's interface.
fn more_addresses(id: &str, count: u32) -> Result<Vec<String>> {
    let addresses: Vec<String> = (0..count).map(|n| format!("10.1.2.{}", 100 + n)).collect();
    for address in &addresses {
        ip::run_in(id, &["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
    }
    Ok(addresses)
}

/// Queries from six addresses for as many unanswered names as possible, repeatedly.
fn flood(room: &Room) -> Result<()> {
    outside(room)?;
    let _server = choosy(room, UPSTREAMS[0], ANSWERS[0])?;
    let keys = || json!({"cache": 0, "upstreams": [UPSTREAMS[0]]});
    let _hostile = Named::add(room, "c1", "web", keys())?;
    let _neighbour = Named::add(room, "c2", "db", keys())?;
    let other = Named::behind(room, "c3", "far", &other_bridge(), keys())?;
    let addresses = more_addresses("c1", 6)?;
    let at = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    let sockets: Vec<UdpSocket> = room.inside("c1", || {
        addresses
            .iter()
            .map(|address| {
                let socket = UdpSocket::bind((address.as_str(), 0))?;
                socket.connect(at)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .collect()
    })?;
    let mut sent = 0u32;
    let mut flood = |count: u32| -> Result<()> {
        for _ in 0..count {
            sent += 1;
            let id = u16::try_from(sent % 60_000)?;
            let message = Question::new(&format!("n{sent}.moor.test"), kind::A).message(id)?;
            for socket in &sockets {
                // A full send buffer is enough.
                drop(socket.send(&message));
                while socket.recv(&mut [0; 512]).is_ok() {}
            }
        }
        Ok(())
    };
    flood(250)?;
    let mut lost = [0; 2];
    for n in 0..1000 {
        flood(1)?;
        let (from, server, nth) = if n % 4 == 3 { ("c2", GATEWAYS[0], 1) } else { ("c3", OTHER_GATEWAY, 0) };
        let name = if n % 2 == 0 && nth == 0 { "far" } else { WWW };
        let wanted = if name == WWW { ANSWERS[0].to_owned() } else { other.address(false) };
        let reply = ask(room, Some(from), server, &Question::new(name, kind::A));
        lost[nth] += usize::from(!reply.is_ok_and(|reply| reply.texts() == [&wanted]));
    }
    ensure!(lost == [0, 0], "lost {} of 750 on another network, {} of 250 of a neighbour", lost[0], lost[1]);
    Ok(())
}

fn slow_name(room: &Room) -> Result<()> {
    outside(room)?;
    let _first = choosy(room, UPSTREAMS[0], ANSWERS[0])?;
    let _second = Upstream::start(room, Some("outside"), UPSTREAMS[1], ANSWERS[1])?;
    let keys = || json!({"upstreams": &UPSTREAMS[..2]});
    let _one = Named::add(room, "c1", "web", keys())?;
    let _two = Named::behind(room, "c2", "db", &other_bridge(), keys())?;
    let at = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    let slow = |name: &str| {
        room.inside("c1", || Question::new(name, kind::A).udp_within(at, Duration::from_secs(8)))
    };
    let reply = slow("slow.moor.test")?;
    ensure!(reply.texts() == [ANSWERS[1]], "{reply:?}");
    expect(room, Some("c1"), GATEWAYS[0], WWW, &[ANSWERS[0]]).context("after one time-out")?;
    for n in 0..4 {
        slow(&format!("slow{n}.moor.test"))?;
    }
    expect(room, Some("c2"), OTHER_GATEWAY, WWW, &[ANSWERS[0]]).context("another network")
}

/// An upstream server with answers of maximum length.
fn long_answers(room: &Room) -> Result<()> {
    let at = SocketAddr::new(UPSTREAMS[0].parse()?, 53);
    let listener = room.inside("outside", || TcpListener::bind(at).context("serve over TCP"))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while let Ok(question) = read_frame(&mut stream) {
                    let mut reply = failed(&question, rcode::NOERROR);
                    reply.resize(65_000, 0);
                    let Ok(framed) = framed(&reply) else { break };
                    if stream.write_all(&framed).is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(())
}

/// Peak memory of a process, in KiB.
fn peak(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse().ok()).context(status)
}

/// Containers of two networks send as many queries as they can over as many connections as they
/// can, and read nothing.
fn memory(room: &Room) -> Result<()> {
    outside(room)?;
    long_answers(room)?;
    let keys = || json!({"upstreams": [UPSTREAMS[0]]});
    let other = other_bridge();
    let mut kept: Vec<TcpStream> = vec![];
    let mut all = vec![];
    for n in 0..8 {
        let id = format!("c{n}");
        let (network, server) = if n < 4 {
            (harness::config::bridge(harness::config::USUAL), GATEWAYS[0])
        } else {
            (other.clone(), OTHER_GATEWAY)
        };
        all.push(Named::behind(room, &id, &id, &network, keys())?);
        let at = SocketAddr::new(server.parse()?, 53);
        room.inside(&id, || {
            for connection in 0..32 {
                let mut stream = connect(at)?;
                let mut queries = vec![];
                for question in 0..64u16 {
                    let name = format!("n{connection}-{question}.moor.test");
                    queries.extend(framed(&Question::new(&name, kind::A).message(question)?)?);
                }
                // Connections above the limit are closed.
                drop(stream.write_all(&queries));
                kept.push(stream);
            }
            Ok(())
        })?;
    }
    let pid = responder_pid()?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(200));
        expect(room, Some("c0"), GATEWAYS[0], "c1", &[&all[1].address(false)])?;
    }
    let most = peak(pid)?;
    ensure!(most <= 64 << 10, "it used {most} KiB");
    drop(kept);
    ensure!(responder_pid()? == pid, "the responder was replaced");
    Ok(())
}

/// CPU time of a process.
fn spent(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    Ok(Duration::from_nanos(first.with_context(|| text.clone())?))
}

fn descriptors(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let bridge = harness::config::bridge(harness::config::USUAL);
    let previous = room.attach("bridge", "ADD", &container).config(&bridge).run()?.result()?;
    let config = harness::stage::dns::dns(&previous, json!({}));
    // The responder inherits the limit of its first caller.
    let few = ["prlimit", "--nofile=30:30"];
    harness::stage::dns::call(room, "ADD", &container, "web", &config).under(&few).run()?.result()?;
    let address = harness::stage::portmap::address(&config, false);
    let at = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    let kept: Vec<TcpStream> = room.inside("c1", || (0..40).map(|_| connect(at)).collect())?;
    let pid = responder_pid()?;
    let (before, began) = (spent(pid)?, Instant::now());
    while began.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
        expect(room, Some("c1"), GATEWAYS[0], "web", &[&address])?;
    }
    let (spent, lasted) = (spent(pid)? - before, began.elapsed());
    ensure!(spent * 20 < lasted, "{spent:?} of {lasted:?} were spent on connections that wait");
    drop(kept);
    let by_tcp = || -> Result<()> {
        room.inside("c1", || {
            let mut stream = connect(at)?;
            stream.write_all(&framed(&Question::new("web", kind::A).message(ID)?)?)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            read_frame(&mut stream).map(drop)
        })
    };
    harness::stage::dns::until(Duration::from_secs(5), "connections are accepted again", || by_tcp().is_ok())
}
