//! Hosts and networks that are taken away, and a host that comes back from a reboot.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::host::Host;
use harness::ip;
use harness::room::Room;
use serde_json::json;

use super::addresses::id;
use super::verbs::{TTL_S, nft};
use super::{HOSTS, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/leave_and_the_removals_leave_nothing", &["O-087"], removals).needs(HOSTS),
    Case::new("overlay/a_quick_reboot_waits_for_the_record_of_the_boot_before", &["O-009"], reboot)
        .needs(HOSTS),
];

/// Every key and value of etcd with a word.
fn mentions(cluster: &Cluster<'_>, word: &str) -> Result<Vec<String>> {
    let text = cluster.etcd.ctl(&["get", "--prefix", "/moor/"])?;
    Ok(text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect())
}

/// The files of a host that are its state.
fn files(host: &Host<'_>) -> Result<Vec<String>> {
    host.inside(|| {
        let text = ip::output("find", &["/var/lib/moor/overlay", "/run/moor/overlay", "-type", "f"])?;
        let is_state = |path: &&str| !path.ends_with("lock") && !path.ends_with("contact");
        Ok(text.lines().filter(is_state).map(str::to_owned).collect())
    })
}

fn removals(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let keys = json!({"hostTtlS": TTL_S});
    for host in &cluster.hosts {
        host.configure(&cluster.etcd.endpoints(), &keys)?;
    }
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (kept, _) = add(one, "kept", &config(&json!({})))?;
    let refused = |host: &Host<'_>, args: &[&str], words: &str| {
        let answer = host.overlay(args)?;
        ensure!(!answer.succeeded(), "{args:?} succeeded");
        ensure!(answer.stderr.contains(words), "no {words:?} in {}", answer.summary());
        Ok(())
    };
    let done = |host: &Host<'_>, args: &[&str]| {
        let answer = host.overlay(args)?;
        ensure!(answer.succeeded(), "{args:?}: {}", answer.summary());
        Ok(())
    };
    let gone = |who: &str| {
        let found = mentions(&cluster, who)?;
        ensure!(found.is_empty(), "etcd has {found:?}");
        let entries: Vec<_> =
            one.fdb()?.into_iter().filter(|entry| entry.contains(&two.address.to_string())).collect();
        ensure!(entries.is_empty(), "h1 has {entries:?}");
        let members = nft(one, "list set inet moor overlay-members4")?;
        ensure!(!members.contains(&two.address.to_string()), "the guard lets h2 in: {members}");
        Ok(())
    };
    // leave
    let (guest, _) = add(two, "b", &config(&json!({})))?;
    let who = id(two)?;
    refused(two, &["leave"], "1 containers")?;
    two.attach("overlay", "DEL", &guest, &config(&json!({})))?.silent()?;
    done(two, &["leave"])?;
    cluster.until(SECONDS(2), || gone(&who)).context("h2 left")?;
    let left = files(two)?;
    ensure!(left.is_empty() && two.links()?.is_empty(), "left: {left:?}, {:?}", two.links()?);
    let tables = nft(two, "list tables")?;
    ensure!(!tables.contains("moor"), "h2 has {tables}");
    cluster.until(SECONDS(2), || {
        ensure!(two.agent()?.is_none(), "h2 has an agent");
        Ok(())
    })?;
    // host remove
    two.attach("overlay", "ADD", &guest, &config(&json!({})))?.result()?;
    let who = id(two)?;
    refused(one, &["host", "remove", "h2", "--dead"], "is alive")?;
    two.die()?;
    cluster.until(SECONDS(10), || refused(one, &["host", "remove", "h2"], "not removed"))?;
    cluster.until(SECONDS(10), || done(one, &["host", "remove", "h2", "--dead"]))?;
    cluster.until(SECONDS(2), || gone(&who)).context("h2 was removed")?;
    // network rm
    refused(one, &["network", "rm", "front"], "attachments")?;
    one.attach("overlay", "DEL", &kept, &config(&json!({})))?.silent()?;
    done(one, &["network", "rm", "front"])?;
    let found = mentions(&cluster, "front")?;
    ensure!(found.is_empty(), "etcd has {found:?}");
    cluster.until(SECONDS(2), || {
        let left: Vec<_> = files(one)?.into_iter().filter(|path| path.contains("front")).collect();
        ensure!(left.is_empty() && one.links()?.is_empty(), "left: {left:?}, {:?}", one.links()?);
        Ok(())
    })?;
    refused(one, &["network", "rm", "front"], "no network")
}

fn reboot(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 1)?;
    let host = &cluster.hosts[0];
    host.configure(&cluster.etcd.endpoints(), &json!({"hostTtlS": TTL_S, "timeoutMs": 10_000}))?;
    let (guest, result) = add(host, "a", &config(&json!({})))?;
    let address = addresses(&result).remove(0);
    let lease =
        host.inside(|| Ok(std::fs::read_to_string(format!("/var/lib/cni/networks/front/{address}"))?))?;
    ensure!(lease == "a\r\neth0", "the lease is {lease:?}");
    let blocks = cluster.etcd.keys("blk/front/")?;
    let alive = cluster.etcd.value(&format!("alive/{}", id(host)?))?;
    host.remove(&guest)?;
    host.reboot()?;
    // The record of the boot before stands for seconds yet: an ADD waits for its end.
    let (_, result) = add(host, "b", &config(&json!({}))).context("right after the reboot")?;
    let new = cluster.etcd.value(&format!("alive/{}", id(host)?))?;
    ensure!(new["boot"] != alive["boot"], "{new} is of the boot before");
    ensure!(cluster.etcd.keys("blk/front/")? == blocks, "the host has other blocks than before");
    let leases = host.inside(|| Ok(std::fs::exists(format!("/var/lib/cni/networks/front/{address}"))?))?;
    ensure!(!leases || addresses(&result).contains(&address), "the lease of the boot before is still there");
    let keys = cluster.etcd.keys("ep/front/")?;
    ensure!(keys.len() == 1 && keys[0].ends_with("b@eth0"), "{keys:?}");
    Ok(())
}
