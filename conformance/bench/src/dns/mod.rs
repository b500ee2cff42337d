//! `conformance dns`: names beside the servers that people have now: how fast, at what cost, how often an attachment
//! fails, and what is lost under load. Each part in a room of its own.

mod churn;
mod dnsperf;
mod load;
mod names;
mod rival;
mod speed;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::job::Kind;
use harness::room::Room;
use harness::runner::Grounds;

/// The longest that one part may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A part: its name, what it is about, and what it does.
type Part = (&'static str, &'static str, fn(&Room) -> Result<bool>);

const PARTS: [Part; 4] = [
    ("churn", "the only container comes and goes, and four at once (D-060)", churn::run),
    ("load", "5,000 questions a second while 500 containers come and go (D-061, D-069)", load::run),
    ("names", "how soon one among 5,000 is answered, and how fast all of them are (D-081)", names::run),
    (
        "speed",
        "questions a second, processor time, memory, and what an ADD takes (D-080, D-082, D-083)",
        speed::run,
    ),
];

/// The job of a part's room.
pub const JOBS: &[Kind] = &[Kind::new("dns", job)];

/// Runs every part whose name holds `filter`: true when all budgets were kept.
pub fn run(grounds: &Grounds, filter: &str) -> Result<bool> {
    let grounds = Grounds { timeout: PATIENCE, ..grounds.clone() };
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

/// A line that says whether a promise was kept.
fn verdict(what: &str, kept: bool) -> bool {
    println!("  {} {what}", if kept { "kept  " } else { "MISSED" });
    kept
}
