//! How soon the other hosts follow an ADD: with the entries of its address, and with its name.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::config::USUAL;
use harness::dns_client::{Question, kind};
use harness::namespace::inside;
use harness::patience::on_this_machine;
use serde_json::json;

use super::super::compared::Compared;
use super::monitors::{LOOK, Monitors, PATIENCE};
use super::{Network, in_time, millis};
use crate::stats::{median, percentile};

/// ADDs that are followed.
const ROUNDS: usize = 100;
/// The name server of containers on `front`.
const SERVER: &str = "10.9.0.1:53";

/// A host that follows, with a container that has a responder.
struct Follower {
    name: String,
    guest: Guest,
    monitors: Monitors,
}

/// The median and the 99th percentile of the time until the last host has followed.
pub fn rows(cluster: &Cluster<'_>) -> Result<Vec<Compared>> {
    let [one, others @ ..] = &cluster.hosts[..] else { unreachable!("hosts were asked for") };
    let followers = others.iter().map(Follower::new).collect::<Result<Vec<_>>>()?;
    let (mut entries, mut names) = (vec![], vec![]);
    for round in 0..ROUNDS {
        let name = format!("followed{round}");
        let network = Network::front().with(json!({"runtimeConfig": {"aliases": [name]}}));
        let guest = one.container(&name)?;
        let called = Instant::now();
        let (address, _) = network.add(one, &guest)?;
        let returned = Instant::now();
        let times = std::thread::scope(|scope| {
            let name = name.as_str();
            let ask = |follower| scope.spawn(move || Follower::answers(follower, name, returned));
            let asks: Vec<_> = followers.iter().map(ask).collect();
            let answers = asks.into_iter().map(|ask| ask.join().map_err(|_| anyhow!("a thread panicked"))?);
            answers.collect::<Result<Vec<_>>>()
        })?;
        names.push(times.into_iter().fold(0.0, f64::max));
        let mut last: f64 = 0.0;
        for follower in &followers {
            last = last.max(follower.monitors.follow(&address, called, returned)?);
        }
        entries.push(last);
        network.del(one, &guest)?;
        one.remove(&guest)?;
    }
    Ok(vec![
        in_time("entries on the last of 3 hosts, median", median(&entries), 10),
        in_time("entries on the last of 3 hosts, p99", percentile(&entries, 99), 100),
        in_time("name on the last of 3 hosts, median", median(&names), 10),
        in_time("name on the last of 3 hosts, p99", percentile(&names, 99), 100),
    ])
}

impl Follower {
    fn new(host: &Host<'_>) -> Result<Self> {
        let guest = host.container("follows")?;
        let result = host.attach("overlay", "ADD", &guest, &Network::front().config)?.result()?;
        let dns = json!({"cniVersion": USUAL, "name": "front", "type": "dns", "internal": true,
            "prevResult": result, "runtimeConfig": {"aliases": [format!("follows-{}", host.name)]}});
        host.attach("dns", "ADD", &guest, &dns)?.result()?;
        Ok(Self { name: host.name.clone(), guest, monitors: Monitors::new(host)? })
    }

    /// The milliseconds since an ADD's return until the name of its container is answered.
    fn answers(&self, name: &str, since: Instant) -> Result<f64> {
        let server: SocketAddr = SERVER.parse()?;
        let question = Question::new(name, kind::A);
        inside(&self.guest.ns, || {
            loop {
                if question.udp(server)?.texts().len() == 1 {
                    return Ok(millis(since.elapsed()));
                }
                ensure!(since.elapsed() < on_this_machine(PATIENCE), "{} has no name {name}", self.name);
                std::thread::sleep(LOOK);
            }
        })
    }
}
