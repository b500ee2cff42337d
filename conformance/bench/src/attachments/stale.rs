//! GC of stale attachments, of which the runtime knows none any more, and the kernel's own work for
//! their links. The namespaces stay open: a link goes with its namespace.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::config::with;
use harness::ip;
use harness::namespace::Container;
use harness::room::Room;
use netlink::{Netlink, Veth, VethPeer};
use serde_json::json;
use sys::NetNs;

use super::compared::{Compared, Unit};
use super::contender::{Contender, REFERENCE};
use super::hosts::Host;
use super::scenario::Scenario;
use super::shot::Shot;
use crate::stats::turns;

/// The number of attachments.
const STALE: usize = 20;
/// Rounds, the time after which there is no new one, and the minimum.
const ROUNDS: usize = 8;
const TIME: Duration = Duration::from_secs(8);
const LEAST: usize = 2;

/// The names of the kernel's two ways, in tables and budgets.
const ONE_BY_ONE: &str = "kernel, one by one";
const BY_GROUP: &str = "kernel, by group";

/// The namespace in which the kernel's own work is measured, and a number of no other group.
const FLOOR: &str = "hostfloor";
const GROUP: &str = "4711";

/// Who collects.
enum Collector<'a> {
    Suite(&'a Host),
    Kernel { by_group: bool },
}

/// The job of the room. The reference's GC leaves the links, so it is not compared.
pub fn job(room: &Room, before: Option<&Path>) -> Result<Vec<Compared>> {
    let mut compared = Compared::new(&format!("GC of {STALE}"), Unit::Ms);
    let stale = (0..STALE).map(|number| room.container(&format!("s{number}"))).collect::<Result<Vec<_>>>()?;
    let hosts = Host::all(room, before)?;
    let mut collectors: Vec<Collector<'_>> =
        hosts.iter().filter(|host| host.contender.name != REFERENCE).map(Collector::Suite).collect();
    room.container(FLOOR)?;
    collectors.extend([false, true].map(|by_group| Collector::Kernel { by_group }));
    let began = Instant::now();
    for round in 0..ROUNDS {
        if round >= LEAST && began.elapsed() > TIME {
            break;
        }
        for turn in turns(round, collectors.len()) {
            let (name, took) = match &collectors[turn] {
                Collector::Suite(host) => (host.contender.name, collect(room, host, &stale)?),
                Collector::Kernel { by_group: false } => {
                    (ONE_BY_ONE, room.inside(FLOOR, || kernel(&stale, false))?)
                }
                Collector::Kernel { by_group: true } => {
                    (BY_GROUP, room.inside(FLOOR, || kernel(&stale, true))?)
                }
            };
            compared.push(name, took);
        }
    }
    Ok(vec![compared])
}

/// Attaches all, and collects them: milliseconds.
fn collect(room: &Room, host: &Host, stale: &[Container]) -> Result<f64> {
    let contender = &host.contender;
    let took = room.inside(&host.name, || {
        for container in stale {
            contender.attachment(Scenario::Bridge, container, "eth0").run("ADD")?;
        }
        Ok(gc(contender)?.fire()?.0.wall_ms)
    })?;
    let left = ip::links(Some(&host.name))?.iter().filter(|name| name.starts_with("veth")).count();
    ensure!(left == 0, "GC of {} left {left} links", contender.name);
    Ok(took)
}

/// A call of GC with an empty list.
fn gc(contender: &Contender) -> Result<Shot> {
    let chain = Scenario::Bridge.chain(contender.slot);
    let config = with(
        chain.first().context("an empty chain")?,
        json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}),
    );
    Ok(Shot {
        program: contender.dir.join("bridge"),
        env: vec![("CNI_COMMAND".into(), "GC".into()), ("CNI_PATH".into(), contender.dir.clone().into())],
        input: config.to_string(),
        tag: "gc".into(),
    })
}

/// As many veth pairs without a plugin, deleted by one process that holds its socket open, or by
/// one request of `ip`: milliseconds.
fn kernel(stale: &[Container], by_group: bool) -> Result<f64> {
    let host = Netlink::open()?;
    let mut links = vec![];
    for (number, container) in stale.iter().enumerate() {
        let netns = NetNs::open(&container.path)?;
        let name = format!("veth{number}");
        let peer = VethPeer { name: "eth0", mac: None, mtu: None, netns: Some(netns.as_fd()) };
        host.create_veth(&Veth { name: &name, mac: None, mtu: None, master: None, up: true, peer })?;
        if by_group {
            ip::run(&["link", "set", "dev", &name, "group", GROUP])?;
        }
        links.push(host.link_by_name(&name)?.context("a new link is gone")?.index);
    }
    let began = Instant::now();
    if by_group {
        ip::run(&["link", "delete", "group", GROUP])?;
    } else {
        links.into_iter().try_for_each(|index| host.delete_link(index))?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
