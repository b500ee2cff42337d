//! The outcomes, for people and for programs.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::case::{Outcome, Verdict};

/// One line for one case.
pub fn line(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let word = match outcome.verdict {
        Verdict::Passed => "passed ",
        Verdict::Failed(_) => "FAILED ",
        Verdict::NotRun(_) => "not run",
    };
    writeln!(out, "{word} {:>7.2} s  {}", outcome.took.as_secs_f64(), outcome.name)
}

/// How many passed, failed and were not run.
fn counts(outcomes: &[Outcome]) -> (usize, usize, usize) {
    let count = |wanted: fn(&Verdict) -> bool| outcomes.iter().filter(|o| wanted(&o.verdict)).count();
    (count(|v| *v == Verdict::Passed), count(Verdict::is_failure), count(|v| matches!(v, Verdict::NotRun(_))))
}

/// The failures in full, what was not run by name, and the sums. The last line is for CI to recognise.
pub fn text(outcomes: &[Outcome], touched: &[String]) {
    for outcome in outcomes {
        if let Verdict::Failed(report) = &outcome.verdict {
            println!("\n==== {} [{}]", outcome.name, outcome.clauses.join(" "));
            println!("{}", report.trim_end());
        }
    }
    println!();
    for outcome in outcomes {
        if let Verdict::NotRun(why) = &outcome.verdict {
            println!("not run: {} ({why})", outcome.name);
        }
    }
    if !touched.is_empty() {
        println!("the machine's own state changed during the run:");
        touched.iter().for_each(|line| println!("  {line}"));
    }
    let (passed, failed, not_run) = counts(outcomes);
    let failed = failed + usize::from(!touched.is_empty());
    println!("{passed} passed, {failed} failed, {not_run} not run");
    println!("{passed} passed, {failed} failed");
}

/// The same as one JSON document.
pub fn json(suite: &Path, outcomes: &[Outcome], touched: &[String]) -> Result<()> {
    let (passed, failed, not_run) = counts(outcomes);
    let cases: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            let (word, report) = match &outcome.verdict {
                Verdict::Passed => ("passed", ""),
                Verdict::Failed(report) => ("failed", report.as_str()),
                Verdict::NotRun(why) => ("not run", why.as_str()),
            };
            json!({
                "name": outcome.name, "clauses": outcome.clauses, "outcome": word,
                "report": report, "seconds": outcome.took.as_secs_f64(),
            })
        })
        .collect();
    let document = json!({
        "suite": suite, "passed": passed, "failed": failed, "notRun": not_run,
        "machineChanged": touched, "cases": cases,
    });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}
