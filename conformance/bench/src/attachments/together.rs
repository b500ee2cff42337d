//! `--parallel`: many attachments at once.

use std::process::Child;
use std::time::Instant;

use anyhow::{Context, Result};
use harness::namespace::Container;
use harness::room::Room;
use serde::{Deserialize, Serialize};

use super::contender::Contender;
use super::scenario::Scenario;
use super::shot::Shot;
use crate::stats::turns;

/// How many at once.
pub const SIZES: [usize; 3] = [1, 10, 100];

/// How often.
const ROUNDS: usize = 5;

/// The time of a contender for all of them, in each round.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Together {
    /// How many at once.
    pub attachments: usize,
    /// The contender.
    pub contender: String,
    /// From before the first ADD's start to after the last one's end, milliseconds.
    pub add_ms: Vec<f64>,
    /// The same for DEL.
    pub del_ms: Vec<f64>,
    /// Calls that failed, over all rounds.
    pub failures: u64,
    /// The error of the first of them.
    pub first_failure: Option<String>,
}

/// The job of a size's room.
pub fn job(room: &Room, size: &str) -> Result<Vec<Together>> {
    let size: usize = size.parse().context("how many at once")?;
    let containers =
        (0..size).map(|number| room.container(&format!("p{number}"))).collect::<Result<Vec<_>>>()?;
    let mut rows = vec![];
    for contender in Contender::all(room)? {
        let resident = room.container(&format!("r{}", contender.slot))?;
        contender.attachment(Scenario::Bridge, &resident, "eth0").run("ADD")?;
        let row = Together {
            attachments: size,
            contender: contender.name.to_owned(),
            add_ms: vec![],
            del_ms: vec![],
            failures: 0,
            first_failure: None,
        };
        rows.push((contender, row));
    }
    for round in 0..ROUNDS {
        for turn in turns(round, rows.len()) {
            let (contender, row) = &mut rows[turn];
            let add = all(contender, &containers, "ADD", row)?;
            row.add_ms.push(add);
            let del = all(contender, &containers, "DEL", row)?;
            row.del_ms.push(del);
        }
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// One verb for all containers at once: milliseconds for all.
fn all(contender: &Contender, containers: &[Container], verb: &str, row: &mut Together) -> Result<f64> {
    let mut ready = vec![];
    for container in containers {
        let shot = contender.attachment(Scenario::Bridge, container, "eth0").only_shot(verb)?;
        ready.push((shot.command(&[])?, shot));
    }
    let began = Instant::now();
    let mut running: Vec<(Child, Shot)> = vec![];
    for (mut command, shot) in ready {
        running.push((command.spawn().context("start a plugin")?, shot));
    }
    let mut ended = vec![];
    for (mut child, shot) in running {
        ended.push((child.wait()?, shot));
    }
    let took = began.elapsed().as_secs_f64() * 1e3;
    for (status, shot) in ended {
        if let Err(error) = shot.answer(status) {
            row.failures += 1;
            row.first_failure.get_or_insert_with(|| format!("{verb}: {error:#}"));
        }
    }
    Ok(took)
}
