//! ADD and DEL of `overlay` with `cluster`, beside `bridge` with `host-local`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::cluster::host::Host;
use harness::cluster::{Cluster, stranger};
use nix::sys::signal::Signal;

use super::super::compared::{Compared, Unit};
use super::super::contender::OURS;
use super::{Network, PLENTY, REMOTE};
use crate::stats::turns;

/// Rounds, and the time after which there is no new one.
const ROUNDS: usize = 30;
const TIME: Duration = Duration::from_secs(10);
/// Starts of the agent.
const STARTS: usize = 10;
/// From here on a host knows that etcd is away.
const KNOWN: Duration = Duration::from_secs(6);
/// How long an agent may take to end.
const END: Duration = Duration::from_secs(2);

/// Two networks, their names, and the times of ADD and of DEL of each round.
struct Turns<'a> {
    networks: [(&'a str, Network); 2],
}

impl Turns<'_> {
    /// ADD and DEL of both, in turns on a host.
    fn measure(&self, host: &Host, operations: [&str; 2]) -> Result<[Compared; 2]> {
        let mut rows = operations.map(|operation| Compared::new(operation, Unit::Ms));
        let began = Instant::now();
        for round in 0..ROUNDS {
            if began.elapsed() > TIME {
                break;
            }
            for turn in turns(round, self.networks.len()) {
                let (name, network) = &self.networks[turn];
                let times = network.pair(host).with_context(|| format!("{}, {name}", operations[0]))?;
                rows.iter_mut().zip(times).for_each(|(row, ms)| row.push(name, ms));
            }
        }
        Ok(rows)
    }
}

/// The rows that need etcd. Afterwards each host has a container on `front`.
pub fn with_etcd(cluster: &Cluster<'_>) -> Result<Vec<Compared>> {
    let [one, others @ ..] = &cluster.hosts[..] else { unreachable!("hosts were asked for") };
    for host in &cluster.hosts {
        Network::front().stay(host, "stays")?;
    }
    Network::bridge().stay(one, "stays-alone")?;
    let networks = [(OURS, Network::front()), ("bridge", Network::bridge())];
    let mut all = Turns { networks }.measure(one, ["overlay: ADD", "overlay: DEL"])?.to_vec();
    // Its record is known everywhere, and this host has no container on it.
    let solo = || Network::overlay("solo", 11);
    for host in others {
        solo().stay(host, "stays-solo")?;
    }
    let networks = [(OURS, solo()), ("a later one", Network::front())];
    let names = ["overlay: first ADD of a network", "overlay: last DEL of a network"];
    all.extend(Turns { networks }.measure(one, names)?);
    all.push(starts(one)?);
    Ok(all)
}

/// ADDs that have to start the agent.
fn starts(host: &Host) -> Result<Compared> {
    let mut compared = Compared::new("overlay: ADD that starts the agent", Unit::Ms);
    for _ in 0..STARTS {
        host.signal_agent(Signal::SIGKILL)?;
        let killed = Instant::now();
        while host.agent()?.is_some() {
            ensure!(killed.elapsed() < END, "the agent of {} does not end", host.name);
            std::thread::sleep(Duration::from_millis(5));
        }
        let [add, _] = Network::front().pair(host)?;
        compared.push(OURS, add);
        compared.push("150 ms", 150.0);
    }
    Ok(compared)
}

/// ADD on a network with many remote containers, beside ADD on one with none. Afterwards `front` has
/// them.
pub fn among_many(cluster: &Cluster<'_>) -> Result<Compared> {
    cluster.etcd.change(&stranger::host(1))?;
    let (changes, entries) = stranger::containers(&cluster.etcd, REMOTE)?;
    cluster.etcd.change(&changes)?;
    for host in &cluster.hosts {
        cluster.until(PLENTY, || {
            let far = host.fdb()?.iter().filter(|entry| entry.ends_with(stranger::ADDRESS)).count();
            ensure!(far >= entries.len(), "{} has {far} of {} entries", host.name, entries.len());
            Ok(())
        })?;
    }
    let one = cluster.hosts.first().context("a host")?;
    let none = || Network::overlay("back", 10);
    none().stay(one, "stays-back")?;
    let networks = [(OURS, Network::front()), ("none", none())];
    let operations = ["overlay: ADD among 2,000 remote containers", "overlay: DEL"];
    let [adds, _] = Turns { networks }.measure(one, operations)?;
    Ok(adds)
}

/// The rows of hosts that know that etcd is away. It stays away.
pub fn without_etcd(cluster: &mut Cluster<'_>) -> Result<Vec<Compared>> {
    cluster.etcd.all(false)?;
    std::thread::sleep(KNOWN);
    let one = cluster.hosts.first().context("a host")?;
    let networks = [(OURS, Network::front()), ("bridge", Network::bridge())];
    let operations = ["overlay: ADD without etcd", "overlay: DEL without etcd"];
    Ok(Turns { networks }.measure(one, operations)?.to_vec())
}
