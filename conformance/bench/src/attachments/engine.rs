//! What a network adds to a container engine's commands: each with a network of five plugins, less
//! the same without one.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use engines::containerd::{self, Daemon, Pod};
use engines::cri::{self, Message};
use engines::machine;
use engines::podman::{self, podman};
use harness::room::{Room, SCRATCH};
use nix::unistd::geteuid;
use serde_json::json;

use super::compared::{Compared, Unit};
use super::contender::{Contender, OURS};
use crate::stats::{median, turns};

/// Rounds, and the time after which there is no new one.
const ROUNDS: usize = 15;
const TIME: Duration = Duration::from_secs(100);
const LEAST: usize = 3;

/// The network, which the engines find by its file's name.
const NETWORK: &str = "people";
const FILE: &str = "/etc/cni/net.d/10-people.conflist";

/// The annotations from which containerd makes the capability `bandwidth`.
const BANDWIDTH: [(&str, &str); 2] =
    [("kubernetes.io/ingress-bandwidth", "100M"), ("kubernetes.io/egress-bandwidth", "100M")];

/// The operations, in the order of their values in a [`Lap`].
const OPERATIONS: [&str; 4] = [
    "network of podman run --rm",
    "network of podman run --rm with two ports",
    "network of RunPodSandbox",
    "network of StopPodSandbox",
];

/// Milliseconds of every operation.
type Lap = [f64; OPERATIONS.len()];

/// The job of the room.
pub fn job(room: &Room) -> Result<Vec<Compared>> {
    let mut all = OPERATIONS.map(|operation| Compared::new(operation, Unit::Ms));
    if let Err(why) = ready() {
        all.iter_mut().for_each(|compared| compared.not_run(OURS, &format!("{why:#}")));
        return Ok(all.into());
    }
    // What `make install` installs. Furnishing the room may cover the suite's directory.
    let installed = Contender::multicall(room)?;
    let installed = installed.unwrap_or_else(|| Contender { dir: machine::suite(), ..Contender::ours(room) });
    let ours = Contender { name: OURS, ..installed };
    machine::furnish(room, &[])?;
    write_network()?;
    podman::configure(NETWORK)?;
    containerd::configure()?;
    let contenders = [ours, Contender::reference(room)];
    let mut daemon = Daemon::start()?;
    containerd::import()?;
    let laps = laps(&contenders);
    daemon.kill()?;
    let laps = laps?;
    for (number, compared) in all.iter_mut().enumerate() {
        let base = median(&laps[contenders.len()].iter().map(|lap| lap[number]).collect::<Vec<_>>());
        compared.notes.push(format!("{base:.0} ms without a network"));
        for (contender, laps) in contenders.iter().zip(&laps) {
            laps.iter().for_each(|lap| compared.push(contender.name, lap[number] - base));
        }
    }
    Ok(all.into())
}

/// What it needs of the machine.
fn ready() -> Result<()> {
    anyhow::ensure!(geteuid().is_root(), "container engines need root");
    machine::packages().map(drop)
}

/// The laps of each contender, and last those without a network, in turns.
fn laps(contenders: &[Contender]) -> Result<Vec<Vec<Lap>>> {
    let mut laps = vec![vec![]; contenders.len() + 1];
    // What only the first command makes is nobody's cost.
    lap(None).context("without a network")?;
    for contender in contenders {
        lap(Some(contender)).with_context(|| contender.name)?;
    }
    let began = Instant::now();
    for round in 0..ROUNDS {
        if round >= LEAST && began.elapsed() > TIME {
            break;
        }
        for turn in turns(round, contenders.len() + 1) {
            let contender = contenders.get(turn);
            let name = contender.map_or("without a network", |contender| contender.name);
            laps[turn].push(lap(contender).context(name)?);
        }
    }
    Ok(laps)
}

/// Runs every operation once, with a suite's plugins or without a network.
fn lap(contender: Option<&Contender>) -> Result<Lap> {
    let Some(contender) = contender else { return commands(false) };
    machine::install(&contender.dir)?;
    let done = commands(true);
    machine::uninstall()?;
    done
}

fn commands(network: bool) -> Result<Lap> {
    let root = machine::rootfs().display().to_string();
    let run = |ports: &[&str]| {
        let name = if network { NETWORK } else { "none" };
        let ports = if network { ports } else { &[] };
        let args = [&["run", "--rm", "--network", name], ports, &["--rootfs", &root, "/bin/sh", "-c", ":"]];
        timed(|| podman(&args.concat()))
    };
    let (alone, _) = run(&[])?;
    let (published, _) = run(&["-p", "8080:80", "-p", "8081:81"])?;
    let host_port = network.then_some(8080);
    let annotations: &[_] = if network { &BANDWIDTH } else { &[] };
    let pod = Pod { name: "measured", host_port, annotations, on_host: !network };
    let (started, id) = timed(|| pod.run())?;
    let named = Message::default().text(1, &id);
    let (stopped, _) = timed(|| cri::call("StopPodSandbox", &named))?;
    cri::call("RemovePodSandbox", &named)?;
    Ok([alone, published, started, stopped])
}

/// Milliseconds, and the value.
fn timed<T>(command: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let began = Instant::now();
    let done = command()?;
    Ok((began.elapsed().as_secs_f64() * 1e3, done))
}

/// Writes the conflist: what `podman network create` writes, and `bandwidth`.
fn write_network() -> Result<()> {
    let ranges = json!([[{"subnet": "10.94.0.0/16"}], [{"subnet": "fd00:94::/64"}]]);
    let conflist = json!({
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "bridge", "bridge": "people0", "isGateway": true, "ipMasq": true,
                "ipam": {
                    "type": "host-local", "ranges": ranges, "dataDir": format!("{SCRATCH}/leases"),
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "firewall"},
            {"type": "tuning"},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        ],
    });
    fs::write(FILE, conflist.to_string()).with_context(|| format!("write {FILE}"))
}
