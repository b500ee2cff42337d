//! `conformance dns`: compares names with other servers in use: speed, cost, failed
//! attachments, and losses under load. Each part has its own room.

mod churn;
mod dnsperf;
mod load;
mod names;
mod repeated;
mod servers;
mod speed;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::job::Kind;
use harness::room::Room;
use harness::runner::Grounds;

/// The longest that one part may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A part: its name, a description, and its function.
type Part = (&'static str, &'static str, fn(&Room) -> Result<bool>);

const PARTS: [Part; 5] = [
    ("churn", "one container comes and goes, then four at once (D-060)", churn::run),
    ("load", "5,000 queries a second while 500 containers come and go (D-061, D-069)", load::run),
    ("names", "delay of a new name among 5,000, and queries a second (D-081)", names::run),
    ("repeated", "a repeated name of the outside, whose server takes 20 ms (D-111)", repeated::run),
    ("speed", "queries a second, CPU time, memory, and the time of an ADD (D-080, D-082, D-083)", speed::run),
];

/// The job of a part's room.
pub const JOBS: &[Kind] = &[Kind::new("dns", job)];

/// Runs every part with `filter` in its name. Returns true if all budgets were kept.
pub fn run(grounds: &Grounds, filter: &str) -> Result<bool> {
    let grounds = Grounds { timeout: TIMEOUT, ..grounds.clone() };
    let mut held = true;
    let parts: Vec<_> = PARTS.into_iter().filter(|(name, ..)| name.contains(filter)).collect();
    ensure!(!parts.is_empty(), "no part is called {filter:?}");
    for (name, about, _) in parts {
        println!("\n{name}: {about}");
        held &= grounds.show(&format!("dns:{name}"))?;
    }
    Ok(held)
}

fn job(room: &Room, name: &str) -> Result<bool> {
    let (.., part) = PARTS.into_iter().find(|(known, ..)| *known == name).context("no such part")?;
    part(room)
}

/// Prints whether a budget was kept.
fn report_budget(what: &str, kept: bool) -> bool {
    println!("  {} {what}", if kept { "kept  " } else { "MISSED" });
    kept
}
