//! Reports of outcomes, for people and for programs.

mod forms;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::baseline::{Baseline, Standing};
use crate::case::{Outcome, Verdict};

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people: a line per case, failures in full, the totals.
    Text,
    /// One JSON document.
    Json,
    /// JUnit XML, which CI systems read.
    Junit,
    /// The Test Anything Protocol, version 14.
    Tap,
    /// A page for a job's summary.
    Markdown,
}

/// A requested report: its format, and the file to write instead of standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The format.
    pub form: Form,
    /// The file.
    pub file: Option<PathBuf>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (form, file) = match text.split_once('=') {
            Some((form, file)) => (form, Some(PathBuf::from(file))),
            None => (text, None),
        };
        let form = match form {
            "text" => Form::Text,
            "json" => Form::Json,
            "junit" => Form::Junit,
            "tap" => Form::Tap,
            "markdown" => Form::Markdown,
            _ => {
                return Err("text, json, junit, tap or markdown, each with =FILE if it is to go there".into());
            }
        };
        Ok(Self { form, file })
    }
}

/// A finished run.
pub struct Run<'r> {
    /// The suite under test.
    pub suite: &'r Path,
    /// The outcomes, in the order of the cases.
    pub outcomes: &'r [Outcome],
    /// The changes to the machine itself.
    pub touched: &'r [String],
    /// Whether a case that was not run counts as failed.
    pub strict: bool,
    /// The suite's known deviations.
    pub baseline: Option<&'r Baseline>,
}

/// The totals of a run.
#[derive(Default)]
pub struct Sums {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed, known ones included.
    pub failed: usize,
    /// Cases that were not run.
    pub not_run: usize,
    /// Of the failed ones, the known ones.
    pub known: usize,
    /// Of the passed ones, those that the baseline lists as failing.
    pub fixed: usize,
}

impl Run<'_> {
    /// Compares an outcome with the baseline.
    pub fn standing(&self, outcome: &Outcome) -> Standing<'_> {
        Standing::of(self.baseline, outcome)
    }

    /// The totals.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for outcome in self.outcomes {
            match outcome.verdict {
                Verdict::Passed => sums.passed += 1,
                Verdict::Failed(_) => sums.failed += 1,
                Verdict::NotRun(_) => sums.not_run += 1,
            }
            match self.standing(outcome) {
                Standing::Known(_) => sums.known += 1,
                Standing::Fixed => sums.fixed += 1,
                Standing::New | Standing::Fine => {}
            }
        }
        sums
    }

    /// Whether everything is as expected: no new failure, no fixed case in the baseline, and the
    /// machine unchanged.
    pub fn held(&self) -> bool {
        let sums = self.sums();
        sums.failed == sums.known
            && sums.fixed == 0
            && self.touched.is_empty()
            && !(self.strict && sums.not_run > 0)
    }

    /// Writes a report to its destination.
    pub fn write(&self, wanted: &Wanted) -> Result<()> {
        let text = match wanted.form {
            Form::Text => forms::text(self),
            Form::Json => format!("{}\n", serde_json::to_string_pretty(&forms::json(self))?),
            Form::Junit => forms::junit(self),
            Form::Tap => forms::tap(self),
            Form::Markdown => forms::markdown(self),
        };
        match &wanted.file {
            Some(path) => fs::write(path, text).with_context(|| format!("write {}", path.display())),
            None => io::stdout().lock().write_all(text.as_bytes()).context("write the report"),
        }
    }
}

/// The requested reports, or text on standard output. Only one can go to standard output.
pub fn wanted(asked: &[Wanted]) -> Result<Vec<Wanted>> {
    if asked.is_empty() {
        return Ok(vec![Wanted { form: Form::Text, file: None }]);
    }
    if asked.iter().filter(|wanted| wanted.file.is_none()).count() > 1 {
        bail!("two reports for standard output: give all but one a file, as in --report junit=report.xml");
    }
    Ok(asked.to_vec())
}

/// One line for one case.
pub fn line(outcome: &Outcome, standing: Standing) -> String {
    let word = match (&outcome.verdict, standing) {
        (_, Standing::Known(_)) => "known  ",
        (_, Standing::Fixed) => "FIXED  ",
        (Verdict::Passed, _) => "passed ",
        (Verdict::Failed(_), _) => "FAILED ",
        (Verdict::NotRun(_), _) => "not run",
    };
    let lane = if outcome.in_vm { " (virtual machine)" } else { "" };
    format!("{word} {:>7.2} s  {}{lane}", outcome.took.as_secs_f64(), outcome.name)
}

/// One outcome as a JSON object.
pub fn case(outcome: &Outcome) -> Value {
    let (word, report) = match &outcome.verdict {
        Verdict::Passed => ("passed", ""),
        Verdict::Failed(report) => ("failed", report.as_str()),
        Verdict::NotRun(why) => ("not run", why.as_str()),
    };
    json!({
        "name": outcome.name, "clauses": outcome.clauses, "outcome": word, "report": report,
        "seconds": outcome.took.as_secs_f64(), "lane": if outcome.in_vm { "vm" } else { "native" },
    })
}
