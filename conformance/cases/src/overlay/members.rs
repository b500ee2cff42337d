//! The life of etcd's members, of agents and of hosts.

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::config::with;
use harness::room::Room;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{AMPLE, FIRST, HOSTS, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/a_paused_etcd_delays_no_add_from_an_own_block", &["O-003"], paused).needs(HOSTS),
    Case::new("overlay/nothing_is_taken_away_while_etcd_is_away", &["O-080", "O-097"], away).needs(HOSTS),
    Case::new("overlay/a_killed_agent_loses_nothing", &["O-083"], agent_killed).needs(HOSTS),
    Case::new("overlay/a_cloned_host_serves_nothing", &["O-088"], cloned).needs(HOSTS),
];

fn paused(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 1)?;
    add(&cluster.hosts[0], "a", &config(&json!({})))?;
    cluster.etcd.members[0].pause()?;
    let added = add(&cluster.hosts[0], "b", &config(&json!({})));
    cluster.etcd.members[0].resume()?;
    added.map(drop)
}

fn away(room: &Room) -> Result<()> {
    let mut cluster = Cluster::new(room, 1, 2)?;
    let (guest, first) = add(&cluster.hosts[0], "a", &config(&json!({})))?;
    let (other, result) = add(&cluster.hosts[1], "b", &config(&json!({})))?;
    let to = addresses(&result).remove(0);
    cluster.until(SECONDS(2), || guest.reach(&to, AMPLE).map(drop))?;
    cluster.etcd.all(false)?;
    let (late, _) = add(&cluster.hosts[0], "late", &config(&json!({})))?;
    guest.reach(&to, AMPLE)?;
    // Hosts that have not heard of it cannot answer it.
    late.reach(&addresses(&first)[0], AMPLE)?;
    cluster.hosts[1].attach("overlay", "DEL", &other, &config(&json!({})))?.silent()?;
    cluster.etcd.all(true)?;
    cluster.until(SECONDS(10), || {
        let keys = cluster.etcd.keys("ep/front/")?;
        ensure!(keys.len() == 2 && keys.iter().any(|key| key.ends_with("late@eth0")), "{keys:?}");
        Ok(())
    })?;
    Ok(())
}

fn agent_killed(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, _) = add(one, "a", &config(&json!({})))?;
    let (_, result) = add(two, "b", &config(&json!({})))?;
    let to = addresses(&result).remove(0);
    cluster.until(SECONDS(2), || guest.reach(&to, AMPLE).map(drop))?;
    for round in 0..10 {
        one.signal_agent(Signal::SIGKILL)?;
        guest.reach(&to, AMPLE)?;
        let id = format!("c{round}");
        let (short, _) = add(one, &id, &config(&json!({})))?;
        cluster.until(SECONDS(1), || short.reach(&to, FIRST).map(drop))?;
        one.attach("overlay", "DEL", &short, &config(&json!({})))?.silent()?;
        ensure!(one.agent()?.is_some(), "no agent after round {round}");
    }
    cluster.until(SECONDS(2), || {
        let keys = cluster.etcd.keys("ep/front/")?;
        ensure!(keys.len() == 2, "{keys:?}");
        Ok(())
    })?;
    Ok(())
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
