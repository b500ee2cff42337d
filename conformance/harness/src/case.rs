//! A case: one promise, the clauses it comes from, and the code that tries it.

use std::time::Duration;

use crate::need::Need;
use crate::room::Room;

/// Why a case failed, as a person reads it. The runner adds the calls that led there.
pub type Failure = anyhow::Error;

/// One promise, tried in a room of its own.
#[derive(Clone, Copy)]
pub struct Case {
    /// `group/what_is_promised`, unique.
    pub name: &'static str,
    /// The ids of the clauses it tries, as in `testdata/clauses`.
    pub clauses: &'static [&'static str],
    /// What the machine must have; the only reasons for not running it.
    pub needs: &'static [Need],
    /// Whether it needs the machine to itself: it measures, or fills it.
    pub alone: bool,
    /// Tries it.
    pub run: fn(&Room) -> Result<(), Failure>,
}

impl Case {
    /// A case that every machine can run.
    pub const fn new(
        name: &'static str,
        clauses: &'static [&'static str],
        run: fn(&Room) -> Result<(), Failure>,
    ) -> Self {
        Self { name, clauses, needs: &[], alone: false, run }
    }

    /// The same case, for machines that have these.
    pub const fn needs(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    /// Whether it needs root of the machine, not of a user namespace: then its room does not confine a hostile plugin.
    pub fn needs_the_machines_root(&self) -> bool {
        self.needs.iter().any(|need| need.is_the_machines())
    }

    /// The same case, with no other beside it.
    pub const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise is kept.
    Passed,
    /// It is not; the report says how that was seen.
    Failed(String),
    /// The probe of a declared need failed, so nothing is known.
    NotRun(String),
}

impl Verdict {
    /// Whether the run as a whole must fail.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// A case and how it ended.
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// The case's clauses.
    pub clauses: &'static [&'static str],
    /// How it ended.
    pub verdict: Verdict,
    /// Wall time.
    pub took: Duration,
    /// Whether that was in the virtual machine.
    pub in_vm: bool,
}
