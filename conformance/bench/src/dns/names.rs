//! Five thousand names: the delay of a new name, and the speed compared with a hundred names.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::config::with;
use harness::dns_client::{ID, Question, Reply, client, kind, receive};
use harness::ip;
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, Named, call, control, records, with_records};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::servers::{self, Host};
use super::{dnsperf, report_budget};
use crate::stats::{median, ratio};

/// Few and many containers, with three names each.
const CONTAINERS: [usize; 2] = [34, 1_667];
/// Turns of each, and the duration of each in seconds.
const TURNS: usize = 12;
const SECONDS: u64 = 1;
/// The budget: queries per second with many names, as a ratio to few.
const SPEED: f64 = 0.9;
/// New names of each kind.
const NEW: usize = 30;
/// How long a new name may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The address of dnsmasq.
const DNSMASQ: &str = "10.1.2.250";

/// Returns true if all budgets were kept.
pub fn run(room: &Room) -> Result<bool> {
    let named = Named::add(room, "c1", "web", json!({"shortId": false, "internal": true}))?;
    let [few, many] = measure_in_turns(room, &named)?;
    let held = ratio(&many, &few).context("nothing was answered")?;
    println!("  {:<44}{:>10.0}", "queries a second, 100 names", median(&few));
    println!("  {:<44}{:>10.0}", "queries a second, 5,000 names", median(&many));
    let fast = report_budget(
        &format!("at least {SPEED} of that of 100 names: {:.2} (noise {:.2})", held.value, held.noise),
        held.value + held.noise >= SPEED,
    );
    Ok(new_names(room, &named)? && fast)
}

/// Queries per second with few and with many names.
fn measure_in_turns(room: &Room, named: &Named) -> Result<[Vec<f64>; 2]> {
    // The same number of lines for both, so that reading them costs the same.
    let lines = CONTAINERS[1];
    let questions = CONTAINERS.map(|containers| {
        (0..lines).fold(String::new(), |mut text, line| {
            let n = line % containers;
            // Writing to a string does not fail.
            let _ = write!(text, "a{n} A\nb{n} A\nc{n} A\n");
            text
        })
    });
    let mut measured = [vec![], vec![]];
    for _ in 0..TURNS {
        for ((containers, questions), measured) in CONTAINERS.iter().zip(&questions).zip(&mut measured) {
            records().iter().filter(|path| !path.ends_with("c1@eth0.json")).try_for_each(fs::remove_file)?;
            with_records(room, named, *containers)?;
            let questions = room.write("questions", questions)?;
            let (_, per_second) = dnsperf::run(room, GATEWAYS[0], &questions, SECONDS)?;
            measured.push(per_second);
        }
    }
    Ok(measured)
}

/// The delay of a new name among many, in turns: after an ADD, after a record is written and
/// reported, and after dnsmasq receives the signal to reload its hosts file.
fn new_names(room: &Room, named: &Named) -> Result<bool> {
    let own = named.address(false);
    let mut hosts: Vec<Host> = vec![("web".to_owned(), own.clone())];
    for n in 0..CONTAINERS[1] {
        let address = format!("10.2.{}.{}", n / 200, n % 200 + 1);
        hosts.extend(["a", "b", "c"].map(|letter| (format!("{letter}{n}"), address.clone())));
    }
    ip::run(&["addr", "add", &format!("{DNSMASQ}/24"), "dev", "br0"])?;
    let (dnsmasq, mut child) = servers::dnsmasq(room, DNSMASQ, "names", &hosts, None)?;
    let record = records().into_iter().find(|path| path.ends_with("c1@eth0.json")).context("no record")?;
    let whole: Value = serde_json::from_slice(&fs::read(&record)?)?;
    let to = |server: &str| -> Result<UdpSocket> {
        let server = SocketAddr::new(server.parse()?, 53);
        room.inside("c1", || client(server))
    };
    let (ours, theirs) = (to(GATEWAYS[0])?, to(DNSMASQ)?);
    let [mut added, mut synced, mut reloaded] = [vec![], vec![], vec![]];
    let mut at_once = 0;
    for n in 0..NEW {
        let aliases = json!({"runtimeConfig": {"aliases": [format!("add{n}")]}});
        call(room, "ADD", &named.container, &named.name, &with(&named.config, aliases)).run()?.result()?;
        let (took, asked) = answered(&ours, &format!("add{n}"), &own, Instant::now())?;
        added.push(took);
        at_once += usize::from(asked == 1);

        let address = format!("10.2.99.{}", n + 1);
        let next = json!({"container": "new", "names": [format!("new{n}")], "ips": [address], "order": n});
        let draft = room.write("record", with(&whole, next).to_string())?;
        let sync = json!({"ask": "sync", "network": "net", "key": {"container": "new", "ifname": "eth0"}});
        let begin = Instant::now();
        fs::rename(&draft, record.with_file_name("new@eth0.json"))?;
        let answer = control(&sync.to_string())?;
        ensure!(!answer.is_empty() && !answer.contains("error"), "{answer}");
        synced.push(answered(&ours, &format!("new{n}"), &address, begin)?.0);

        hosts.push((format!("new{n}"), address.clone()));
        let draft = room.write("hosts", servers::hosts_text(&hosts))?;
        let begin = Instant::now();
        fs::rename(&draft, servers::hosts_path(room, "names"))?;
        kill(Pid::from_raw(dnsmasq.pid.try_into()?), Signal::SIGHUP)?;
        reloaded.push(answered(&theirs, &format!("new{n}"), &address, begin)?.0);
    }
    child.kill().ok();
    child.wait().ok();
    for (what, took) in [
        ("ms from the end of ADD to the answer", &added),
        ("ms from a record's rename and sync", &synced),
        ("ms of dnsmasq: from a rename and SIGHUP", &reloaded),
    ] {
        println!("  {what:<48}{:>6.2}", median(took));
    }
    let (ours, theirs) = (median(&synced), median(&reloaded));
    Ok([
        report_budget(&format!("the first query after ADD is answered: {at_once} of {NEW}"), at_once == NEW),
        report_budget(&format!("as soon as with dnsmasq: {ours:.2} ms to {theirs:.2}"), ours <= theirs),
    ]
    .into_iter()
    .all(|kept| kept))
}

/// Queries until a name has the address. Returns the milliseconds since `begin`, and the number
/// of queries.
fn answered(socket: &UdpSocket, name: &str, address: &str, begin: Instant) -> Result<(f64, usize)> {
    let question = Question::new(name, kind::A).message(ID)?;
    let mut asked = 0;
    loop {
        ensure!(begin.elapsed() < TIMEOUT, "{name} is not answered within {} s", TIMEOUT.as_secs());
        asked += 1;
        socket.send(&question)?;
        if Reply::read(receive(socket)?)?.texts() == [address] {
            return Ok((begin.elapsed().as_secs_f64() * 1e3, asked));
        }
    }
}
