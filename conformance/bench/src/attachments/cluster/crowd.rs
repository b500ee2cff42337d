//! Fifty hosts with forty containers each: how long their agents take from the start, how soon all
//! follow one more container, and what an agent takes among them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::ip;
use harness::room::{Room, SCRATCH};
use nix::sys::signal::Signal;
use serde_json::json;

use super::super::compared::Compared;
use super::monitors::Monitors;
use super::{MEMBERS, Network, agent, in_time, lacking, millis};
use crate::stats::{median, percentile};

const HOSTS: u8 = 50;
const CONTAINERS: usize = 40;
/// Hosts that are worked on at once.
const AT_ONCE: usize = 4;
/// ADDs that all hosts follow.
const ROUNDS: usize = 40;
/// Agents that start among the others.
const STARTS: usize = 5;
/// The longest wait for all entries.
const PLENTY: Duration = Duration::from_secs(60);
/// How long an agent may take to end.
const END: Duration = Duration::from_secs(5);
/// Between two looks at a table of thousands.
const LOOK: Duration = Duration::from_millis(5);

/// The job of the room.
pub fn job(room: &Room) -> Result<Vec<Compared>> {
    if let Some(none) = lacking(room) {
        return Ok(vec![none]);
    }
    let cluster = Cluster::new(room, MEMBERS, HOSTS)?;
    let hosts = &cluster.hosts;
    on_each(hosts, |host| {
        (0..CONTAINERS).try_for_each(|nth| Network::front().stay(host, &format!("c{nth}")).map(drop))
    })?;
    let whole = usize::from(HOSTS - 1) * (CONTAINERS + 1);
    on_each(hosts, |host| has(host, whole, Instant::now()))?;
    let mut all = vec![in_time("all entries of 50 hosts after the start", start(hosts, whole)?, 20_000)];
    let followers = hosts.iter().skip(1).map(Monitors::new).collect::<Result<Vec<_>>>()?;
    let one = hosts.first().context("a host")?;
    let mut times = vec![];
    for round in 0..ROUNDS {
        let guest = one.container(&format!("more{round}"))?;
        let called = Instant::now();
        let (address, _) = Network::front().add(one, &guest)?;
        let returned = Instant::now();
        let mut last: f64 = 0.0;
        for follower in &followers {
            last = last.max(follower.follow(&address, called, returned)?);
        }
        times.push(last);
        Network::front().del(one, &guest)?;
        one.remove(&guest)?;
    }
    drop(followers);
    all.push(in_time("entries on the last of 50 hosts, p95", percentile(&times, 95), 200));
    let last = hosts.get(hosts.len() - 1..).context("a host")?;
    let starts = (0..STARTS).map(|_| start(last, whole)).collect::<Result<Vec<_>>>()?;
    all.push(in_time("all entries of one host after its start", median(&starts), 500));
    all.extend(agent::among(one, "50 hosts")?);
    Ok(all)
}

/// Does some work for each host, a few at once.
fn on_each<'r>(hosts: &[Host<'r>], work: impl Fn(&Host<'r>) -> Result<()> + Sync) -> Result<()> {
    let (share, work) = (hosts.len().div_ceil(AT_ONCE).max(1), &work);
    std::thread::scope(|scope| {
        let shares = hosts.chunks(share);
        let threads: Vec<_> =
            shares.map(|hosts| scope.spawn(move || hosts.iter().try_for_each(work))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

/// The milliseconds from the start of the hosts' agents, which had ended, until their hosts have all
/// entries, which were gone.
fn start(hosts: &[Host<'_>], whole: usize) -> Result<f64> {
    on_each(hosts, |host| {
        host.signal_agent(Signal::SIGKILL)?;
        let killed = Instant::now();
        while host.agent()?.is_some() {
            ensure!(killed.elapsed() < END, "the agent of {} does not end", host.name);
            std::thread::sleep(LOOK);
        }
        empty(host)
    })?;
    let began = Instant::now();
    on_each(hosts, |host| {
        // STATUS is for no container; it starts the agent.
        let nobody = Guest { id: "nobody".into(), ns: "nobody".into() };
        let config = Network::front().with(json!({"cniVersion": "1.1.0"})).config;
        let status = host.attach("overlay", "STATUS", &nobody, &config)?;
        status.silent().with_context(|| format!("STATUS on {}", host.name))
    })?;
    on_each(hosts, |host| has(host, whole, began))?;
    Ok(millis(began.elapsed()))
}

/// Waits until a host has that many entries of MAC addresses.
fn has(host: &Host<'_>, whole: usize, began: Instant) -> Result<()> {
    loop {
        let have = host.fdb()?.len();
        if have == whole {
            return Ok(());
        }
        ensure!(began.elapsed() < PLENTY, "{} has {have} of {whole} entries", host.name);
        std::thread::sleep(LOOK);
    }
}

/// Deletes a host's entries of others.
fn empty(host: &Host<'_>) -> Result<()> {
    let text = ip::output("bridge", &["-n", &host.name, "fdb", "show"])?;
    let mut lines = BTreeSet::new();
    for line in text.lines().filter(|line| line.contains(" dst ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [mac, "dev", device, "dst", to, ..] = words[..] else { continue };
        lines.insert(format!("fdb del {mac} dev {device} dst {to} self"));
    }
    batch(host, "bridge", &lines)?;
    let text = ip::output("ip", &["-n", &host.name, "neigh", "show", "nud", "permanent"])?;
    let mut lines = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [address, "dev", device, ..] = words[..] else { continue };
        lines.insert(format!("neigh del {address} dev {device}"));
    }
    batch(host, "ip", &lines)
}

fn batch(host: &Host<'_>, program: &str, lines: &BTreeSet<String>) -> Result<()> {
    let path = format!("{SCRATCH}/{}.{program}", host.name);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, text).with_context(|| format!("write {path}"))?;
    ip::output(program, &["-n", &host.name, "-batch", &path])?;
    std::fs::remove_file(&path).with_context(|| format!("remove {path}"))
}
