//! Queries to each server in turns, and the time of an ADD.

use std::fmt::Write;

use anyhow::Result;
use harness::config::with;
use harness::ip;
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, Named, call, kill_responder, responder_pid};
use serde_json::json;

use super::servers::{self, Host, Server};
use super::{dnsperf, report_budget};
use crate::stats::{median, ratio};

/// Numbers of names.
const SIZES: [usize; 2] = [10, 1_000];
/// Turns of each server, and the duration of each in seconds.
const TURNS: usize = 5;
const SECONDS: u64 = 2;
/// The budgets: queries per second and CPU time as ratios to dnsmasq, resident memory in KiB.
const SPEED: f64 = 1.0;
const TIME: f64 = 0.6;
const RESIDENT: u64 = 4 << 10;
/// The budgets of an ADD in ms: with a running responder, and with one to be started.
const WARM: f64 = 3.0;
const COLD: f64 = 15.0;
/// Timed ADDs.
const ADDS: usize = 40;

/// The results of one server, by turn.
#[derive(Default)]
struct Measured {
    per_second: Vec<f64>,
    micros: Vec<f64>,
    resident: u64,
}

/// Returns true if all budgets were kept.
pub fn run(room: &Room) -> Result<bool> {
    // None of the servers forwards queries.
    let empty = room.write("resolv.conf", "")?;
    ip::output("mount", &["--bind", &empty.display().to_string(), "/etc/resolv.conf"])?;
    let client = Named::add(room, "c1", "c1", json!({"shortId": false, "internal": true}))?;
    let mut kept = true;
    for size in SIZES {
        kept &= questions(room, &client, size)?;
    }
    kept &= adds(room, &client)?;
    Ok(kept)
}

fn hosts(client: &Named, size: usize) -> Vec<Host> {
    let others = (1..size).map(|n| (format!("n{n}"), format!("10.1.{}.{}", n / 200 + 3, n % 200 + 1)));
    [("c1".to_owned(), client.address(false))].into_iter().chain(others).collect()
}

fn questions(room: &Room, client: &Named, size: usize) -> Result<bool> {
    let hosts = hosts(client, size);
    for (n, (name, ip)) in hosts.iter().enumerate().skip(1) {
        let ips = json!([{"address": format!("{ip}/16"), "gateway": GATEWAYS[0]}]);
        let previous = with(&client.config["prevResult"], json!({"ips": ips}));
        let config = with(&client.config, json!({"prevResult": previous}));
        let call = call(room, "ADD", &client.container, name, &config);
        call.env("CNI_CONTAINERID", format!("many{n}")).run()?.result()?;
    }
    let addresses = [format!("10.1.2.{}", 240 + size % 7), format!("10.1.2.{}", 230 + size % 7)];
    for address in &addresses {
        ip::run(&["addr", "add", &format!("{address}/24"), "dev", "br0"])?;
    }
    let tag = size.to_string();
    let ours = Server { name: "dns", address: GATEWAYS[0].to_owned(), pid: responder_pid()? };
    servers::ready(room, &ours, &hosts[0])?;
    let (dnsmasq, mut child) = servers::dnsmasq(room, &addresses[0], &tag, &hosts, None)?;
    let aardvark = servers::aardvark(room, &addresses[1], &tag, &hosts)?;
    let servers = [ours, dnsmasq, aardvark];
    let mut text = String::new();
    for (name, _) in &hosts {
        writeln!(text, "{name} A")?;
    }
    let questions = room.write(&format!("questions.{tag}"), text)?;
    let mut all = [(); 3].map(|()| Measured::default());
    for _ in 0..TURNS {
        for (server, measured) in servers.iter().zip(&mut all) {
            let before = server.spent()?;
            let (answered, per_second) = dnsperf::run(room, &server.address, &questions, SECONDS)?;
            let spent = server.spent()?.saturating_sub(before);
            measured.per_second.push(per_second);
            measured.micros.push(spent.as_secs_f64() * 1e6 / answered.max(1.0));
            measured.resident = server.resident()?;
        }
    }
    child.kill().ok();
    child.wait().ok();
    ip::output("kill", &[&servers[2].pid.to_string()])?;
    Ok(table(&format!("{size} names"), &servers, &all))
}

fn table(title: &str, servers: &[Server; 3], all: &[Measured; 3]) -> bool {
    println!(
        "  {title:<14}{:>16}{:>10}{:>14}{:>10}{:>12}",
        "queries/s", "ratio", "us a query", "ratio", "KiB"
    );
    let [ours, dnsmasq, _] = all;
    for (server, measured) in servers.iter().zip(all) {
        let of = |theirs: fn(&Measured) -> &[f64]| {
            let ratio = ratio(theirs(measured), theirs(dnsmasq));
            ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.value))
        };
        println!(
            "  {:<14}{:>16.0}{:>10}{:>14.2}{:>10}{:>12}",
            server.name,
            median(&measured.per_second),
            of(|measured| &measured.per_second),
            median(&measured.micros),
            of(|measured| &measured.micros),
            measured.resident
        );
    }
    let speed = ratio(&ours.per_second, &dnsmasq.per_second);
    let time = ratio(&ours.micros, &dnsmasq.micros);
    let text = |ratio: Option<crate::stats::Ratio>| {
        ratio.map_or("nothing".to_owned(), |ratio| format!("{:.2} (noise {:.2})", ratio.value, ratio.noise))
    };
    let fast = speed.is_some_and(|ratio| ratio.value + ratio.noise >= SPEED);
    let cheap = time.is_some_and(|ratio| ratio.value - ratio.noise <= TIME);
    let small = ours.resident <= RESIDENT;
    // Every budget is reported, whatever the result of the one before.
    [
        report_budget(&format!("at least {SPEED:.1} of dnsmasq's queries a second: {}", text(speed)), fast),
        report_budget(&format!("at most {TIME:.1} of dnsmasq's time for a query: {}", text(time)), cheap),
        report_budget(&format!("at most {RESIDENT} KiB: {}", ours.resident), small),
    ]
    .into_iter()
    .all(|kept| kept)
}

/// The time of an ADD, with and without a running responder.
fn adds(room: &Room, client: &Named) -> Result<bool> {
    let time = |cold: bool| -> Result<f64> {
        let mut times = vec![];
        for _ in 0..ADDS {
            client.del(room)?;
            if cold {
                kill_responder()?;
            }
            let answer = client.verb(room, "ADD")?;
            answer.result()?;
            times.push(answer.took.as_secs_f64() * 1e3);
        }
        Ok(median(&times))
    };
    // Another attachment stays, so the network does too; a starting responder reads its
    // record.
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "many1", "ifname": "eth0"}]);
    let keys = json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": valid});
    room.call("dns", "GC").config(&with(&client.config, keys)).run()?.silent()?;
    let (warm, cold) = (time(false)?, time(true)?);
    Ok([
        report_budget(&format!("an ADD adds at most {WARM} ms: {warm:.1}"), warm <= WARM),
        report_budget(
            &format!("an ADD that starts the responder adds at most {COLD} ms: {cold:.1}"),
            cold <= COLD,
        ),
    ]
    .into_iter()
    .all(|kept| kept))
}
