//! The hidden sub-command: the work of one process in one room.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::case::Case;
use crate::need::Need;
use crate::room::{Room, confine, enter};
use crate::world::World;

/// The number of last calls that a failure prints.
const CALLS_SHOWN: usize = 3;

/// One job for one room.
#[derive(Args)]
pub struct Job {
    /// The plugins under test.
    #[arg(long = "cni-path")]
    pub suite: PathBuf,
    /// The reference's plugins.
    #[arg(long)]
    pub reference: PathBuf,
    /// The conflists.
    #[arg(long)]
    pub net_d: PathBuf,
    /// Whether this process is already inside the namespaces.
    #[arg(long)]
    pub inside: bool,
    /// The world to make of the room, for a case.
    #[arg(long)]
    pub world: Option<World>,
    /// `case:<name>`, `need:<name>`, `about:`, [`ROOM`], [`PLAIN_ROOM`], or `<kind>:<rest>` of a [`Kind`].
    pub what: String,
}

/// The job that finds out whether cases can have rooms here.
pub const ROOM: &str = "room:";
/// The same for probes, and for cases that need root of the machine: their rooms are not confined.
pub const PLAIN_ROOM: &str = "room:plain";

/// A kind of job other than cases and needs.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The part before the colon in [`Job::what`].
    pub name: &'static str,
    /// Does the job, given the part after the colon. True when it succeeded.
    pub run: fn(&Room, &str) -> Result<bool>,
}

impl Kind {
    /// Creates a kind.
    pub const fn new(name: &'static str, run: fn(&Room, &str) -> Result<bool>) -> Self {
        Self { name, run }
    }
}

/// All jobs of an executable.
pub struct Registry {
    /// Its cases.
    pub cases: Vec<Case>,
    /// Its other jobs.
    pub kinds: Vec<Kind>,
}

/// Enters the room and does the job: true when it succeeded. Messages go to standard error.
pub fn start(job: &Job, registry: &Registry) -> Result<bool> {
    let case = job.what.strip_prefix("case:");
    let case = case.and_then(|name| registry.cases.iter().find(|case| case.name == name));
    let like_a_case = job.what == ROOM || case.is_some_and(|case| !case.needs_the_machines_root());
    let confined = like_a_case && confine::is_possible();
    if !job.inside {
        enter::unshare_all(confined)?;
        enter::end_with_the_parent()?;
        let status = enter::again()?.status().context("start the room's first process")?;
        return Ok(status.success());
    }
    enter::end_with_the_parent()?;
    let elsewhere = enter::furnish(job.what.starts_with("case:"), confined)?;
    enter::end_with_the_parent()?;
    let room = Room::new(&job.suite, &job.reference, &job.net_d);
    let (kind, name) = job.what.split_once(':').unwrap_or((&job.what, ""));
    match kind {
        "need" => match Need::ALL.into_iter().find(|need| need.name() == name) {
            Some(need) => need.probe(&room.suite, &room.reference).map(|()| true),
            None => bail!("no need is called {name}"),
        },
        "about" => about(&room).map(|()| true),
        "room" => enter::ensure_usable(&room).map(|()| true),
        "case" => {
            let case = case.with_context(|| format!("no case is called {name}"))?;
            let world = job.world.map(|world| world.enter(&room)).transpose()?;
            let done = (case.run)(&room).and_then(|()| elsewhere.ensure_untouched());
            let done = done.and_then(|()| world.map_or(Ok(()), |world| world.ensure_untouched()));
            Ok(reported(&room, done))
        }
        _ => match registry.kinds.iter().find(|known| known.name == kind) {
            Some(known) => (known.run)(&room, name),
            None => bail!("no job is called {}", job.what),
        },
    }
}

/// Prints the text that the suite's bridge prints about itself.
fn about(room: &Room) -> Result<()> {
    print!("{}", room.call("bridge", "").run()?.stderr);
    Ok(())
}

/// Prints a failure with the calls that led to it. True when there is none.
pub fn reported(room: &Room, done: Result<()>) -> bool {
    let Err(error) = done else { return true };
    eprintln!("{error:#}\n{}", room.last_calls(CALLS_SHOWN));
    false
}
