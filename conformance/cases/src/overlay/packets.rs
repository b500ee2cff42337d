//! What containers of several hosts exchange, and what the kernel needs for it.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::ip;
use harness::room::Room;
use serde_json::json;

use super::{AMPLE, HOSTS, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/every_container_reaches_every_other", &["O-020", "S-35"], mesh).needs(HOSTS),
    Case::new("overlay/lost_entries_are_made_again", &["O-024"], repaired).needs(HOSTS),
];

fn mesh(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let config = config(&json!({}));
    let mut all = vec![];
    for host in &cluster.hosts {
        for id in ["a", "b"] {
            all.push(add(host, id, &config)?);
        }
    }
    cluster.until(SECONDS(2), || {
        all.iter().try_for_each(|(guest, _)| {
            let mut others = all.iter().flat_map(|(_, result)| addresses(result));
            others.try_for_each(|to| guest.reach(&to, AMPLE).map(drop))
        })
    })?;
    Ok(())
}

fn repaired(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, _) = add(one, "a", &config(&json!({})))?;
    let (_, result) = add(two, "b", &config(&json!({})))?;
    let reach = || guest.reach(&addresses(&result)[0], AMPLE).map(drop);
    cluster.until(SECONDS(2), reach)?;
    let links = one.links()?;
    let device = links.iter().find(|link| link.starts_with("mx")).context("no VXLAN device")?;
    let before = one.fdb()?;
    ip::run_in(&one.name, &["neigh", "flush", "dev", device, "nud", "permanent"])?;
    cluster.until(SECONDS(2), reach)?;
    ip::run_in(&one.name, &["link", "del", device])?;
    cluster.until(SECONDS(2), || {
        let (links, entries) = (one.links()?, one.fdb()?);
        ensure!(entries == before, "links are {links:?}, entries {entries:?}, not {before:?}");
        reach()
    })?;
    Ok(())
}
