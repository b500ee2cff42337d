//! Hosts whose wall clocks are days apart and jump.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::host::Host;
use harness::cluster::pings::Pings;
use harness::need::Need;
use harness::room::Room;
use harness::wall_clock;
use serde_json::json;

use super::addresses::rests;
use super::names::Named;
use super::verbs::TTL_S;
use super::{AMPLE, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/wall_clocks_do_not_matter", &["O-090"], clocks).needs(HOSTS_AND_CLOCK).alone(),
    Case::new("overlay/wall_clocks_end_no_rest_of_an_address", &["O-090"], rest)
        .needs(HOSTS_AND_CLOCK)
        .alone(),
];

const HOSTS_AND_CLOCK: &[Need] = &[Need::Etcd, Need::Overlay, Need::OwnClock];
const DAY: Duration = Duration::from_secs(86_400);
/// How often each host attaches a container and detaches it.
const TURNS: usize = 3;

fn clocks(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    for host in &cluster.hosts {
        host.configure(&cluster.etcd.endpoints(), &json!({"hostTtlS": TTL_S}))?;
    }
    let webs = wall_clock::while_it_jumps(|| {
        ensure_it_jumps()?;
        last(&cluster)
    })?;
    // etcd 3.4 looks for expired leases by its own wall clock, and 3.5 does not: each lease must have
    // been renewed since the last jump.
    std::thread::sleep(SECONDS(TTL_S));
    end(&cluster, &webs)
}

fn rest(room: &Room) -> Result<()> {
    wall_clock::while_it_jumps(|| rests(room))
}

/// This process sees the clock more than a day away from where it was.
fn ensure_it_jumps() -> Result<()> {
    let first = SystemTime::now();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(3));
        let now = SystemTime::now();
        if now.duration_since(first).unwrap_or_else(|error| error.duration()) > DAY {
            return Ok(());
        }
    }
    bail!("the wall clock does not jump")
}

/// Containers reach and find each other for twice as long as a host may be silent: nobody is taken
/// for dead.
fn last<'c>(cluster: &'c Cluster<'_>) -> Result<Vec<Named<'c>>> {
    let webs = cluster.hosts.iter().map(|host| Named::new(host, &format!("web-{}", host.name), &["web"]));
    let webs = webs.collect::<Result<Vec<_>>>()?;
    let ips: Vec<&str> = webs.iter().map(Named::v4).collect();
    for web in &webs {
        for ip in &ips {
            cluster.until(SECONDS(2), || web.guest.reach(ip, AMPLE).map(drop))?;
        }
        cluster.until(SECONDS(2), || web.resolves("web", &ips))?;
    }
    let pings = Pings::start(&webs[0].guest, &[ips[1].to_owned()])?;
    given_once(cluster, &ips)?;
    let began = Instant::now();
    while began.elapsed() < SECONDS(2 * TTL_S) {
        webs.iter().try_for_each(|web| web.resolves("web", &ips))?;
        let alive = cluster.etcd.keys("alive/")?;
        ensure!(alive.len() == 2, "{alive:?} are alive");
        std::thread::sleep(Duration::from_millis(50));
    }
    pings.none_lost()?;
    Ok(webs)
}

/// A host that is gone is noticed in its time, and DEL leaves nothing.
fn end(cluster: &Cluster<'_>, webs: &[Named<'_>]) -> Result<()> {
    let only = [webs[0].v4()];
    cluster.hosts[1].die()?;
    cluster.until(SECONDS(4 * TTL_S), || webs[0].resolves("web", &only)).context("h2 is gone")?;
    webs[0].del()?;
    let (left, links) = (leases(&cluster.hosts[0])?, cluster.hosts[0].links()?);
    ensure!(left.is_empty() && links.is_empty(), "h1 has {left:?}, {links:?}");
    let published = || {
        let keys = cluster.etcd.keys("ep/")?;
        ensure!(keys.len() == 1 && keys[0].ends_with("web-h2@eth0"), "etcd has {keys:?}");
        Ok(())
    };
    cluster.until(SECONDS(2), published).map(drop)
}

/// No address is given twice while it is in use or rests.
fn given_once(cluster: &Cluster<'_>, ips: &[&str]) -> Result<()> {
    let mut given = BTreeSet::from_iter(ips.iter().map(|ip| (*ip).to_owned()));
    ensure!(given.len() == ips.len(), "an address is two containers': {ips:?}");
    let config = config(&json!({}));
    for turn in 0..TURNS {
        for host in &cluster.hosts {
            let (guest, result) = add(host, &format!("turn{turn}"), &config)?;
            let address = addresses(&result).remove(0);
            ensure!(given.insert(address.clone()), "{address} did not rest, or is another's");
            host.attach("overlay", "DEL", &guest, &config)?.silent()?;
            host.remove(&guest)?;
        }
    }
    Ok(())
}

/// The host's leases of the network.
fn leases(host: &Host<'_>) -> Result<Vec<String>> {
    host.inside(|| {
        let names = std::fs::read_dir("/var/lib/cni/networks/front")?.flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect())
    })
}
