//! Addresses of `cluster`: each given once, asked for, moved between hosts, and given back.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::ip;
use harness::room::Room;
use serde_json::{Value, json};

use super::{AMPLE, FIRST, HOSTS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/three_cold_hosts_give_no_address_twice", &["O-001", "S-36"], unique).needs(HOSTS),
    Case::new("overlay/an_address_moves_with_its_container", &["O-006", "O-005"], moves).needs(HOSTS),
    Case::new("overlay/links_come_and_go_with_the_only_container", &["O-092"], churn).needs(HOSTS),
];

fn unique(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 3, 3)?;
    let config = config(&json!({}));
    let given = std::thread::scope(|scope| {
        let work = |host: &Host| -> Result<Vec<String>> {
            let mut given = vec![];
            for nth in 0..30 {
                given.extend(addresses(&add(host, &format!("c{nth}"), &config)?.1));
            }
            Ok(given)
        };
        let hosts: Vec<_> = cluster.hosts.iter().map(|host| scope.spawn(move || work(host))).collect();
        let done = hosts.into_iter().map(|host| host.join().map_err(|_| anyhow::anyhow!("panicked"))?);
        done.collect::<Result<Vec<_>>>()
    })?
    .concat();
    let different: BTreeSet<_> = given.iter().collect();
    ensure!(given.len() == 180 && different.len() == 180, "{} of {} differ", different.len(), given.len());
    for host in cluster.etcd.keys("own/front/")? {
        let own = cluster.etcd.value(&host)?;
        let own = own["ips"].as_array().context("own addresses")?.iter().filter_map(Value::as_str);
        for address in own.chain(["10.9.0.0", "10.9.0.1", "10.9.255.255"]) {
            ensure!(!given.iter().any(|given| given == address), "{address} was given");
        }
    }
    Ok(())
}

fn moves(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let [one, two, three] = &cluster.hosts[..] else { unreachable!("three were asked for") };
    let (asker, _) = add(three, "asker", &config(&json!({})))?;
    let (first, result) = add(one, "moving", &config(&json!({})))?;
    let address = addresses(&result).remove(0);
    let asked = config(&json!({"runtimeConfig": {"ips": [format!("{address}/16")]}}));
    let mac = |guest: &Guest| {
        Ok::<_, anyhow::Error>(ip::link(Some(&guest.ns), "eth0")?.context("no eth0")?["address"].clone())
    };
    let its_mac = mac(&first)?;
    let mut at = (one, first);
    for round in 0..20 {
        at.0.attach("overlay", "DEL", &at.1, &config(&json!({})))?.silent()?;
        at.0.remove(&at.1)?;
        let to = if round % 2 == 0 { two } else { one };
        let (guest, _) = add(to, "moving", &asked).with_context(|| format!("round {round}"))?;
        ensure!(mac(&guest)? == its_mac, "round {round}: another MAC");
        // A question that nobody answers is repeated after a second: the first one has to be answered.
        let entry = format!("{} {}", its_mac.as_str().unwrap_or_default(), to.address);
        let known = || {
            let entries = three.fdb()?;
            ensure!(entries.contains(&entry), "no {entry} in {entries:?}");
            Ok(())
        };
        let took = cluster.until(FIRST * 2, known).with_context(|| format!("round {round}"))?;
        let reached = asker.reach(&address, AMPLE);
        reached.with_context(|| format!("round {round}, known after {took:?}"))?;
        at = (to, guest);
    }
    Ok(())
}

fn churn(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 1)?;
    let host = &cluster.hosts[0];
    let guest = host.container("a")?;
    for round in 0..50 {
        let result = host.attach("overlay", "ADD", &guest, &config(&json!({})))?.result();
        result.with_context(|| format!("round {round}"))?;
        host.attach("overlay", "DEL", &guest, &config(&json!({})))?.silent()?;
        let left = host.links()?;
        ensure!(left.is_empty(), "round {round}: {left:?} left");
    }
    Ok(())
}
