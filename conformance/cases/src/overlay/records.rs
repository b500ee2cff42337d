//! Records of a newer release on a host of a cluster, on which this one was installed again.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::config::with;
use harness::room::Room;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{AMPLE, HOSTS, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[Case::new(
    "overlay/a_newer_record_keeps_its_container_in_the_cluster",
    &["HO-41", "HO-42", "HO-43"],
    newer,
)
.needs(HOSTS)];

const NAMED: &str = "a newer release wrote it: it is of version 2";

/// The record of an attachment of the host that this runs on.
fn record(attachment: &str) -> Result<PathBuf> {
    let places = fs::read_dir("/run/moor/overlay").context("there is no agent's directory")?.flatten();
    let mut paths = places.map(|place| place.path().join(format!("att/front/{attachment}.json")));
    paths.find(|path| path.exists()).with_context(|| format!("{attachment} has no record"))
}

fn newer(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, _) = add(one, "a", &config(&json!({})))?;
    let (living, result) = add(two, "b", &config(&json!({})))?;
    let to = addresses(&result).remove(0);
    cluster.until(SECONDS(2), || guest.reach(&to, AMPLE).map(drop))?;
    two.inside(|| {
        let path = record("b@eth0")?;
        let text = fs::read_to_string(&path)?;
        ensure!(text.starts_with("{\"v\":1,"), "{text}");
        Ok(fs::write(&path, text.replacen("{\"v\":1,", "{\"v\":2,\"netns\":7,", 1))?)
    })?;
    // An agent that has never seen the record otherwise.
    two.signal_agent(Signal::SIGKILL)?;
    let (short, _) = add(two, "c", &config(&json!({})))?;
    let is_there = |id: &str| -> Result<bool> {
        Ok(cluster.etcd.keys("ep/front/")?.iter().any(|key| key.ends_with(&format!("/{id}@eth0"))))
    };
    cluster.until(SECONDS(2), || {
        ensure!(is_there("c")?, "c is not published");
        Ok(())
    })?;
    ensure!(is_there("b")?, "b is alive, and not in the cluster any more");
    guest.reach(&to, AMPLE).context("b is alive")?;
    let newest = with(&config(&json!({})), json!({"cniVersion": "1.1.0"}));
    two.attach("overlay", "STATUS", &living, &newest)?.error_with(50, NAMED)?;
    two.attach("overlay", "DEL", &short, &config(&json!({})))?.silent()?;
    ensure!(is_there("b")?, "another's DEL took b out of the cluster");
    let answer = two.attach("overlay", "DEL", &living, &config(&json!({})))?;
    answer.silent()?;
    ensure!(answer.stderr.contains(NAMED) && answer.stderr.contains("b@eth0"), "{}", answer.summary());
    ensure!(two.inside(|| Ok(record("b@eth0").is_err()))?, "DEL left the record");
    cluster.until(SECONDS(2), || {
        ensure!(!is_there("b")?, "b is in the cluster still");
        Ok(())
    })?;
    Ok(())
}
