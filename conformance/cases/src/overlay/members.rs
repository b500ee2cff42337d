//! The fates of etcd's members: stopped, paused, without a quorum, compacted, restored.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::etcd::Member;
use harness::cluster::host::{Guest, Host};
use harness::cluster::pings::Pings;
use harness::cluster::stranger;
use harness::patience::on_this_machine;
use harness::room::Room;
use serde_json::json;

use super::{AMPLE, HOSTS, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/a_paused_etcd_delays_no_add_from_an_own_block", &["O-003"], paused).needs(HOSTS),
    Case::new("overlay/nothing_is_taken_away_while_etcd_is_away", &["O-080", "O-097"], away).needs(HOSTS),
    Case::new("overlay/another_member_is_watched_when_one_hangs", &["O-081"], hanging).needs(HOSTS),
    Case::new("overlay/a_compaction_takes_no_living_peer_away", &["O-082"], compacted).needs(HOSTS),
    Case::new("overlay/a_restored_etcd_is_made_whole", &["O-085"], restored).needs(HOSTS),
];

/// How long the members are stopped.
const STOPPED: Duration = Duration::from_secs(20);
/// From when on after that calls do not ask etcd any more.
const NOTICED: Duration = Duration::from_secs(6);

fn paused(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 1)?;
    add(&cluster.hosts[0], "a", &config(&json!({})))?;
    cluster.etcd.members[0].pause()?;
    let added = add(&cluster.hosts[0], "b", &config(&json!({})));
    cluster.etcd.members[0].resume()?;
    added.map(drop)
}

/// The quickest ADD and the quickest DEL of some.
fn quickest(host: &Host, id: &str, count: usize) -> Result<(Duration, Duration)> {
    let mut quickest = (Duration::MAX, Duration::MAX);
    for nth in 0..count {
        let guest = host.container(&format!("{id}{nth}"))?;
        let began = Instant::now();
        host.attach("overlay", "ADD", &guest, &config(&json!({})))?.result()?;
        quickest.0 = quickest.0.min(began.elapsed());
        let began = Instant::now();
        host.attach("overlay", "DEL", &guest, &config(&json!({})))?.silent()?;
        quickest.1 = quickest.1.min(began.elapsed());
        host.remove(&guest)?;
    }
    Ok(quickest)
}

fn away(room: &Room) -> Result<()> {
    let mut cluster = Cluster::new(room, 1, 2)?;
    let (guest, first) = add(&cluster.hosts[0], "a", &config(&json!({})))?;
    let (other, result) = add(&cluster.hosts[1], "b", &config(&json!({})))?;
    let (gone, _) = add(&cluster.hosts[1], "gone", &config(&json!({})))?;
    let to = addresses(&result).remove(0);
    cluster.until(SECONDS(2), || guest.reach(&to, AMPLE).map(drop))?;
    let pings = [Pings::start(&guest, &[to])?, Pings::start(&other, &addresses(&first)[..1])?];
    cluster.etcd.all(false)?;
    let began = Instant::now();
    let (late, _) = add(&cluster.hosts[0], "late", &config(&json!({})))?;
    // Hosts that have not heard of it cannot answer it.
    late.reach(&addresses(&first)[0], AMPLE)?;
    cluster.hosts[1].attach("overlay", "DEL", &gone, &config(&json!({})))?.silent()?;
    std::thread::sleep(NOTICED.saturating_sub(began.elapsed()));
    let now = quickest(&cluster.hosts[0], "now", 7)?;
    // Far below `timeoutMs`: nobody waits for etcd. How much longer it takes is the benchmark's.
    let most = on_this_machine(SECONDS(1));
    ensure!(now.0 <= most && now.1 <= most, "ADD and DEL take {now:?} while etcd is away");
    std::thread::sleep(STOPPED.saturating_sub(began.elapsed()));
    cluster.etcd.all(true)?;
    cluster.until(SECONDS(10), || {
        let keys = cluster.etcd.keys("ep/front/")?;
        ensure!(keys.len() == 3 && keys.iter().any(|key| key.ends_with("late@eth0")), "{keys:?}");
        Ok(())
    })?;
    for host in &cluster.hosts {
        cluster.until(SECONDS(5), || {
            let status = host.status()?;
            ensure!(status["queued"] == 0, "{}: {status}", host.name);
            Ok(())
        })?;
        let status = host.status()?;
        ensure!(status["repaired"] == 0, "{}: {status}", host.name);
    }
    pings.into_iter().try_for_each(|pings| pings.none_lost().map(drop))
}

/// The member that a host's agent speaks to.
fn member_of<'c>(cluster: &'c Cluster<'_>, host: &Host) -> Result<&'c Member> {
    let mut found = None;
    cluster.until(SECONDS(5), || {
        let status = host.status()?;
        let mut members = cluster.etcd.members.iter();
        found = members.find(|member| status["member"] == member.endpoint());
        found.map(drop).with_context(|| format!("no member is that of {status}"))
    })?;
    found.context("a member")
}

fn hanging(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 3, 1)?;
    let host = &cluster.hosts[0];
    add(host, "a", &config(&json!({})))?;
    cluster.etcd.change(&stranger::host(1))?;
    let (changes, all) = stranger::containers(&cluster.etcd, 600)?;
    for how in ["without a quorum", "paused"] {
        let member = member_of(&cluster, host)?;
        let other = cluster.etcd.members.iter().find(|other| other.name != member.name).context("another")?;
        match how {
            "paused" => member.pause()?,
            _ => cluster.isolate(&member.name)?,
        }
        // Every change has a number; those with an odd one go again.
        cluster.etcd.change_at(other, &changes)?;
        let odd = |key: &str| (1..600).step_by(2).any(|number| key.ends_with(&format!("/n{number}@eth0")));
        let gone: Vec<_> =
            changes.iter().filter(|(key, _)| odd(key)).map(|(key, _)| (key.clone(), None)).collect();
        cluster.etcd.change_at(other, &gone)?;
        let came = cluster.until(SECONDS(17), || {
            let entries = host.fdb()?;
            let missing = all.iter().filter(|entry| entries.contains(entry)).count();
            ensure!(missing == 300, "{missing} of 300 entries are there");
            Ok(())
        });
        came.with_context(|| format!("{} is {how}", member.name))?;
        match how {
            "paused" => member.resume()?,
            _ => cluster.reunite(&member.name)?,
        }
        cluster.etcd.wait()?;
        let all_gone: Vec<_> = changes.iter().map(|(key, _)| (key.clone(), None)).collect();
        cluster.etcd.change(&all_gone)?;
        cluster.until(SECONDS(17), || {
            let entries = host.fdb()?;
            ensure!(entries.is_empty(), "{} entries are left", entries.len());
            Ok(())
        })?;
    }
    Ok(())
}

fn compacted(room: &Room) -> Result<()> {
    let mut cluster = Cluster::new(room, 1, 2)?;
    let (guest, _) = add(&cluster.hosts[0], "a", &config(&json!({})))?;
    let (_, result) = add(&cluster.hosts[1], "b", &config(&json!({})))?;
    let (gone, gone_result) = add(&cluster.hosts[1], "gone", &config(&json!({})))?;
    let to = addresses(&result).remove(0);
    cluster.until(SECONDS(2), || {
        let reached = addresses(&gone_result).iter().try_for_each(|to| guest.reach(to, AMPLE).map(drop));
        reached.and_then(|()| guest.reach(&to, AMPLE).map(drop))
    })?;
    let gone_mac = mac(&gone)?;
    let deletions = cluster.hosts[0].watch_deletions()?;
    let before = deletions.lines()?.len();
    let pings = Pings::start(&guest, &[to])?;
    cluster.cut_from_etcd("h1")?;
    cluster.hosts[1].attach("overlay", "DEL", &gone, &config(&json!({})))?.silent()?;
    let (_, new) = add(&cluster.hosts[1], "new", &config(&json!({})))?;
    cluster.etcd.compact()?;
    // The connection of h1 ends, so that it reads everything.
    cluster.etcd.all(false)?;
    cluster.etcd.all(true)?;
    cluster.heal_to_etcd("h1")?;
    cluster.until(SECONDS(12), || guest.reach(&addresses(&new)[0], AMPLE).map(drop))?;
    cluster.until(SECONDS(2), || {
        let entries = cluster.hosts[0].fdb()?;
        ensure!(!entries.iter().any(|entry| entry.starts_with(&gone_mac)), "{gone_mac} is in {entries:?}");
        Ok(())
    })?;
    pings.none_lost()?;
    let lines = deletions.lines()?;
    let its: Vec<_> = addresses(&gone_result).into_iter().chain([gone_mac]).collect();
    let of_peers = lines.iter().skip(before).filter(|line| line.contains(" dev mx"));
    let (its, others): (Vec<_>, Vec<_>) =
        of_peers.partition(|line| its.iter().any(|its| line.split(' ').any(|word| word == its)));
    ensure!(others.is_empty() && !its.is_empty(), "deleted: {others:?}, and rightly: {its:?}");
    Ok(())
}

fn restored(room: &Room) -> Result<()> {
    let mut cluster = Cluster::new(room, 1, 2)?;
    let (guest, first) = add(&cluster.hosts[0], "a", &config(&json!({})))?;
    cluster.etcd.change(&stranger::host(1))?;
    let snapshot = cluster.etcd.save()?;
    // A hundred changes: of hosts, and of one that the snapshot has without containers.
    let (other, result) = add(&cluster.hosts[1], "b", &config(&json!({})))?;
    for nth in 0..5 {
        add(&cluster.hosts[0], &format!("c{nth}"), &config(&json!({})))?;
        add(&cluster.hosts[1], &format!("c{nth}"), &config(&json!({})))?;
    }
    let (far, _) = stranger::containers(&cluster.etcd, 90)?;
    cluster.etcd.change(&far)?;
    cluster.etcd.change(&far.iter().map(|(key, _)| (key.clone(), None)).collect::<Vec<_>>())?;
    let to = addresses(&result).remove(0);
    cluster.until(SECONDS(2), || guest.reach(&to, AMPLE).map(drop))?;
    cluster.until(SECONDS(2), || {
        for host in &cluster.hosts {
            let entries = host.fdb()?;
            let far = entries.iter().any(|entry| entry.ends_with(stranger::ADDRESS));
            ensure!(!far && entries.len() == 7, "{} has {entries:?}", host.name);
        }
        Ok(())
    })?;
    let keys = |cluster: &Cluster<'_>| -> Result<Vec<String>> {
        let keys = cluster.etcd.keys("")?.into_iter();
        Ok(keys.filter(|key| !["meta", "ask/"].iter().any(|prefix| key.starts_with(prefix))).collect())
    };
    let tables = |cluster: &Cluster<'_>| cluster.hosts.iter().map(Host::fdb).collect::<Result<Vec<_>>>();
    let (all, table) = (keys(&cluster)?, tables(&cluster)?);
    let pings = [Pings::start(&guest, &[to])?, Pings::start(&other, &addresses(&first)[..1])?];
    cluster.etcd.restore(&snapshot)?;
    cluster.until(SECONDS(10), || {
        let (keys, table_now) = (keys(&cluster)?, tables(&cluster)?);
        let missing: Vec<_> = all.iter().filter(|key| !keys.contains(key)).collect();
        ensure!(missing.is_empty() && keys.len() == all.len(), "{missing:?} missing of {keys:?}");
        ensure!(table == table_now, "entries are {table_now:?} and were {table:?}");
        Ok(())
    })?;
    pings.into_iter().try_for_each(|pings| pings.none_lost().map(drop))?;
    doubled(&mut cluster, &snapshot)
}

/// Restores it again, and before hosts know, another host claims a block that one of them has.
fn doubled(cluster: &mut Cluster<'_>, snapshot: &std::path::Path) -> Result<()> {
    let id = cluster.hosts[1].status()?["host"].as_str().context("a host has an id")?.to_owned();
    let blocks = cluster.etcd.keys("blk/front/10.")?;
    let mut of_two = blocks
        .into_iter()
        .filter(|key| cluster.etcd.value(key).is_ok_and(|block| block["host"].as_str() == Some(id.as_str())));
    let block = of_two.next().context("h2 has a block")?;
    ["h1", "h2"].iter().try_for_each(|host| cluster.cut_from_etcd(host))?;
    cluster.etcd.restore(snapshot)?;
    cluster.etcd.change(&[(block.clone(), Some(json!({"v": 1, "host": stranger::ID})))])?;
    ["h1", "h2"].iter().try_for_each(|host| cluster.heal_to_etcd(host))?;
    cluster.until(SECONDS(10), || {
        let status = cluster.hosts[1].status()?;
        let warnings = status["warnings"].to_string();
        ensure!(warnings.contains(stranger::ID), "{block} is another's now; h2 says {status}");
        Ok(())
    })?;
    ensure!(cluster.etcd.value(&block)?["host"] == stranger::ID, "{block} was taken from its owner");
    Ok(())
}

/// The MAC address of a container.
fn mac(guest: &Guest) -> Result<String> {
    let link = harness::ip::link(Some(&guest.ns), "eth0")?;
    let link = link.with_context(|| format!("{} has no eth0", guest.ns))?;
    Ok(link["address"].as_str().context("a MAC address")?.to_owned())
}
