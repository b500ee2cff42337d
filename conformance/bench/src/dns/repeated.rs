//! A repeated name of the outside: the responder and dnsmasq, each with its cache, before one
//! server that takes 20 ms.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::dns_client::{ID, Question, Reply, client, kind, rcode, receive};
use harness::ip;
use harness::room::Room;
use harness::stage::answer::{Record, reply};
use harness::stage::dns::{GATEWAYS, Named};
use harness::stage::upstream::{UPSTREAMS, Upstream, outside};
use serde_json::json;

use super::{report_budget, servers};
use crate::attachments::budget::Budgets;
use crate::stats::{median, ratio};

/// How long the server outside takes.
const DELAY: Duration = Duration::from_millis(20);
/// Names; each is queried once, and then repeatedly.
const NAMES: usize = 25;
/// Repetitions of each name at each server.
const REPEATED: usize = 200;
/// The address of dnsmasq.
const DNSMASQ: &str = "10.1.2.250";

/// Returns true if the budget was kept.
pub fn run(room: &Room) -> Result<bool> {
    let budget = Budgets::read(&room.net_d)?.repeated_name;
    outside(room)?;
    let upstream = Upstream::counting(room, UPSTREAMS[0], |question, name, _| {
        std::thread::sleep(DELAY);
        reply(
            question,
            rcode::NOERROR,
            [&[Record::address(name, 600, Ipv4Addr::new(203, 0, 113, 1))], &[], &[]],
        )
    })?;
    let named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    ip::run(&["addr", "add", &format!("{DNSMASQ}/24"), "dev", "br0"])?;
    let hosts = [("c1".to_owned(), named.address(false))];
    let (_, mut child) = servers::dnsmasq(room, DNSMASQ, "repeated", &hosts, Some(UPSTREAMS[0]))?;
    let at = [GATEWAYS[0], DNSMASQ];
    let sockets = at.map(|server| -> Result<UdpSocket> {
        let server = SocketAddr::new(server.parse()?, 53);
        room.inside("c1", || client(server))
    });
    let [ours, dnsmasq] = sockets;
    let sockets = [ours?, dnsmasq?];
    let (mut first, mut again) = ([vec![], vec![]], [vec![], vec![]]);
    for n in 0..NAMES {
        let name = format!("n{n}.outside.test");
        for (nth, socket) in sockets.iter().enumerate() {
            first[nth].push(micros(socket, &name)?);
        }
        let mut took = [vec![], vec![]];
        for _ in 0..REPEATED {
            for (nth, socket) in sockets.iter().enumerate() {
                took[nth].push(micros(socket, &name)?);
            }
        }
        for (all, took) in again.iter_mut().zip(&took) {
            all.push(median(took));
        }
    }
    child.kill().ok();
    child.wait().ok();
    ensure!(upstream.asked().len() == 2 * NAMES, "the server outside got {} queries", upstream.asked().len());
    println!("  {:<14}{:>18}{:>18}", "us a query", "first", "repeated");
    for (name, (first, again)) in ["dns", "dnsmasq"].into_iter().zip(first.iter().zip(&again)) {
        println!("  {name:<14}{:>18.0}{:>18.1}", median(first), median(again));
    }
    let measured = ratio(&again[0], &again[1]).context("nothing was answered")?;
    Ok(report_budget(
        &format!("at most {budget} of dnsmasq's time: {:.2} (noise {:.2})", measured.value, measured.noise),
        measured.value - measured.noise <= budget,
    ))
}

/// The time of one query, in microseconds.
fn micros(socket: &UdpSocket, name: &str) -> Result<f64> {
    let question = Question::new(name, kind::A).message(ID)?;
    let began = Instant::now();
    socket.send(&question)?;
    let answer = receive(socket).with_context(|| name.to_owned())?;
    let took = began.elapsed();
    let reply = Reply::read(answer)?;
    ensure!(reply.texts() == ["203.0.113.1"], "{name}: {reply:?}");
    Ok(took.as_secs_f64() * 1e6)
}
