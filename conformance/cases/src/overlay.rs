//! overlay and cluster on several hosts with a real etcd.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::config::{USUAL, with};
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const HOSTS: &[Need] = &[Need::Etcd, Need::Overlay];

pub const CASES: &[Case] = &[
    Case::new("overlay/three_cold_hosts_give_no_address_twice", &["O-001", "S-36"], unique).needs(HOSTS),
    Case::new("overlay/every_container_reaches_every_other", &["O-020", "S-35"], mesh).needs(HOSTS),
    Case::new("overlay/an_address_moves_with_its_container", &["O-006", "O-005"], moves).needs(HOSTS),
    Case::new("overlay/lost_entries_are_made_again", &["O-024"], repaired).needs(HOSTS),
    Case::new("overlay/a_paused_etcd_delays_no_add_from_an_own_block", &["O-003"], paused).needs(HOSTS),
    Case::new("overlay/nothing_is_taken_away_while_etcd_is_away", &["O-080", "O-097"], away).needs(HOSTS),
    Case::new("overlay/a_killed_agent_loses_nothing", &["O-083"], agent_killed).needs(HOSTS),
    Case::new("overlay/links_come_and_go_with_the_only_container", &["O-092"], churn).needs(HOSTS),
    Case::new("overlay/a_cloned_host_serves_nothing", &["O-088"], cloned).needs(HOSTS),
];

const AMPLE: Duration = Duration::from_millis(700);
/// Time for one handshake. A lost packet is sent again only after a second.
const FIRST: Duration = Duration::from_millis(50);
const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn config(keys: &Value) -> Value {
    let config = json!({
        "cniVersion": USUAL, "name": "front", "type": "overlay",
        "ipam": {"type": "cluster", "subnets": ["10.9.0.0/16", "fd00:9::/64"]},
    });
    with(&config, keys.clone())
}

fn add(host: &Host, id: &str, config: &Value) -> Result<(Guest, Value)> {
    let guest = host.container(id)?;
    let result = host.attach("overlay", "ADD", &guest, config)?.result();
    let result = result.with_context(|| format!("ADD {id} on {}", host.name))?;
    Ok((guest, result))
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    let texts = ips.filter_map(|ip| Some(ip["address"].as_str()?.split('/').next()?.to_owned()));
    texts.collect()
}

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
