//! The hidden sub-command: what one process does in one room.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{Room, confine, enter};
use crate::need::Need;
use crate::world::World;
use crate::{bench, cases, clients, compare, demo, dns_bench, faults, stress};

/// How many of the last calls a failure shows.
const CALLS_SHOWN: usize = 3;

/// One job for one room.
pub struct Job {
    /// The plugins that are judged.
    pub suite: PathBuf,
    /// The reference's plugins.
    pub reference: PathBuf,
    /// The conflists.
    pub net_d: PathBuf,
    /// Whether this process is already inside the namespaces.
    pub inside: bool,
    /// The world that the room is, for a case.
    pub world: Option<World>,
    /// `case:<name>`, `need:<name>`, ...
    pub what: String,
}

/// Enters the room and does the job: true when it held. What it has to say goes to standard error.
pub fn start(job: &Job) -> Result<bool> {
    let case = job.what.strip_prefix("case:");
    let case = case.and_then(|name| cases::all().into_iter().find(|case| case.name == name));
    let confined = case.is_some_and(|case| !case.needs_the_machines_root()) && confine::is_possible();
    if !job.inside {
        enter::unshare_all(confined)?;
        let status = enter::again()?.status().context("start the room's first process")?;
        return Ok(status.success());
    }
    let elsewhere = enter::furnish(job.what.starts_with("case:"), confined)?;
    let room = Room::new(job);
    let (kind, name) = job.what.split_once(':').unwrap_or((&job.what, ""));
    match kind {
        "need" => match Need::ALL.into_iter().find(|need| need.name() == name) {
            Some(need) => need.probe(&room).map(|()| true),
            None => bail!("no need is called {name}"),
        },
        "about" => about(&room).map(|()| true),
        "demo" => demo::run(&room),
        "stress" => Ok(shown(&room, stress::job(&room, name))),
        "dns" => dns_bench::job(&room, name),
        "client" => clients::job(&room, name),
        "answer" => compare::job(&room, name).map(|()| true),
        "points" => faults::points_job(&room, name).map(|()| true),
        "bench" => bench::scenario_job(&room, name).map(|()| true),
        "bench-scale" => bench::scale_job(&room, name).map(|()| true),
        "bench-path" => bench::path_job(&room).map(|()| true),
        "bench-parallel" => bench::parallel_job(&room, name).map(|()| true),
        "fault" => Ok(shown(&room, faults::trial_job(&room, name))),
        "case" => {
            let case = case.with_context(|| format!("no case is called {name}"))?;
            let world = job.world.map(|world| world.enter(&room)).transpose()?;
            let done = (case.run)(&room).and_then(|()| elsewhere.ensure_untouched());
            let done = done.and_then(|()| world.map_or(Ok(()), |world| world.ensure_untouched()));
            Ok(shown(&room, done))
        }
        _ => bail!("no job is called {}", job.what),
    }
}

/// What the suite's bridge says of itself.
fn about(room: &Room) -> Result<()> {
    print!("{}", room.call("bridge", "").run()?.stderr);
    Ok(())
}

/// Prints a failure with the calls that led to it.
fn shown(room: &Room, done: Result<()>) -> bool {
    let Err(error) = done else { return true };
    eprintln!("{error:#}\n{}", room.last_calls(CALLS_SHOWN));
    false
}
