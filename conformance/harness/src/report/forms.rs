//! The formats of a report, each as a text.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Run, case, line};
use crate::baseline::Standing;
use crate::case::{Outcome, Verdict, first_line};

/// The failures in full, the names of cases not run, and the totals. CI recognises the last line.
pub fn text(run: &Run) -> String {
    let mut text = String::new();
    for outcome in run.outcomes {
        match (&outcome.verdict, run.standing(outcome)) {
            (_, Standing::Known(_)) => {}
            (Verdict::Failed(report), _) => {
                let _ = write!(
                    text,
                    "\n==== {} [{}]\n{}\n",
                    outcome.name,
                    outcome.clauses.join(" "),
                    report.trim_end()
                );
            }
            _ => {}
        }
    }
    text.push('\n');
    for outcome in run.outcomes {
        let _ = match (&outcome.verdict, run.standing(outcome)) {
            (Verdict::NotRun(why), _) => writeln!(text, "not run: {} ({why})", outcome.name),
            (_, Standing::Known(reason)) => writeln!(text, "as known: {} ({reason})", outcome.name),
            (_, Standing::Fixed) => {
                writeln!(text, "fixed: {} passes; take it out of the baseline", outcome.name)
            }
            (_, Standing::New) if run.baseline.is_some() => {
                writeln!(text, "new: {} fails, and is not in the baseline", outcome.name)
            }
            _ => Ok(()),
        };
    }
    if !run.touched.is_empty() {
        text += "the machine's own state changed during the run:\n";
        run.touched.iter().for_each(|line| text += &format!("  {line}\n"));
    }
    let sums = run.sums();
    if let Some(baseline) = run.baseline {
        let _ = writeln!(
            text,
            "against {}: {} failed as known, {} failed anew, {} fixed",
            baseline.name,
            sums.known,
            sums.failed - sums.known,
            sums.fixed
        );
    }
    let failed = sums.failed - sums.known + sums.fixed + usize::from(!run.touched.is_empty());
    let _ = writeln!(text, "{} passed, {failed} failed, {} not run", sums.passed, sums.not_run);
    let failed = failed + if run.strict { sums.not_run } else { 0 };
    let _ = writeln!(text, "{} passed, {failed} failed", sums.passed);
    text
}

/// One JSON document.
pub fn json(run: &Run) -> Value {
    let sums = run.sums();
    let cases: Vec<Value> = run
        .outcomes
        .iter()
        .map(|outcome| {
            let mut shown = case(outcome);
            match run.standing(outcome) {
                Standing::Known(reason) => shown["known"] = json!(reason),
                Standing::Fixed => shown["fixed"] = json!(true),
                Standing::New | Standing::Fine => {}
            }
            shown
        })
        .collect();
    json!({
        "suite": run.suite, "passed": sums.passed, "failed": sums.failed, "notRun": sums.not_run,
        "baseline": run.baseline.map(|baseline| &baseline.name), "knownFailures": sums.known, "fixed": sums.fixed,
        "machineChanged": run.touched, "held": run.held(), "cases": cases,
    })
}

/// JUnit XML: cases not run and known failures are skipped.
pub fn junit(run: &Run) -> String {
    let sums = run.sums();
    let seconds: f64 = run.outcomes.iter().map(|outcome| outcome.took.as_secs_f64()).sum();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        text,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\">",
        xml(&run.suite.display().to_string()),
        run.outcomes.len(),
        sums.failed - sums.known + sums.fixed,
        sums.not_run + sums.known
    );
    for outcome in run.outcomes {
        let (group, name) = outcome.name.split_once('/').unwrap_or(("", &outcome.name));
        let inside = match (&outcome.verdict, run.standing(outcome)) {
            (_, Standing::Known(reason)) => format!("<skipped message=\"as known: {}\"/>", xml(reason)),
            (_, Standing::Fixed) => "<failure message=\"fixed: the baseline lists it as failing\"/>".into(),
            (Verdict::Failed(report), _) => {
                format!("<failure message=\"{}\">{}</failure>", xml(first_line(report)), xml(report))
            }
            (Verdict::NotRun(why), _) => format!("<skipped message=\"{}\"/>", xml(why)),
            (Verdict::Passed, _) => String::new(),
        };
        let _ = writeln!(
            text,
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">{inside}</testcase>",
            xml(group),
            xml(name),
            outcome.took.as_secs_f64()
        );
    }
    text + "</testsuite>\n"
}

/// The Test Anything Protocol: known failures are TODO.
pub fn tap(run: &Run) -> String {
    let mut text = format!("TAP version 14\n1..{}\n", run.outcomes.len());
    for (number, outcome) in (1..).zip(run.outcomes) {
        let plain = |why: &str| first_line(why).replace('#', "\\#");
        let (word, directive) = match (&outcome.verdict, run.standing(outcome)) {
            (_, Standing::Known(reason)) => ("not ok", format!(" # TODO as known: {}", plain(reason))),
            (_, Standing::Fixed) => ("ok", " # TODO fixed, take it out of the baseline".into()),
            (Verdict::Passed, _) => ("ok", String::new()),
            (Verdict::Failed(_), _) => ("not ok", String::new()),
            (Verdict::NotRun(why), _) => ("ok", format!(" # SKIP {}", plain(why))),
        };
        let _ = writeln!(text, "{word} {number} - {}{directive}", outcome.name);
        let _ = write!(text, "  ---\n  duration_ms: {:.1}\n", outcome.took.as_secs_f64() * 1e3);
        if let Verdict::Failed(report) = &outcome.verdict {
            text += "  message: |\n";
            report.trim_end().lines().for_each(|line| text += &format!("    {line}\n"));
        }
        text += "  ...\n";
    }
    text
}

/// A page for a CI job's summary: the totals, then every unexpected outcome.
pub fn markdown(run: &Run) -> String {
    let sums = run.sums();
    let mut text = format!("# Conformance of `{}`\n\n", run.suite.display());
    text += "| passed | failed | as known | fixed | not run |\n|---|---|---|---|---|\n";
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} |",
        sums.passed,
        sums.failed - sums.known,
        sums.known,
        sums.fixed,
        sums.not_run
    );
    let odd: Vec<&Outcome> = run
        .outcomes
        .iter()
        .filter(|outcome| outcome.verdict != Verdict::Passed || run.standing(outcome) == Standing::Fixed)
        .collect();
    if !odd.is_empty() {
        text += "\n| case | clauses | outcome | |\n|---|---|---|---|\n";
    }
    for outcome in odd {
        let (word, why) = match (&outcome.verdict, run.standing(outcome)) {
            (_, Standing::Known(reason)) => ("as known", reason),
            (_, Standing::Fixed) => ("fixed", "take it out of the baseline"),
            (Verdict::Failed(report), _) => ("**failed**", report.as_str()),
            (Verdict::NotRun(why), _) => ("not run", why.as_str()),
            (Verdict::Passed, _) => continue,
        };
        let why = first_line(why).replace('|', "\\|").replace('<', "&lt;");
        let _ = writeln!(text, "| `{}` | {} | {word} | {why} |", outcome.name, outcome.clauses.join(" "));
    }
    for line in run.touched {
        let _ = write!(text, "\nThe machine's own state changed: `{line}`\n");
    }
    text += "\n<details><summary>All cases</summary>\n\n```\n";
    run.outcomes.iter().for_each(|outcome| text += &format!("{}\n", line(outcome, run.standing(outcome))));
    text + "```\n\n</details>\n"
}

/// Escapes markup for XML and drops characters that XML forbids.
fn xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '&' => safe += "&amp;",
            '"' => safe += "&quot;",
            '\n' | '\t' => safe.push(sign),
            _ if sign.is_control() => {}
            _ => safe.push(sign),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{json, junit, markdown, tap, text};
    use crate::case::{Outcome, Verdict};
    use crate::report::Run;

    fn shown(form: impl Fn(&Run) -> String) -> String {
        let outcome = |name: &str, verdict| Outcome {
            name: name.to_owned(),
            clauses: &["C-001"],
            verdict,
            took: Duration::from_millis(20),
            in_vm: false,
        };
        let outcomes = [
            outcome("a/good", Verdict::Passed),
            outcome("a/bad", Verdict::Failed("got <1>|\"2\"\u{1}\nmore".into())),
            outcome("a/none", Verdict::NotRun("no #5".into())),
        ];
        let run =
            Run { suite: Path::new("/s"), outcomes: &outcomes, touched: &[], strict: false, baseline: None };
        assert!(!run.held());
        form(&run)
    }

    #[test]
    fn every_format_shows_all_three_outcomes() {
        let text = shown(text);
        assert!(text.ends_with("1 passed, 1 failed, 1 not run\n1 passed, 1 failed\n"), "{text}");
        let junit = shown(junit);
        assert!(junit.contains("tests=\"3\" failures=\"1\" skipped=\"1\""), "{junit}");
        assert!(junit.contains("message=\"got &lt;1&gt;|&quot;2&quot;\""), "{junit}");
        let tap = shown(tap);
        assert!(tap.contains("ok 1 - a/good\n") && tap.contains("not ok 2 - a/bad\n"), "{tap}");
        assert!(tap.contains("ok 3 - a/none # SKIP no \\#5\n"), "{tap}");
        let page = shown(markdown);
        assert!(page.contains("| 1 | 1 | 0 | 0 | 1 |") && page.contains("got &lt;1>\\|"), "{page}");
        let document = shown(|run| json(run).to_string());
        assert!(document.contains("\"notRun\":1") && document.contains("\"held\":false"), "{document}");
    }
}
