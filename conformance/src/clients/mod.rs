//! `conformance clients`: common container runtimes with the suite's plugins, each in a room of its
//! own: podman and containerd from Debian's packages, CRI-O's calls, a DHCP server on the wire, and
//! two hosts of a cluster.

mod compose;
mod containerd;
mod crio;
mod dhcp;
mod front;
mod networks;
mod overlay;
mod podman;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use engines::machine::{self, PAGE};
use harness::diff::shown;
use harness::job::Kind;
use harness::judge::strict;
use harness::room::Room;
use harness::runner::Grounds;
use harness::{leftover, socket};
use nix::unistd::geteuid;

use crate::paper::Paper;

/// The timeout of one client's room.
const PATIENCE: Duration = Duration::from_secs(180);

/// A client.
struct Client {
    name: &'static str,
    /// What it needs of the machine.
    ready: fn(&Grounds) -> Result<()>,
    furnish: fn(&Room) -> Result<()>,
    steps: fn(&Room, &mut Steps) -> Result<()>,
}

const CLIENTS: [Client; 5] = [
    Client::packaged("podman", podman::steps),
    Client::packaged("containerd", containerd::steps),
    Client { name: "cri-o", ready: |_| Ok(()), furnish: |_| Ok(()), steps: crio::steps },
    Client { name: "dhcp", ready: dhcp::ready, furnish: |_| Ok(()), steps: dhcp::steps },
    Client { name: "overlay", ready: overlay::ready, furnish: overlay::furnish, steps: overlay::steps },
];

/// The conflist that publishes ports, the one with names, and the one that a person wants.
const CONFLISTS: [&str; 3] = ["40-portmap.conflist", "70-dns.conflist", front::CONFLIST];
/// The bridges of these, and of podman's second networks.
const BRIDGES: [&str; 5] = ["moor4", "moor7", podman::SECOND_BRIDGE, front::BRIDGES[0], front::BRIDGES[1]];

/// The job of a client's room.
pub const JOBS: &[Kind] = &[Kind::new("client", job)];

/// Runs every client with `filter` in its name: true when every step passed. A client that cannot
/// run here is named, and is a failure where everything must run (`CI=true`).
pub fn run(grounds: &Grounds, filter: &str) -> Result<bool> {
    let strict = strict();
    let grounds = Grounds { timeout: PATIENCE, ..grounds.clone() };
    let (mut held, mut ran) = (true, 0);
    for client in CLIENTS.into_iter().filter(|client| client.name.contains(filter)) {
        let name = client.name;
        if let Err(why) = (client.ready)(&grounds) {
            println!("not run: {name}: {why:#}");
            held &= !strict;
        } else {
            held &= grounds.show(&format!("client:{name}"))?;
        }
        ran += 1;
    }
    ensure!(ran > 0, "no client matches {filter:?}");
    Ok(held)
}

impl Client {
    /// A container runtime from the unpacked packages.
    const fn packaged(name: &'static str, steps: fn(&Room, &mut Steps) -> Result<()>) -> Self {
        Self {
            name,
            ready: |_| machine::packages().and_then(|_| privileged()),
            furnish: |room| machine::furnish(room, &CONFLISTS),
            steps,
        }
    }
}

fn privileged() -> Result<()> {
    ensure!(geteuid().is_root(), "a system service needs root");
    Ok(())
}

fn job(room: &Room, name: &str) -> Result<bool> {
    let client = CLIENTS.into_iter().find(|client| client.name == name).context("no such client")?;
    (client.furnish)(room)?;
    let mut steps = Steps(Paper::new());
    steps.0.heading(name);
    if let Err(error) = (client.steps)(room, &mut steps) {
        steps.0.step("go on", Duration::ZERO, Err(format!("{error:#}")));
    }
    Ok(steps.0.verdict())
}

/// The steps so far, each with its outcome.
struct Steps(Paper);

impl Steps {
    /// Runs one step; a failure is printed, and the next step runs anyway.
    fn check(&mut self, what: &str, step: impl FnOnce() -> Result<()>) {
        let began = Instant::now();
        let done = step();
        self.0.step(what, began.elapsed(), done.map_err(|error| format!("{error:#}")));
    }
}

/// Requests the page of the web server at `address` from a namespace or from the room's host. Waits
/// for a server that has just been started.
fn reads(room: &Room, from: Option<&str>, address: &str, port: u16) -> Result<()> {
    let address = SocketAddr::new(address.parse::<IpAddr>()?, port);
    let deadline = Instant::now() + socket::patience();
    loop {
        let page = match from {
            Some(from) => room.inside(from, || socket::page(address)),
            None => socket::page(address),
        };
        match page {
            Ok(page) if page.ends_with(PAGE) => return Ok(()),
            Ok(page) => bail!("{address} returned {page:?}"),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Nothing answers at an address of the host any more.
fn is_silent(address: &str, port: u16) -> Result<()> {
    let address = SocketAddr::new(address.parse::<IpAddr>()?, port);
    match socket::page(address) {
        Ok(page) => bail!("{address} still returns {page:?}"),
        Err(_) => Ok(()),
    }
}

/// Links, rules and leases are as before; the runtime's own files may differ. Runtime and kernel
/// delete objects of a dead container asynchronously, so leftovers are checked again for a while.
fn nothing_left(room: &Room, before: &[String]) -> Result<()> {
    let deadline = Instant::now() + socket::patience();
    loop {
        let mut left = leftover::of_attachments(&room.changes_since(before)?, &BRIDGES, &[]);
        left.retain(|line| machine::is_of_plugins(line));
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "left behind: {}", shown(&left));
    }
}
