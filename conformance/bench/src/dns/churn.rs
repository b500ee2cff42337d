//! The same ADDs and DELs with our plugin and with Debian's dnsname (with dnsmasq): failures,
//! and what they leave.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use harness::config::{USUAL, bridge, with};
use harness::namespace::Container;
use harness::room::Room;
use harness::room::call::{Answer, Call};
use harness::stage::dns::records;
use harness::{cache, ip};
use serde_json::{Value, json};

use super::report_budget;

/// Rounds of a single container; concurrent workers, and rounds of each.
const ROUNDS: usize = 200;
const WORKERS: [usize; 2] = [4, 100];
/// Where dnsname keeps its files.
const DNSNAME_STATE: &str = "/run/containers/cni/dnsname";

/// The calls of one plugin.
#[derive(Default)]
struct Outcome {
    calls: usize,
    failed: usize,
    errors: BTreeMap<String, usize>,
    spent: Duration,
}

impl Outcome {
    fn note(&mut self, answer: &Answer) {
        self.calls += 1;
        self.spent += answer.took;
        if !answer.succeeded() {
            self.failed += 1;
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            let error: Value = serde_json::from_str(&text).unwrap_or_default();
            let msg = error["msg"].as_str().unwrap_or(&text).trim().replace('\n', " ");
            *self.errors.entry(msg.chars().take(90).collect()).or_default() += 1;
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.calls += other.calls;
        self.failed += other.failed;
        self.spent += other.spent;
        for (msg, count) in other.errors {
            *self.errors.entry(msg).or_default() += count;
        }
        self
    }
}

/// A container, attached by our bridge.
struct Member {
    container: Container,
    config: Value,
}

fn member(room: &Room, id: &str) -> Result<Member> {
    let container = room.container(id)?;
    let previous = room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    let config =
        json!({"cniVersion": USUAL, "name": "net", "domainName": "moor.test", "prevResult": previous});
    Ok(Member { container, config })
}

/// One ADD and one DEL.
fn round(room: &Room, program: &Path, plugin: &str, member: &Member, outcome: &mut Outcome) -> Result<()> {
    for verb in ["ADD", "DEL"] {
        let call = Call::new(room, program.to_owned()).env("CNI_COMMAND", verb).env("CNI_PATH", &room.suite);
        let call = call.env("CNI_CONTAINERID", &member.container.id).env("CNI_NETNS", &member.container.path);
        let call = call.env("CNI_IFNAME", "eth0");
        let args = format!("IgnoreUnknown=1;K8S_POD_NAME={}", member.container.id);
        let call = call.env("CNI_ARGS", args).config(&with(&member.config, json!({"type": plugin})));
        outcome.note(&call.run()?);
    }
    Ok(())
}

/// Runs both plugins, one after the other, on the same containers. Returns true if ours had no
/// failure and left nothing.
pub fn run(room: &Room) -> Result<bool> {
    let dnsname = cache::unpacked("dns", "usr/lib/cni/dnsname")?;
    let plugins: [(&str, PathBuf); 2] = [("dns", room.suite.join("dns")), ("dnsname", dnsname)];
    let members: Vec<Member> =
        (0..WORKERS[0]).map(|n| member(room, &format!("c{n}"))).collect::<Result<_>>()?;
    let before = (rules()?, state());
    let mut kept = true;
    println!("  {:<10}{:<26}{:>7}{:>8}{:>12}{:>10}", "", "", "calls", "failed", "ms a call", "left");
    for (plugin, program) in &plugins {
        let mut alone = Outcome::default();
        for _ in 0..ROUNDS {
            round(room, program, plugin, &members[0], &mut alone)?;
        }
        let first = row(plugin, "200 of the only container", &alone, &before)?;
        let work = |member: &Member| -> Result<Outcome> {
            let mut outcome = Outcome::default();
            for _ in 0..WORKERS[1] {
                round(room, program, plugin, member, &mut outcome)?;
            }
            Ok(outcome)
        };
        let together = std::thread::scope(|scope| -> Result<Outcome> {
            let started: Vec<_> = members.iter().map(|member| scope.spawn(move || work(member))).collect();
            started.into_iter().try_fold(Outcome::default(), |sum, worker| {
                Ok(sum.and(worker.join().map_err(|_| anyhow!("a worker panicked"))??))
            })
        })?;
        let second = row(plugin, "4 workers, 100 each", &together, &before)?;
        if *plugin == "dns" {
            kept = report_budget("no failure and nothing left", first == 0 && second == 0);
        }
    }
    Ok(kept)
}

/// Prints a row; returns the number of failures and leftovers.
fn row(plugin: &str, what: &str, outcome: &Outcome, before: &(String, Vec<String>)) -> Result<usize> {
    let left = left(before)?;
    let each = outcome.spent.as_secs_f64() * 1e3 / outcome.calls.max(1) as f64;
    println!(
        "  {plugin:<10}{what:<26}{:>7}{:>8}{each:>12.1}{:>10}",
        outcome.calls,
        outcome.failed,
        left.len()
    );
    for (msg, count) in &outcome.errors {
        println!("            {count} x {msg}");
    }
    for line in left.iter().take(4) {
        println!("            left: {line}");
    }
    Ok(outcome.failed + left.len())
}

fn rules() -> Result<String> {
    ip::output("nft", &["list", "ruleset"])
}

/// Files of both plugins, and dnsname's servers. Our responder keeps running for the next
/// container.
fn state() -> Vec<String> {
    let mut state: Vec<String> = records().iter().map(|path| path.display().to_string()).collect();
    for network in fs::read_dir(DNSNAME_STATE).into_iter().flatten().flatten() {
        for file in fs::read_dir(network.path()).into_iter().flatten().flatten() {
            state.push(file.path().display().to_string());
        }
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        // An exited process has no command line.
        let runs = fs::read(entry.path().join("cmdline")).is_ok_and(|line| !line.is_empty());
        if runs && fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name == "dnsmasq\n") {
            state.push(format!("process {} of dnsmasq", entry.file_name().display()));
        }
    }
    state
}

fn left((rules_before, state_before): &(String, Vec<String>)) -> Result<Vec<String>> {
    let mut left = state();
    left.retain(|line| !state_before.contains(line));
    // Counters are no leftovers.
    let bare = |text: &str| -> Vec<String> {
        let words = |line: &str| {
            line.split_whitespace().take_while(|word| *word != "counter").collect::<Vec<_>>().join(" ")
        };
        text.lines().map(words).collect()
    };
    let before = bare(rules_before);
    left.extend(
        bare(&rules()?).into_iter().filter(|line| !before.contains(line) && !line.is_empty() && line != "}"),
    );
    Ok(left)
}
