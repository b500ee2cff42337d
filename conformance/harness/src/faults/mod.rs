//! `conformance faults`: a SIGKILL and an error at every system call that changes something.

mod hosts;
mod lane;
mod leases;
mod table;
mod target;
mod trial;

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, bail};

use crate::job::{Kind, reported};
use crate::room::Room;
use crate::runner::{Finished, Grounds};
use crate::strace::point::{Extent, Point};
use crate::vm::VmArgs;
use crate::vm::lane::Lane;
pub use lane::guest;
use target::TARGETS;
use target::Target;
use trial::{Fault, Outcome};

/// Trials per room, for targets that share rooms: few enough to finish in time under emulation.
const SHARED: usize = 12;
/// The same where a room takes longer than several trials: it starts an etcd.
const SHARED_ON_A_HOST: usize = 32;

/// The options of `faults`.
pub struct Options<'o> {
    /// Only the targets with a name that contains this.
    pub filter: &'o str,
    /// The lane.
    pub lane: Lane,
    /// The virtual machine.
    pub vm: &'o VmArgs,
    /// Whether a target that is not run is a failure.
    pub strict: bool,
}

/// One trial and its outcome; the error is the report.
struct Row {
    target: Target,
    fault: Fault,
    point: Point,
    outcome: Result<Outcome, String>,
}

/// Trials for one room.
pub struct Hits {
    target: Target,
    fault: Fault,
    extent: Extent,
    points: Vec<Point>,
}

impl Hits {
    /// As a job: `fault:<target>:<fault>:<extent>:<syscall> <nth>,<syscall> <nth>...`.
    fn job(&self) -> String {
        let points: Vec<_> =
            self.points.iter().map(|point| format!("{} {}", point.syscall, point.nth)).collect();
        let (target, extent) = (self.target.name(), self.extent.name());
        format!("fault:{target}:{:?}:{extent}:{}", self.fault, points.join(","))
    }

    /// Parses what follows `fault:`.
    fn read(job: &str) -> Result<Self> {
        let [target, fault, extent, points] =
            job.split(':').collect::<Vec<_>>().try_into().map_err(|_| anyhow!("{job:?} is no job"))?;
        Ok(Self {
            target: Target::named(target)?,
            fault: Fault::named(fault).with_context(|| format!("no fault is called {fault}"))?,
            extent: Extent::named(extent).with_context(|| format!("no extent is called {extent}"))?,
            points: points.split(',').map(parse).collect::<Result<_>>()?,
        })
    }
}

/// The jobs of its rooms.
pub const JOBS: &[Kind] = &[
    Kind::new("points", |room, job| points_job(room, job).map(|()| true)),
    Kind::new("fault", |room, job| Ok(reported(room, trial_job(room, job)))),
];

/// Runs every trial, prints the table and the failures: true when nothing was left behind.
pub fn run(grounds: &Grounds, options: &Options) -> Result<bool> {
    let targets: Vec<_> =
        TARGETS.into_iter().filter(|target| target.name().contains(options.filter)).collect();
    if targets.is_empty() {
        bail!("no target matches {:?}", options.filter);
    }
    let findings = lane::run(grounds, &targets, options)?;
    Ok(table::print(&findings) && (findings.not_run.is_empty() || !options.strict))
}

/// Runs the trials of these targets here; `each` is called as they end.
fn trials(
    grounds: &Grounds,
    targets: &[Target],
    extent: Extent,
    each: impl Fn(&Row) + Sync,
) -> Result<Vec<Row>> {
    let points = grounds.parallel(targets, |target| points_of(grounds, *target, extent));
    let mut jobs = vec![];
    for (target, points) in targets.iter().zip(points) {
        let points = points?;
        for fault in [Fault::Kill, Fault::Error] {
            let together = match target.shares_a_room() {
                true if target.is_on_a_host() => SHARED_ON_A_HOST,
                true => SHARED,
                false => 1,
            };
            jobs.extend(points.chunks(together).map(|chunk| Hits {
                target: *target,
                fault,
                extent,
                points: chunk.to_vec(),
            }));
        }
    }
    let total: usize = jobs.iter().map(|hits| hits.points.len()).sum();
    let done = AtomicUsize::new(0);
    let report = |row: &Row| {
        let count = done.fetch_add(1, Ordering::Relaxed) + 1;
        if std::io::stderr().is_terminal() {
            eprint!("\r{count} of {total}");
            std::io::stderr().flush().ok();
        }
        each(row);
    };
    let rows = grounds.parallel(&jobs, |hits| in_rooms(grounds, hits, &report));
    Ok(rows.into_iter().flatten().collect())
}

fn points_of(grounds: &Grounds, target: Target, extent: Extent) -> Result<Vec<Point>> {
    let listed = grounds.run(&format!("points:{}:{}", target.name(), extent.name()))?;
    if let Some(trouble) = listed.trouble {
        bail!("list the system calls of {}: {trouble}", target.name());
    }
    listed.stdout.lines().map(parse).collect()
}

fn parse(line: &str) -> Result<Point> {
    let (syscall, nth) = line.split_once(' ').with_context(|| format!("{line:?} is no point"))?;
    Ok(Point { syscall: syscall.to_owned(), nth: nth.parse()? })
}

/// Runs these trials one after the other in one room. A failed trial spoils the room, so the rest
/// runs in another.
fn in_rooms(grounds: &Grounds, hits: &Hits, report: &(impl Fn(&Row) + Sync)) -> Vec<Row> {
    let mut rows = vec![];
    while let Some(rest) = hits.points.get(rows.len()..).filter(|rest| !rest.is_empty()) {
        let (mut outcomes, trouble) = in_room(grounds, &Hits { points: rest.to_vec(), ..*hits });
        if outcomes.len() < rest.len() {
            outcomes.push(Err(trouble.unwrap_or_else(|| "the room reported no outcome".into())));
        }
        for (point, outcome) in rest.iter().zip(outcomes) {
            rows.push(Row { target: hits.target, fault: hits.fault, point: point.clone(), outcome });
            rows.last().into_iter().for_each(report);
        }
    }
    rows
}

/// The outcomes from one room in turn, and why it ended before the last, if it did.
fn in_room(grounds: &Grounds, hits: &Hits) -> (Vec<Result<Outcome, String>>, Option<String>) {
    match grounds.run(&hits.job()) {
        Ok(Finished { trouble, stdout }) => {
            let outcomes = stdout
                .lines()
                .map(|line| Outcome::named(line).ok_or_else(|| format!("unexpected output {line:?}")));
            (outcomes.take(hits.points.len()).collect(), trouble)
        }
        Err(error) => (vec![], Some(format!("{error:#}"))),
    }
}

/// The job of one room. Prints each outcome.
fn trial_job(room: &Room, job: &str) -> Result<()> {
    trial::run(room, &Hits::read(job)?, |outcome| println!("{}", outcome.name()))
}

/// The job that lists a target's points: `target:extent`.
fn points_job(room: &Room, job: &str) -> Result<()> {
    let (target, extent) = job.split_once(':').context("a target and an extent")?;
    let extent = Extent::named(extent).context("no such extent")?;
    print!("{}", trial::list(room, Target::named(target)?, extent)?);
    Ok(())
}
