//! One network over many hosts: its calls beside a bridge's, its packets beside VXLAN and routes
//! that are made by hand, how soon other hosts follow, and what the agent takes.

mod agent;
mod by_hand;
mod calls;
pub mod crowd;
mod follow;
mod monitors;
mod path;

use std::time::Duration;

use anyhow::{Context, Result};
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::config::{USUAL, with};
use harness::need::Need;
use harness::room::Room;
use serde_json::{Value, json};

use super::compared::{Compared, Unit};
use super::contender::OURS;

/// Members of etcd, and hosts.
const MEMBERS: u8 = 3;
const HOSTS: u8 = 3;
/// Containers of a host that only etcd knows.
const REMOTE: usize = 2_000;
/// How long hosts may take to make the entries of all of them.
const PLENTY: Duration = Duration::from_secs(20);

/// The job of the room.
pub fn job(room: &Room) -> Result<Vec<Compared>> {
    if let Some(none) = lacking(room) {
        return Ok(vec![none]);
    }
    let mut cluster = Cluster::new(room, MEMBERS, HOSTS)?;
    let mut all = calls::with_etcd(&cluster)?;
    all.extend(path::rows(&cluster)?);
    all.extend(follow::rows(&cluster)?);
    all.push(calls::among_many(&cluster)?);
    all.extend(agent::rows(&cluster)?);
    all.extend(calls::without_etcd(&mut cluster)?);
    Ok(all)
}

/// What says that nothing was measured, if something is missing for it.
fn lacking(room: &Room) -> Option<Compared> {
    let missing = [Need::Etcd, Need::Overlay].into_iter().find_map(|need| {
        let why = need.probe(&room.suite, &room.reference).err()?;
        Some(format!("{}: {why:#}", need.name()))
    });
    missing.map(|why| {
        let mut none = Compared::new("overlay", Unit::Ms);
        none.not_run(OURS, &why);
        none
    })
}

/// A list with one plugin, on one network.
struct Network {
    plugin: &'static str,
    config: Value,
}

impl Network {
    fn overlay(name: &str, second: u8) -> Self {
        let config = json!({
            "cniVersion": USUAL, "name": name, "type": "overlay",
            "ipam": {"type": "cluster", "subnets": [format!("10.{second}.0.0/16")]},
        });
        Self { plugin: "overlay", config }
    }

    /// The network that all parts share.
    fn front() -> Self {
        Self::overlay("front", 9)
    }

    /// A bridge that does as much for its containers on one host.
    fn bridge() -> Self {
        let config = json!({
            "cniVersion": USUAL, "name": "alone", "type": "bridge", "bridge": "alone0",
            "isGateway": true, "ipMasq": true, "macspoofchk": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.8.0.0/24"}]]},
        });
        Self { plugin: "bridge", config }
    }

    fn with(mut self, keys: Value) -> Self {
        self.config = with(&self.config, keys);
        self
    }

    /// ADD for a container; returns its IPv4 address and the milliseconds that it took.
    fn add(&self, host: &Host, guest: &Guest) -> Result<(String, f64)> {
        let answer = host.attach(self.plugin, "ADD", guest, &self.config)?;
        let result = answer.result().with_context(|| format!("ADD of {} on {}", self.plugin, host.name))?;
        let address = result["ips"][0]["address"].as_str().and_then(|text| text.split('/').next());
        Ok((address.context("a result without address")?.to_owned(), millis(answer.took)))
    }

    /// DEL of it; returns the milliseconds.
    fn del(&self, host: &Host, guest: &Guest) -> Result<f64> {
        let answer = host.attach(self.plugin, "DEL", guest, &self.config)?;
        answer.silent().with_context(|| format!("DEL of {} on {}", self.plugin, host.name))?;
        Ok(millis(answer.took))
    }

    /// ADD for a new container that stays.
    fn stay(&self, host: &Host, id: &str) -> Result<(Guest, String)> {
        let guest = host.container(id)?;
        let (address, _) = self.add(host, &guest)?;
        Ok((guest, address))
    }

    /// ADD and DEL for a container that is made for it; returns both times.
    fn pair(&self, host: &Host) -> Result<[f64; 2]> {
        let guest = host.container("measured")?;
        let (_, add) = self.add(host, &guest)?;
        let del = self.del(host, &guest)?;
        host.remove(&guest)?;
        Ok([add, del])
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A time in milliseconds, and its limit.
fn in_time(operation: &str, ms: f64, limit: u16) -> Compared {
    limited(&format!("overlay: {operation}"), Unit::Ms, ms, (&format!("{limit} ms"), f64::from(limit)))
}

/// An operation whose value may not exceed a limit.
fn limited(operation: &str, unit: Unit, value: f64, limit: (&str, f64)) -> Compared {
    let mut compared = Compared::new(operation, unit);
    compared.push(OURS, value);
    compared.push(limit.0, limit.1);
    compared
}
