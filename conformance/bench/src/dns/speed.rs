//! Questions to each server in turns, and what an ADD takes.

use std::fmt::Write;

use anyhow::Result;
use harness::config::with;
use harness::ip;
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, Named, call, kill_responder, the_responder};
use serde_json::json;

use super::rival::{self, Host, Rival};
use super::{dnsperf, verdict};
use crate::stats::{median, ratio};

/// How many names there are.
const SIZES: [usize; 2] = [10, 1_000];
/// Turns of each server, and how long each is asked for, in seconds.
const TURNS: usize = 5;
const SECONDS: u64 = 2;
/// The budgets: questions a second and processor time as ratios to dnsmasq's, resident KiB.
const SPEED: f64 = 1.0;
const TIME: f64 = 0.6;
const RESIDENT: u64 = 4 << 10;
/// The budgets of an ADD in ms: with a responder that runs, and with one that must be started.
const WARM: f64 = 3.0;
const COLD: f64 = 15.0;
/// ADDs that are timed.
const ADDS: usize = 40;

/// What was measured of one server, turn by turn.
#[derive(Default)]
struct Measured {
    per_second: Vec<f64>,
    micros: Vec<f64>,
    resident: u64,
}

/// True when every budget was kept.
pub fn run(room: &Room) -> Result<bool> {
    // Nobody is asked of the outside, by none of them.
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
    let ours = Rival { name: "dns", address: GATEWAYS[0].to_owned(), pid: the_responder()? };
    rival::ready(room, &ours, &hosts[0])?;
    let (dnsmasq, mut child) = rival::dnsmasq(room, &addresses[0], &tag, &hosts)?;
    let aardvark = rival::aardvark(room, &addresses[1], &tag, &hosts)?;
    let rivals = [ours, dnsmasq, aardvark];
    let mut text = String::new();
    for (name, _) in &hosts {
        writeln!(text, "{name} A")?;
    }
    let questions = room.write(&format!("questions.{tag}"), text)?;
    let mut all = [(); 3].map(|()| Measured::default());
    for _ in 0..TURNS {
        for (rival, measured) in rivals.iter().zip(&mut all) {
            let before = rival.spent()?;
            let (answered, per_second) = dnsperf::run(room, &rival.address, &questions, SECONDS)?;
            let spent = rival.spent()?.saturating_sub(before);
            measured.per_second.push(per_second);
            measured.micros.push(spent.as_secs_f64() * 1e6 / answered.max(1.0));
            measured.resident = rival.resident()?;
        }
    }
    child.kill().ok();
    child.wait().ok();
    ip::output("kill", &[&rivals[2].pid.to_string()])?;
    Ok(table(&format!("{size} names"), &rivals, &all))
}

fn table(title: &str, rivals: &[Rival; 3], all: &[Measured; 3]) -> bool {
    println!(
        "  {title:<14}{:>16}{:>10}{:>14}{:>10}{:>12}",
        "questions/s", "ratio", "us a question", "ratio", "KiB"
    );
    let [ours, dnsmasq, _] = all;
    for (rival, measured) in rivals.iter().zip(all) {
        let of = |theirs: fn(&Measured) -> &[f64]| {
            let ratio = ratio(theirs(measured), theirs(dnsmasq));
            ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.value))
        };
        println!(
            "  {:<14}{:>16.0}{:>10}{:>14.2}{:>10}{:>12}",
            rival.name,
            median(&measured.per_second),
            of(|measured| &measured.per_second),
            median(&measured.micros),
            of(|measured| &measured.micros),
            measured.resident
        );
    }
    let speed = ratio(&ours.per_second, &dnsmasq.per_second);
    let time = ratio(&ours.micros, &dnsmasq.micros);
    let told = |ratio: Option<crate::stats::Ratio>| {
        ratio.map_or("nothing".to_owned(), |ratio| format!("{:.2} (noise {:.2})", ratio.value, ratio.noise))
    };
    let fast = speed.is_some_and(|ratio| ratio.value + ratio.noise >= SPEED);
    let cheap = time.is_some_and(|ratio| ratio.value - ratio.noise <= TIME);
    let small = ours.resident <= RESIDENT;
    // Every promise is told, whatever became of the one before.
    [
        verdict(&format!("at least {SPEED:.1} of dnsmasq's questions a second: {}", told(speed)), fast),
        verdict(&format!("at most {TIME:.1} of dnsmasq's time for a question: {}", told(time)), cheap),
        verdict(&format!("at most {RESIDENT} KiB: {}", ours.resident), small),
    ]
    .into_iter()
    .all(|kept| kept)
}

/// What an ADD takes, with a responder and without.
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
    // One other stays, so that the network does; a responder that begins reads what is on record.
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "many1", "ifname": "eth0"}]);
    let keys = json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": valid});
    room.call("dns", "GC").config(&with(&client.config, keys)).run()?.silent()?;
    let (warm, cold) = (time(false)?, time(true)?);
    Ok([
        verdict(&format!("an ADD adds at most {WARM} ms: {warm:.1}"), warm <= WARM),
        verdict(&format!("an ADD that starts the responder adds at most {COLD} ms: {cold:.1}"), cold <= COLD),
    ]
    .into_iter()
    .all(|kept| kept))
}
