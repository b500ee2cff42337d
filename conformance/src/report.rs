//! The outcomes, for people and for programs.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::case::{Outcome, Verdict};

/// One line for one case.
pub fn line(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let word = match outcome.verdict {
        Verdict::Passed => "passed ",
        Verdict::Failed(_) => "FAILED ",
        Verdict::NotRun(_) => "not run",
    };
    let lane = if outcome.in_vm { " (virtual machine)" } else { "" };
    writeln!(out, "{word} {:>7.2} s  {}{lane}", outcome.took.as_secs_f64(), outcome.name)
}

/// How many passed, failed and were not run.
fn counts(outcomes: &[Outcome]) -> (usize, usize, usize) {
    let count = |wanted: fn(&Verdict) -> bool| outcomes.iter().filter(|o| wanted(&o.verdict)).count();
    (count(|v| *v == Verdict::Passed), count(Verdict::is_failure), count(|v| matches!(v, Verdict::NotRun(_))))
}

/// The failures in full, what was not run by name, and the sums. The last line is for CI to recognise; `strict` counts
/// there as failed what was not run.
pub fn text(outcomes: &[Outcome], touched: &[String], strict: bool) {
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
    let failed = failed + if strict { not_run } else { 0 };
    println!("{passed} passed, {failed} failed");
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

/// The same as one JSON document.
pub fn json(suite: &Path, outcomes: &[Outcome], touched: &[String]) -> Result<()> {
    let (passed, failed, not_run) = counts(outcomes);
    let cases: Vec<_> = outcomes.iter().map(case).collect();
    let document = json!({
        "suite": suite, "passed": passed, "failed": failed, "notRun": not_run,
        "machineChanged": touched, "cases": cases,
    });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}
