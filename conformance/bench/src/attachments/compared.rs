//! Operations that are compared in turns beside the scenarios: their values, and their budgets.

use serde::{Deserialize, Serialize};

use super::budget::Verdict;
use super::contender::{BEFORE, OURS};
use crate::stats::{Ratio, ratio};

/// One operation of several contenders.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compared {
    /// The operation, as the file of budgets names it.
    pub operation: String,
    /// Its object, where it is measured for several.
    pub of: Option<String>,
    /// The unit of the values.
    pub unit: Unit,
    /// The values of each contender.
    pub series: Vec<Values>,
    /// What went wrong with ours: nothing may.
    pub faults: Vec<String>,
    /// What was not measured, and why; and what went wrong with others.
    pub notes: Vec<String>,
}

/// The unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Wall time in milliseconds.
    Ms,
    /// Instructions in user mode.
    Instructions,
    /// A ratio, at least 1.
    Factor,
}

/// The values of a contender, one of each round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Values {
    /// The contender.
    pub contender: String,
    /// In the order of the rounds.
    pub values: Vec<f64>,
}

/// A budget for one operation of ours.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComparedBudget {
    operation: String,
    to: String,
    at_most: f64,
}

impl Unit {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Ms => "ms",
            Unit::Instructions => "instructions",
            Unit::Factor => "ratio",
        }
    }
}

impl Compared {
    /// An operation without values.
    pub fn new(operation: &str, unit: Unit) -> Self {
        Self {
            operation: operation.to_owned(),
            of: None,
            unit,
            series: vec![],
            faults: vec![],
            notes: vec![],
        }
    }

    /// The operation and its object.
    pub fn title(&self) -> String {
        match &self.of {
            Some(of) => format!("{} of {of}", self.operation),
            None => self.operation.clone(),
        }
    }

    /// Adds a value of a contender.
    pub fn push(&mut self, contender: &str, value: f64) {
        match self.series.iter_mut().find(|series| series.contender == contender) {
            Some(series) => series.values.push(value),
            None => self.series.push(Values { contender: contender.to_owned(), values: vec![value] }),
        }
    }

    /// Notes that a contender is not measured.
    pub fn not_run(&mut self, contender: &str, why: &str) {
        self.notes.push(format!("not run: {contender}: {why}"));
    }

    /// The values of a contender.
    pub fn values(&self, contender: &str) -> Option<&[f64]> {
        let found = self.series.iter().find(|series| series.contender == contender);
        found.map(|series| series.values.as_slice())
    }

    /// Ours relative to another's.
    pub fn ours_to(&self, base: &str) -> Option<Ratio> {
        ratio(self.values(OURS)?, self.values(base)?)
    }
}

impl ComparedBudget {
    /// The verdicts on an operation that was measured. A budget against an earlier build applies
    /// only when there is one.
    fn judge(&self, all: &[Compared], has_before: bool) -> Vec<Verdict> {
        if self.to == BEFORE && !has_before {
            return vec![];
        }
        let own = all.iter().filter(|compared| compared.operation == self.operation);
        own.map(|compared| {
            let what = format!("{}, to {}", compared.title(), self.to);
            Verdict::ratio(what, compared.ours_to(&self.to), self.at_most)
        })
        .collect()
    }
}

/// The verdicts on all operations, and on their faults.
pub fn judge(budgets: &[ComparedBudget], all: &[Compared], has_before: bool) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> =
        budgets.iter().flat_map(|budget| budget.judge(all, has_before)).collect();
    for compared in all.iter().filter(|compared| !compared.faults.is_empty()) {
        let what = format!("{}: failed calls and leftovers", compared.title());
        verdicts.push(Verdict::count(what, Some(compared.faults.len() as u64), 0));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::super::budget::Outcome;
    use super::*;

    fn compared() -> Compared {
        let mut compared = Compared::new("VERSION", Unit::Ms);
        compared.of = Some("bridge".into());
        for (contender, value) in [(OURS, 1.0), (BEFORE, 4.0), (OURS, 1.0), (BEFORE, 4.0)] {
            compared.push(contender, value);
        }
        compared
    }

    fn budget(to: &str, at_most: f64) -> ComparedBudget {
        ComparedBudget { operation: "VERSION".into(), to: to.into(), at_most }
    }

    #[test]
    fn a_budget_applies_to_every_object_of_its_operation() {
        let mut other = compared();
        other.of = Some("portmap".into());
        other.push(OURS, 90.0);
        let verdicts = judge(&[budget(BEFORE, 0.25)], &[compared(), other], true);
        assert_eq!(verdicts.len(), 2);
        assert_eq!(verdicts[0].outcome, Outcome::Met);
        assert_eq!(verdicts[0].what, format!("VERSION of bridge, to {BEFORE}"));
    }

    #[test]
    fn without_an_earlier_build_nothing_is_held_against_it() {
        assert!(judge(&[budget(BEFORE, 0.1)], &[compared()], false).is_empty());
        assert_eq!(judge(&[budget("nobody", 0.1)], &[compared()], false)[0].outcome, Outcome::NotMeasured);
    }

    #[test]
    fn a_failed_call_of_ours_is_a_miss() {
        let mut failed = compared();
        failed.faults.push("ADD: no".into());
        assert_eq!(judge(&[], &[failed], true)[0].outcome, Outcome::Missed);
    }
}
