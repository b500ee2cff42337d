//! A case: one promise, the clauses it comes from, and the code that tests it.

use std::time::Duration;

use crate::need::Need;
use crate::room::Room;

/// The reason of a failed case, for people. The runner adds the calls that led to it.
pub type Failure = anyhow::Error;

/// One promise, tested in a room of its own.
#[derive(Clone, Copy)]
pub struct Case {
    /// `group/what_is_promised`, unique.
    pub name: &'static str,
    /// The ids of the clauses it tests, as in `testdata/clauses`.
    pub clauses: &'static [&'static str],
    /// The features that the machine must have; the only reasons not to run it.
    pub needs: &'static [Need],
    /// Whether it must run alone on the machine: it measures, or uses much of it.
    pub alone: bool,
    /// Tests the promise.
    pub run: fn(&Room) -> Result<(), Failure>,
}

impl Case {
    /// A case that runs on every machine.
    pub const fn new(
        name: &'static str,
        clauses: &'static [&'static str],
        run: fn(&Room) -> Result<(), Failure>,
    ) -> Self {
        Self { name, clauses, needs: &[], alone: false, run }
    }

    /// The same case, for machines with these features.
    pub const fn needs(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    /// Whether it needs root of the machine, not of a user namespace: then its room does not
    /// confine a hostile plugin.
    pub fn needs_the_machines_root(&self) -> bool {
        self.needs.iter().any(|need| need.is_the_machines())
    }

    /// The same case, run alone.
    pub const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise holds.
    Passed,
    /// It does not hold; the report describes how that was seen.
    Failed(String),
    /// The probe of a need failed, so the promise was not tested.
    NotRun(String),
}

impl Verdict {
    /// Whether it makes the run fail.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// The first line of a reason.
pub fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim()
}

/// A case and how it ended.
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// The case's clauses.
    pub clauses: &'static [&'static str],
    /// How it ended.
    pub verdict: Verdict,
    /// Wall-clock time.
    pub took: Duration,
    /// Whether it ran in the virtual machine.
    pub in_vm: bool,
}
