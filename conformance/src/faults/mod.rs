//! `conformance faults`: a SIGKILL and an error at every system call that changes something.

pub mod point;
pub mod steps;
pub mod trial;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};

use crate::room::Room;
use crate::runner::{Finished, Grounds};
use point::Point;
use trial::{Fault, Outcome, TARGETS, Target};

/// One trial and how it ended; the error is the report.
struct Row {
    target: Target,
    fault: Fault,
    point: Point,
    outcome: Result<Outcome, String>,
}

/// Runs every trial, prints the table and the failures: true when nothing was left anywhere.
pub fn run(grounds: &Grounds, filter: &str) -> Result<bool> {
    let mut rows = vec![];
    for target in TARGETS.into_iter().filter(|target| target.name().contains(filter)) {
        let listed = grounds.run(&format!("points:{}", target.name()))?;
        if let Some(trouble) = listed.trouble {
            bail!("list the system calls of {}: {trouble}", target.name());
        }
        let points = listed.stdout.lines().map(parse).collect::<Result<Vec<_>>>()?;
        rows.extend(points.into_iter().flat_map(|point| {
            [Fault::Kill, Fault::Error].map(|fault| Row {
                target,
                fault,
                point: point.clone(),
                outcome: Ok(Outcome::NotReached),
            })
        }));
    }
    if rows.is_empty() {
        bail!("no target matches {filter:?}");
    }
    let done = AtomicUsize::new(0);
    let outcomes = grounds.parallel(&rows, |row| {
        let outcome = one(grounds, row);
        let count = done.fetch_add(1, Ordering::Relaxed) + 1;
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            eprint!("\r{count} of {}", rows.len());
            std::io::stderr().flush().ok();
        }
        outcome
    });
    for (row, outcome) in rows.iter_mut().zip(outcomes) {
        row.outcome = outcome;
    }
    Ok(print(&rows))
}

fn parse(line: &str) -> Result<Point> {
    let (syscall, nth) = line.split_once(' ').with_context(|| format!("{line:?} is no point"))?;
    Ok(Point { syscall: syscall.to_owned(), nth: nth.parse()? })
}

fn one(grounds: &Grounds, row: &Row) -> Result<Outcome, String> {
    let job = format!("fault:{}:{:?}:{} {}", row.target.name(), row.fault, row.point.syscall, row.point.nth);
    match grounds.run(&job) {
        Ok(Finished { trouble: None, stdout }) => {
            let named = Outcome::ALL.into_iter().find(|(_, name)| *name == stdout.trim());
            named.map(|(outcome, _)| outcome).ok_or_else(|| format!("the trial said {stdout:?}"))
        }
        Ok(Finished { trouble: Some(report), .. }) => Err(report),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// The job of one room: `target:Fault:syscall nth`. Prints the outcome.
pub fn trial_job(room: &Room, job: &str) -> Result<()> {
    let mut parts = job.split(':');
    let target = find(parts.next().unwrap_or_default())?;
    let fault = if parts.next() == Some("Kill") { Fault::Kill } else { Fault::Error };
    let point = parse(parts.next().unwrap_or_default())?;
    let outcome = trial::run(room, target, fault, &point)?;
    let name = Outcome::ALL.into_iter().find(|(known, _)| *known == outcome);
    println!("{}", name.map_or("", |(_, name)| name));
    Ok(())
}

/// The job that lists a target's points.
pub fn points_job(room: &Room, target: &str) -> Result<()> {
    print!("{}", trial::list(room, find(target)?)?);
    Ok(())
}

fn find(name: &str) -> Result<Target> {
    TARGETS
        .into_iter()
        .find(|target| target.name() == name)
        .with_context(|| format!("no target is called {name}"))
}

fn print(rows: &[Row]) -> bool {
    eprintln!();
    let bad: Vec<_> = rows.iter().filter_map(|row| Some((row, row.outcome.as_ref().err()?))).collect();
    for (row, report) in &bad {
        println!("==== {} {:?} at {} {}", row.target.name(), row.fault, row.point.syscall, row.point.nth);
        println!("{}\n", report.trim_end());
    }
    println!(
        "{:<24}{:>7} | {:>7}{:>8} | {:>7}{:>10}{:>8} | {:>11}",
        "", "points", "killed", "failed", "undone", "tolerated", "failed", "not reached"
    );
    for target in TARGETS {
        let of = |fault: Fault, wanted: fn(&Result<Outcome, String>) -> bool| {
            rows.iter()
                .filter(|row| row.target == target && row.fault == fault && wanted(&row.outcome))
                .count()
        };
        let points = of(Fault::Kill, |_| true);
        if points == 0 {
            continue;
        }
        let not_reached = |outcome: &Result<Outcome, String>| *outcome == Ok(Outcome::NotReached);
        println!(
            "{:<24}{points:>7} | {:>7}{:>8} | {:>7}{:>10}{:>8} | {:>11}",
            target.name(),
            of(Fault::Kill, |outcome| matches!(outcome, Ok(Outcome::Undone | Outcome::Tolerated))),
            of(Fault::Kill, Result::is_err),
            of(Fault::Error, |outcome| *outcome == Ok(Outcome::Undone)),
            of(Fault::Error, |outcome| *outcome == Ok(Outcome::Tolerated)),
            of(Fault::Error, Result::is_err),
            of(Fault::Kill, not_reached) + of(Fault::Error, not_reached),
        );
    }
    let not_reached = rows.iter().filter(|row| row.outcome == Ok(Outcome::NotReached)).count();
    println!(
        "{} injections, {} left something behind or broke something, {not_reached} points not reached",
        rows.len(),
        bad.len()
    );
    println!("{} passed, {} failed", rows.len() - bad.len() - not_reached, bad.len());
    bad.is_empty()
}
