//! The fates of hosts and their agents: killed, replaced, cut off, cloned, moved.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::cluster::pings::Pings;
use harness::cluster::stranger;
use harness::config::with;
use harness::room::Room;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{AMPLE, FIRST, HOSTS, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/a_killed_agent_loses_nothing", &["O-083"], agent_killed).needs(HOSTS),
    Case::new("overlay/a_replaced_agent_loses_nothing", &["O-091"], replaced).needs(HOSTS),
    Case::new("overlay/a_host_that_is_cut_off_keeps_what_it_has", &["O-086"], cut_off).needs(HOSTS),
    Case::new("overlay/a_cloned_host_serves_nothing", &["O-088"], cloned).needs(HOSTS),
    Case::new("overlay/peers_follow_a_host_to_another_address", &["O-089"], moved).needs(HOSTS),
];

/// Attaches and detaches containers of a host until it is told to stop; returns how many.
fn load(host: &Host, id: &str, stop: &AtomicBool) -> Result<usize> {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let (guest, _) = add(host, &format!("{id}{count}"), &config(&json!({})))?;
        host.attach("overlay", "DEL", &guest, &config(&json!({})))?.silent()?;
        host.remove(&guest)?;
        count += 1;
    }
    Ok(count)
}

/// Does something while hosts have that load.
fn under_load<R>(hosts: &[&Host], work: impl FnOnce() -> Result<R>) -> Result<R> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads: Vec<_> = hosts.iter().map(|host| scope.spawn(|| load(host, "load", &stop))).collect();
        let done = work();
        stop.store(true, Ordering::Relaxed);
        for load in loads {
            let count = load.join().map_err(|_| anyhow!("the load panicked"))??;
            ensure!(count > 0, "there was no load");
        }
        done
    })
}

/// Attaches a container to each of two hosts: the first, and the address at which it reaches the
/// second.
fn pair(cluster: &Cluster, one: &Host, two: &Host) -> Result<(Guest, String)> {
    let (guest, _) = add(one, "a", &config(&json!({})))?;
    let (_, result) = add(two, "b", &config(&json!({})))?;
    let to = addresses(&result).remove(0);
    cluster.until(SECONDS(2), || guest.reach(&to, AMPLE).map(drop))?;
    Ok((guest, to))
}

fn agent_killed(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, to) = pair(&cluster, one, two)?;
    let links = one.links()?;
    let pings = Pings::start(&guest, std::slice::from_ref(&to))?;
    under_load(&[one], || {
        for round in 0..10 {
            cluster.until(SECONDS(1), || one.signal_agent(Signal::SIGKILL))?;
            let (short, _) = add(one, &format!("c{round}"), &config(&json!({})))?;
            ensure!(one.agent()?.is_some(), "no agent after round {round}");
            cluster.until(SECONDS(1), || short.reach(&to, FIRST).map(drop))?;
            one.attach("overlay", "DEL", &short, &config(&json!({})))?.silent()?;
        }
        Ok(())
    })?;
    pings.none_lost()?;
    cluster.until(SECONDS(2), || {
        let (keys, left) = (cluster.etcd.keys("ep/front/")?, one.links()?);
        ensure!(keys.len() == 2 && left == links, "etcd has {keys:?}, the host {left:?} and not {links:?}");
        Ok(())
    })?;
    Ok(())
}

fn replaced(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, to) = pair(&cluster, one, two)?;
    // A host of a release that is newer: what this one does not know of it is left alone.
    cluster.etcd.change(&stranger::host(2))?;
    cluster.etcd.change(&[("ep/front/feedfeedfeedfeed/odd@eth0".into(), Some(json!({"v": 2})))])?;
    let (changes, mut entries) = stranger::containers(&cluster.etcd, 200)?;
    let pings = Pings::start(&guest, &[to])?;
    let program = room.suite.join("overlay-agent");
    let before = one.agent()?;
    under_load(&[one, two], || {
        for changes in changes.chunks(40) {
            let answer = one.ask(&json!({"ask": "reexec", "path": program}))?;
            ensure!(answer["outcome"] == "done", "{answer}");
            cluster.etcd.change(changes)?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    })?;
    pings.none_lost()?;
    ensure!(before == one.agent()?, "the agent is another process: {before:?}, {:?}", one.agent()?);
    entries.sort();
    for host in &cluster.hosts {
        cluster.until(SECONDS(4), || {
            let there = host.fdb()?;
            let missing: Vec<_> = entries.iter().filter(|entry| !there.contains(entry)).collect();
            ensure!(missing.is_empty(), "{} has not {missing:?}", host.name);
            Ok(())
        })?;
        let status = host.status()?;
        ensure!(status["left_out"] == 1 || status["leftOut"] == 1, "{status}");
    }
    let odd = cluster.etcd.value("ep/front/feedfeedfeedfeed/odd@eth0")?;
    ensure!(odd["v"] == 2, "a record of a newer release is {odd}");
    Ok(())
}

fn cut_off(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    for host in &cluster.hosts {
        host.configure(&cluster.etcd.endpoints(), &json!({"hostTtlS": 3}))?;
    }
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, _) = add(one, "a", &config(&json!({})))?;
    let (_, result) = add(two, "b", &config(&json!({})))?;
    let (gone, last) = add(two, "gone", &config(&json!({})))?;
    let to = addresses(&result).remove(0);
    cluster.until(SECONDS(2), || guest.reach(&addresses(&last)[0], AMPLE).map(drop))?;
    let id = id(two)?;
    let (blocks, table) = (cluster.etcd.keys("blk/front/")?, one.fdb()?);
    let pings = Pings::start(&guest, &[to])?;
    cluster.cut_from_etcd("h2")?;
    cluster.until(SECONDS(6), || {
        let silent = cluster.etcd.keys("silent/")?;
        ensure!(silent == [format!("silent/{id}")], "silent are {silent:?}");
        Ok(())
    })?;
    two.attach("overlay", "DEL", &gone, &config(&json!({})))?.silent()?;
    let (_, new) = add(two, "new", &config(&json!({})))?;
    add(one, "other", &config(&json!({})))?;
    ensure!(one.fdb()? == table, "entries were {table:?} and are {:?}", one.fdb()?);
    let all: Vec<_> = cluster.etcd.keys("ep/front/")?;
    ensure!(all.iter().filter(|key| key.contains(&id)).count() == 2, "of h2 there is {all:?}");
    cluster.heal_to_etcd("h2")?;
    cluster.until(SECONDS(10), || {
        let of_two = cluster.etcd.keys(&format!("ep/front/{id}/"))?;
        let marks = [cluster.etcd.keys("silent/")?, cluster.etcd.keys("grace/")?].concat();
        let names: Vec<_> = of_two.iter().filter_map(|key| key.rsplit('/').next()).collect();
        ensure!(names == ["b@eth0", "new@eth0"] && marks.is_empty(), "{of_two:?}, {marks:?}");
        Ok(())
    })?;
    cluster.until(SECONDS(2), || guest.reach(&addresses(&new)[0], AMPLE).map(drop))?;
    pings.none_lost()?;
    let now = cluster.etcd.keys("blk/front/")?;
    ensure!(now == blocks, "blocks were {blocks:?} and are {now:?}");
    Ok(())
}

/// The id of a host.
fn id(host: &Host) -> Result<String> {
    let status: Value = host.status()?;
    Ok(status["host"].as_str().with_context(|| format!("no id in {status}"))?.to_owned())
}

fn cloned(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (_, _) = add(one, "a", &config(&json!({})))?;
    two.clone_identity(one)?;
    let before = cluster.etcd.keys("")?;
    let status = two.call("overlay", "STATUS", &two.container("x")?);
    let config = with(&config(&json!({})), json!({"cniVersion": "1.1.0"}));
    two.run(status.config(&config))?.error_code(50)?;
    let after = cluster.etcd.keys("")?;
    ensure!(before == after, "etcd had {before:?} and has {after:?}");
    Ok(())
}

fn moved(room: &Room) -> Result<()> {
    let mut cluster = Cluster::new(room, 1, 3)?;
    let (guest, _) = add(&cluster.hosts[0], "a", &config(&json!({})))?;
    let (third, _) = add(&cluster.hosts[2], "c", &config(&json!({})))?;
    let mut results = vec![];
    for nth in 0..5 {
        results.push(add(&cluster.hosts[1], &format!("b{nth}"), &config(&json!({})))?.1);
    }
    let all: Vec<_> = results.iter().map(|result| addresses(result).remove(0)).collect();
    let reach = || {
        all.iter().try_for_each(|to| guest.reach(to, AMPLE).and_then(|_| third.reach(to, AMPLE)).map(drop))
    };
    cluster.until(SECONDS(2), reach)?;
    let id = id(&cluster.hosts[1])?;
    let old = cluster.hosts[1].address.to_string();
    cluster.hosts[1].move_to([192, 0, 2, 77].into())?;
    cluster.until(SECONDS(10), || {
        let host = cluster.etcd.value(&format!("host/{id}"))?;
        ensure!(host["addresses"] == json!(["192.0.2.77"]), "{host}");
        Ok(())
    })?;
    cluster.until(SECONDS(2), || {
        for host in [&cluster.hosts[0], &cluster.hosts[2]] {
            let entries = host.fdb()?;
            let is_old = entries.iter().any(|entry| entry.ends_with(&format!(" {old}")));
            ensure!(!is_old, "{} has {entries:?}", host.name);
        }
        reach()
    })?;
    Ok(())
}
