//! Five hosts with ADD and DEL load, whose agents are killed, while members of etcd are killed and
//! paused: no address twice, no record lost, nothing left behind, no ping lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use harness::cluster::Cluster;
use harness::cluster::etcd::Etcd;
use harness::cluster::host::{Guest, Host};
use harness::cluster::pings::Pings;
use harness::rng::Rng;
use harness::room::Room;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const HOSTS: u8 = 5;
const MEMBERS: u8 = 3;
/// Containers of a host beside the one that stays.
const MOST: usize = 6;
/// One in so many acts of a host kills its agent first.
const KILLS: u64 = 8;
/// The longest time that etcd is away as a whole.
const AWAY: Duration = Duration::from_secs(60);
/// How long hosts have to publish everything once etcd is back.
const PUBLISHED: Duration = Duration::from_secs(12);

/// Who has which address.
type Owners = Mutex<BTreeMap<String, String>>;
/// The addresses of each container of a host.
type Held = BTreeMap<String, (Guest, Vec<String>)>;

/// Runs it with a seed for so many seconds, and prints what was done.
pub fn job(room: &Room, seed: u64, seconds: u64) -> Result<()> {
    let mut cluster = Cluster::new(room, MEMBERS, HOSTS)?;
    let owners = Owners::default();
    let mut all = vec![];
    for host in &cluster.hosts {
        let mut held = Held::new();
        attach(host, "stays", &owners, &mut held)?;
        all.push(held);
    }
    let stays: Vec<_> = all.iter().map(|held| held["stays"].clone()).collect();
    let next = |nth: usize| stays[(nth + 1) % stays.len()].1[0].clone();
    for (nth, (guest, _)) in stays.iter().enumerate() {
        let reached = || guest.reach(&next(nth), Duration::from_millis(700)).map(drop);
        cluster.until(Duration::from_secs(4), reached)?;
    }
    let pings = stays.iter().enumerate().map(|(nth, (guest, _))| Pings::start(guest, &[next(nth)]));
    let pings = pings.collect::<Result<Vec<_>>>()?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let (etcd, hosts) = (&mut cluster.etcd, &cluster.hosts);
    let (acts, faults) = std::thread::scope(|scope| {
        let work = |(nth, (host, held))| {
            let (rng, owners) = (Rng::new(seed.wrapping_mul(1000).wrapping_add(nth)), &owners);
            scope.spawn(move || load(host, rng, until, owners, held).with_context(|| host.name.clone()))
        };
        let loads: Vec<_> = (1..).zip(hosts.iter().zip(&mut all)).map(work).collect();
        let faults = disturb(etcd, Rng::new(seed.wrapping_mul(1000)), until, seconds);
        let mut acts = 0;
        for load in loads {
            acts += load.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok::<_, anyhow::Error>((acts, faults?))
    })?;
    cluster.until(PUBLISHED, || is_whole(&cluster, &all))?;
    let sent = pings.into_iter().map(Pings::none_lost).sum::<Result<usize>>()?;
    for (host, held) in cluster.hosts.iter().zip(&mut all) {
        for id in held.keys().cloned().collect::<Vec<_>>() {
            detach(host, &id, &owners, held)?;
        }
    }
    cluster.until(PUBLISHED, || is_clean(&cluster))?;
    println!("{acts} ADD and DEL, {}, {sent} pings", faults.join(", "));
    Ok(())
}

/// Attaches and detaches containers of a host; returns how often.
fn load(host: &Host, mut rng: Rng, until: Instant, owners: &Owners, held: &mut Held) -> Result<usize> {
    let mut acts = 0;
    while Instant::now() < until {
        if rng.below(KILLS) == 0 {
            // There is none while the next call has not started it.
            drop(host.signal_agent(Signal::SIGKILL));
        }
        let mine: Vec<_> = held.keys().filter(|id| *id != "stays").cloned().collect();
        if mine.len() < MOST && (mine.is_empty() || rng.below(2) == 0) {
            attach(host, &format!("c{acts}"), owners, held)?;
        } else {
            detach(host, &mine[rng.index(mine.len())], owners, held)?;
        }
        acts += 1;
        std::thread::sleep(Duration::from_millis(rng.below(100)));
    }
    // It starts the agent again if that was killed last, which DEL does not.
    attach(host, "last", owners, held)?;
    Ok(acts)
}

fn attach(host: &Host, id: &str, owners: &Owners, held: &mut Held) -> Result<()> {
    let guest = host.container(id)?;
    let result = host.attach("overlay", "ADD", &guest, &config())?.result();
    let result: Value = result.with_context(|| format!("ADD {id}"))?;
    let ips = result["ips"].as_array().context("a result without addresses")?;
    let ips = ips.iter().filter_map(|ip| Some(ip["address"].as_str()?.split('/').next()?.to_owned()));
    let ips: Vec<String> = ips.collect();
    let mut owners = owners.lock().unwrap_or_else(PoisonError::into_inner);
    for ip in &ips {
        let own = format!("{id} on {}", host.name);
        if let Some(other) = owners.insert(ip.clone(), own) {
            bail!("{ip} of {id} is that of {other}");
        }
    }
    held.insert(id.to_owned(), (guest, ips));
    Ok(())
}

fn detach(host: &Host, id: &str, owners: &Owners, held: &mut Held) -> Result<()> {
    let (guest, ips) = held.remove(id).with_context(|| format!("no container {id}"))?;
    {
        // Before the call: another one may get the address before it has ended.
        let mut owners = owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|ip, _| !ips.contains(ip));
    }
    host.attach("overlay", "DEL", &guest, &config())?.silent().with_context(|| format!("DEL {id}"))?;
    host.remove(&guest)
}

/// Kills and pauses members, one, two or all of them; in the end all run.
fn disturb(etcd: &mut Etcd, mut rng: Rng, until: Instant, seconds: u64) -> Result<Vec<String>> {
    let (mut killed, mut paused) = (0, 0);
    while Instant::now() < until {
        let count = [1, 1, 1, 2, 2, MEMBERS.into()][rng.index(6)];
        let first = rng.index(etcd.members.len());
        let chosen: Vec<usize> = (0..count).map(|nth| (first + nth) % etcd.members.len()).collect();
        let is_pause = rng.below(2) == 0;
        for nth in &chosen {
            match is_pause {
                true => etcd.members[*nth].pause()?,
                false => etcd.members[*nth].kill(),
            }
        }
        *(if is_pause { &mut paused } else { &mut killed }) += chosen.len();
        let longest = AWAY.min(Duration::from_secs(seconds / 4)).as_millis().try_into()?;
        let pause = Duration::from_millis(500 + rng.below(longest));
        std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
        for nth in &chosen {
            match is_pause {
                true => etcd.members[*nth].resume()?,
                false => etcd.members[*nth].start()?,
            }
        }
        std::thread::sleep(Duration::from_millis(500 + rng.below(2500)));
    }
    etcd.wait()?;
    Ok(vec![format!("{killed} members killed"), format!("{paused} paused")])
}

/// Requires that etcd has each container, and each host the entries of all others.
fn is_whole(cluster: &Cluster<'_>, all: &[Held]) -> Result<()> {
    let mut expected = BTreeSet::new();
    for (host, held) in cluster.hosts.iter().zip(all) {
        let status = host.status()?;
        let id = status["host"].as_str().context("a host has an id")?;
        for (container, (_, ips)) in held {
            let key = format!("ep/front/{id}/{container}@eth0");
            let record = cluster.etcd.value(&key).with_context(|| format!("{container} on {}", host.name))?;
            ensure!(record["ips"] == json!(ips), "{container} on {} has {ips:?}: {record}", host.name);
            expected.insert(key);
        }
    }
    let keys: BTreeSet<_> = cluster.etcd.keys("ep/front/")?.into_iter().collect();
    let odd: Vec<_> = keys.symmetric_difference(&expected).collect();
    ensure!(odd.is_empty(), "etcd has not what hosts have: {odd:?}");
    for (host, held) in cluster.hosts.iter().zip(all) {
        // And the own address of each other host.
        let others = expected.len() - held.len() + cluster.hosts.len() - 1;
        let entries = host.fdb()?;
        ensure!(entries.len() == others, "{} has {} entries, not {others}", host.name, entries.len());
    }
    Ok(())
}

/// Requires that nothing of any container is left.
fn is_clean(cluster: &Cluster<'_>) -> Result<()> {
    let keys = cluster.etcd.keys("ep/")?;
    ensure!(keys.is_empty(), "etcd still has {keys:?}");
    for host in &cluster.hosts {
        let links = host.links()?;
        ensure!(links.is_empty(), "{} still has {links:?}", host.name);
        let leases = host.inside(|| {
            let names = std::fs::read_dir("/var/lib/cni/networks/front")?.flatten();
            let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            Ok(names.filter(|name| name.starts_with("10.") || name.starts_with("fd")).collect::<Vec<_>>())
        })?;
        ensure!(leases.is_empty(), "{} still has leases of {leases:?}", host.name);
    }
    Ok(())
}

fn config() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "front", "type": "overlay",
        "ipam": {"type": "cluster", "subnets": ["10.9.0.0/16", "fd00:9::/64"]},
    })
}
