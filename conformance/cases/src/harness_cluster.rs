//! The harness's many hosts and real etcd work as documented. No suite takes part.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::need::Need;
use harness::room::Room;

pub const CASES: &[Case] =
    &[Case::new("harness/hosts_share_an_etcd_that_can_be_cut", &["HA-12"], cluster).needs(&[Need::Etcd])];

/// Ample time for a packet between hosts.
const AMPLE: Duration = Duration::from_millis(700);

fn cluster(room: &Room) -> Result<()> {
    let mut cluster = Cluster::new(room, 3, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    fs::write("/run/of-the-room", "")?;
    one.inside(|| {
        fs::write("/var/lib/moor/own", "one")?;
        ensure!(!fs::exists("/run/of-the-room")?, "a host sees /run of the room");
        Ok(())
    })?;
    two.inside(|| {
        ensure!(!fs::exists("/var/lib/moor/own")?, "a host sees another's files");
        Ok(())
    })?;
    let guest = one.container("c1")?;
    one.inside(|| {
        ensure!(fs::exists("/run/netns/c1")?, "a container is not on its host");
        Ok(())
    })?;
    two.inside(|| {
        ensure!(!fs::exists("/run/netns/c1")?, "a container is on another host");
        Ok(())
    })?;
    one.remove(&guest)?;

    let reach = |name: &str| {
        let to = two.address;
        harness::namespace::inside(name, || harness::socket::reach(to, AMPLE).map(drop))
    };
    reach("h1")?;
    cluster.cut("h1")?;
    ensure!(reach("h1").is_err(), "a host that is cut off reaches another");
    reach("e1")?;
    cluster.heal("h1")?;
    cluster.until(AMPLE, || reach("h1"))?;
    cluster.cut_from_etcd("h2")?;
    ensure!(reach("e1").is_err(), "etcd reaches a host that is cut off from it");
    reach("h1")?;
    cluster.heal_to_etcd("h2")?;
    reach("e1")?;

    let etcd = &cluster.etcd;
    etcd.ctl(&["put", "/moor/1/meta", "{\"v\":1}"])?;
    ensure!(etcd.keys("")? == ["meta"] && etcd.value("meta")?["v"] == 1, "etcd lost a key");
    cluster.cut("e3")?;
    let write = |nth: usize| etcd.ctl_at(&etcd.members[nth], &["put", "/moor/1/x", "1"]);
    ensure!(write(2).is_err(), "a member without the others takes a write");
    cluster.until(Duration::from_secs(10), || write(0).map(drop))?;
    cluster.heal("e3")?;
    cluster.until(Duration::from_secs(10), || write(2).map(drop))?;
    etcd.compact()?;
    etcd.members[0].pause()?;
    cluster.until(Duration::from_secs(10), || write(1).map(drop))?;
    etcd.members[0].resume()?;
    cluster.etcd.all(false)?;
    ensure!(cluster.etcd.keys("").is_err(), "members that were killed answer");
    cluster.etcd.all(true)?;
    ensure!(cluster.etcd.keys("")? == ["meta", "x"], "a restarted etcd has lost keys");
    Ok(())
}
