//! A herd: the whole chain for many containers at once, as after the restart of a host.

use std::path::Path;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use harness::namespace::Container;
use harness::room::Room;
use serde_json::{Value, json};

use super::compared::{Compared, Unit};
use super::contender::{Attachment, OURS, REFERENCE};
use super::hosts::Host;
use super::scenario::{MEASURED, Scenario, network};
use crate::stats::turns;

/// How many at once.
const HERD: usize = 200;
/// How many at once beside the reference: 200 of its calls wait minutes for the lock of iptables.
const FEW: usize = 20;
/// Rounds of each number, the time after which there is no new one, and the minimum.
const ROUNDS: usize = 6;
const TIME: Duration = Duration::from_secs(7);
const LEAST: usize = 2;

/// The verbs of a round.
const VERBS: [&str; 2] = ["ADD", "DEL"];

/// The job of the room.
pub fn job(room: &Room, before: Option<&Path>) -> Result<Vec<Compared>> {
    let containers =
        (0..HERD).map(|number| room.container(&format!("herd-{number}"))).collect::<Result<Vec<_>>>()?;
    let mut hosts = Host::all(room, before)?;
    let mut all = rounds(room, &hosts, &containers[..FEW])?;
    hosts.retain(|host| host.contender.name != REFERENCE);
    let mut herd = rounds(room, &hosts, &containers)?;
    herd[0].not_run(REFERENCE, &format!("it takes minutes: it is compared with {FEW}"));
    all.append(&mut herd);
    Ok(all)
}

/// All rounds of that many.
fn rounds(room: &Room, hosts: &[Host], containers: &[Container]) -> Result<Vec<Compared>> {
    let mut all = VERBS.map(|verb| Compared::new(&format!("{} at once: {verb}", containers.len()), Unit::Ms));
    let began = Instant::now();
    for round in 0..ROUNDS {
        if round >= LEAST && began.elapsed() > TIME {
            break;
        }
        for turn in turns(round, hosts.len()) {
            let host = &hosts[turn];
            room.inside(&host.name, || one(room, host, containers, &mut all))?;
        }
    }
    Ok(all.into())
}

/// All ADDs and then all DELs of a suite, in its host's namespace.
fn one(room: &Room, host: &Host, containers: &[Container], all: &mut [Compared; 2]) -> Result<()> {
    let name = host.contender.name;
    let before = room.snapshot()?;
    let mut attachments: Vec<Attachment<'_>> = vec![];
    for (number, container) in (0..).zip(containers) {
        let mut attachment = host.contender.attachment(Scenario::Portmap, container, "eth0");
        attachment.chain.iter_mut().for_each(|config| publish(config, MEASURED.0 + number));
        attachments.push(attachment);
    }
    for (verb, compared) in VERBS.into_iter().zip(&mut *all) {
        let (took, failures) = together(&mut attachments, verb)?;
        compared.push(name, took);
        if let Some(first) = failures.first() {
            record(compared, name, format!("failed calls: {}, the first: {first}", failures.len()));
        }
    }
    let ids: Vec<&str> = containers.iter().map(|container| container.id.as_str()).collect();
    let left = room.left_since(&before, &[&network(host.contender.slot)], &ids)?;
    if let Some(first) = left.first() {
        record(&mut all[1], name, format!("lines of state left: {}, the first: {first}", left.len()));
    }
    Ok(())
}

/// Only ours may have no faults.
fn record(compared: &mut Compared, contender: &str, what: String) {
    match contender {
        OURS => compared.faults.push(what),
        _ => compared.notes.push(format!("{contender}: {what}")),
    }
}

/// Each container has a port of its own.
fn publish(config: &mut Value, host_port: u16) {
    if let Some(mapping) = config.pointer_mut("/runtimeConfig/portMappings/0") {
        mapping["hostPort"] = json!(host_port);
    }
}

/// A verb of all attachments, each by a thread as by a runtime: milliseconds from the first start
/// to the last end, and the failures.
fn together(attachments: &mut [Attachment<'_>], verb: &str) -> Result<(f64, Vec<String>)> {
    let start = Barrier::new(attachments.len() + 1);
    let failures = Mutex::new(vec![]);
    let run = |attachment: &mut Attachment<'_>| {
        start.wait();
        if let Err(error) = attachment.run(verb) {
            failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
        }
    };
    let took = std::thread::scope(|scope| {
        let threads: Vec<_> =
            attachments.iter_mut().map(|attachment| scope.spawn(|| run(attachment))).collect();
        start.wait();
        let began = Instant::now();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")))?;
        Ok::<_, anyhow::Error>(began.elapsed().as_secs_f64() * 1e3)
    })?;
    Ok((took, failures.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_of_a_herd_have_the_same_port() {
        let mut chain = Scenario::Portmap.chain(0);
        chain.iter_mut().for_each(|config| publish(config, 8123));
        let ports: Vec<&Value> = chain
            .iter()
            .filter_map(|config| config.pointer("/runtimeConfig/portMappings/0/hostPort"))
            .collect();
        assert_eq!(ports, [8123]);
        assert!(usize::from(MEASURED.0) + HERD < 10_000);
    }
}
