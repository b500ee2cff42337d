//! The whole chain against an earlier build, each on a host of its own: time and instructions.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::namespace::Container;
use harness::room::Room;

use super::compared::{Compared, Unit};
use super::contender::REFERENCE;
use super::hosts::Host;
use super::instructions;
use super::scenario::Scenario;
use crate::stats::turns;

/// Rounds, the time after which there is no new one, and the minimum.
const ROUNDS: usize = 40;
const TIME: Duration = Duration::from_secs(12);
const LEAST: usize = 5;
/// Instructions vary by 0.1 percent: two rounds show that.
const COUNTED: usize = 2;

/// The job of the room.
pub fn job(room: &Room, before: Option<&Path>) -> Result<Vec<Compared>> {
    let name = Scenario::Portmap.name();
    let mut all = [
        ("chain: ADD", Unit::Ms),
        ("chain: DEL", Unit::Ms),
        ("chain: instructions of ADD", Unit::Instructions),
    ]
    .map(|(operation, unit)| Compared { of: Some(name.to_owned()), ..Compared::new(operation, unit) });
    let container = room.container("c")?;
    let mut hosts = Host::all(room, before)?;
    hosts.retain(|host| match stand(room, host) {
        Ok(()) => true,
        Err(error) => {
            all[0].not_run(host.contender.name, &format!("{error:#}"));
            false
        }
    });
    let [add, del, counted] = &mut all;
    let began = Instant::now();
    for round in 0..ROUNDS {
        if round >= LEAST && began.elapsed() > TIME {
            break;
        }
        for turn in turns(round, hosts.len()) {
            let Host { contender, name } = &hosts[turn];
            let (added, deleted) = room.inside(name, || {
                let mut attachment = contender.attachment(Scenario::Portmap, &container, "eth0");
                Ok((attachment.run("ADD")?, attachment.run("DEL")?))
            })?;
            add.push(contender.name, added.wall_ms);
            del.push(contender.name, deleted.wall_ms);
        }
    }
    match instructions::probe() {
        Err(why) => counted.notes.push(format!("not run: {why:#}")),
        // The reference's children are hundreds of processes of other programs.
        Ok(()) => hosts
            .iter()
            .filter(|host| host.contender.name != REFERENCE)
            .try_for_each(|host| count(room, host, &container, counted))?,
    }
    Ok(all.into())
}

/// Leaves one attachment, so that the network exists.
fn stand(room: &Room, host: &Host) -> Result<()> {
    let contender = &host.contender;
    let resident = room.container(&format!("r{}", contender.slot))?;
    room.inside(&host.name, || contender.attachment(Scenario::Masquerade, &resident, "eth0").run("ADD"))?;
    Ok(())
}

fn count(room: &Room, host: &Host, container: &Container, counted: &mut Compared) -> Result<()> {
    let name = host.contender.name;
    for _ in 0..COUNTED {
        let instructions = room.inside(&host.name, || {
            let mut attachment = host.contender.attachment(Scenario::Portmap, container, "eth0");
            let instructions =
                instructions::of(&mut attachment, "ADD").with_context(|| format!("count {name}"))?;
            attachment.run("DEL")?;
            Ok(instructions)
        })?;
        // Far below 2^53, up to which a double is exact.
        counted.push(name, instructions as f64);
    }
    Ok(())
}
