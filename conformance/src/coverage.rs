//! Which clauses have a case, and which of those passed: the lists in `testdata/clauses` against
//! the cases and, if given, the JSON report of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use serde_json::{Value, json};

/// The pages: name, text. A line is an id, a space and the promise; the cases cite the id.
const PAGES: [(&str, &str); 28] = [
    ("spec", include_str!("../../testdata/clauses/spec.txt")),
    ("runtime", include_str!("../../testdata/clauses/runtime.txt")),
    ("bandwidth", include_str!("../../testdata/clauses/bandwidth.txt")),
    ("bridge", include_str!("../../testdata/clauses/bridge.txt")),
    ("host-device", include_str!("../../testdata/clauses/host-device.txt")),
    ("host-local", include_str!("../../testdata/clauses/host-local.txt")),
    ("static", include_str!("../../testdata/clauses/static.txt")),
    ("loopback", include_str!("../../testdata/clauses/loopback.txt")),
    ("macvlan", include_str!("../../testdata/clauses/macvlan.txt")),
    ("ipvlan", include_str!("../../testdata/clauses/ipvlan.txt")),
    ("ptp", include_str!("../../testdata/clauses/ptp.txt")),
    ("sbr", include_str!("../../testdata/clauses/sbr.txt")),
    ("vlan", include_str!("../../testdata/clauses/vlan.txt")),
    ("vrf", include_str!("../../testdata/clauses/vrf.txt")),
    ("dummy", include_str!("../../testdata/clauses/dummy.txt")),
    ("portmap", include_str!("../../testdata/clauses/portmap.txt")),
    ("firewall", include_str!("../../testdata/clauses/firewall.txt")),
    ("tap", include_str!("../../testdata/clauses/tap.txt")),
    ("chain", include_str!("../../testdata/clauses/chain.txt")),
    ("tuning", include_str!("../../testdata/clauses/tuning.txt")),
    ("dhcp", include_str!("../../testdata/clauses/dhcp.txt")),
    ("dns", include_str!("../../testdata/clauses/dns.txt")),
    ("links", include_str!("../../testdata/clauses/links.txt")),
    ("fast-path", include_str!("../../testdata/clauses/fast-path.txt")),
    ("host", include_str!("../../testdata/clauses/host.txt")),
    ("tool", include_str!("../../testdata/clauses/tool.txt")),
    ("overlay", include_str!("../../testdata/clauses/overlay.txt")),
    ("harness", include_str!("../../testdata/clauses/harness.txt")),
];

/// One clause, and the cases that test it.
struct Clause<'t> {
    page: &'static str,
    id: &'t str,
    text: &'t str,
    cases: Vec<&'static str>,
}

/// The outcome of each case in a run: `passed`, `failed`, `not run`.
type Outcomes = BTreeMap<String, String>;

/// Prints the coverage; `report` is the JSON report of a run. True when every clause has a case and
/// none of the cases failed in that run.
pub fn run(cases: &[Case], report: Option<&Path>, all: bool, as_json: bool) -> Result<bool> {
    let clauses = clauses(cases)?;
    let outcomes = report.map(outcomes).transpose()?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&document(&clauses, outcomes.as_ref()))?);
    } else {
        print(&clauses, outcomes.as_ref(), all);
    }
    let missed =
        |clause: &Clause| clause.cases.is_empty() || state(clause, outcomes.as_ref()) == Some("failed");
    Ok(!clauses.iter().any(missed))
}

fn clauses(cases: &[Case]) -> Result<Vec<Clause<'static>>> {
    let mut clauses: Vec<Clause> = vec![];
    for (page, text) in PAGES {
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (id, text) =
                line.split_once(' ').with_context(|| format!("{page}: no promise in {line:?}"))?;
            ensure!(!clauses.iter().any(|clause| clause.id == id), "{page}: {id} occurs twice");
            let tried = cases.iter().filter(|case| case.clauses.contains(&id)).map(|case| case.name);
            clauses.push(Clause { page, id, text, cases: tried.collect() });
        }
    }
    Ok(clauses)
}

fn outcomes(report: &Path) -> Result<Outcomes> {
    let text = fs::read(report).with_context(|| format!("read {}", report.display()))?;
    let document: Value = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a JSON report", report.display()))?;
    let cases = document["cases"].as_array();
    let cases =
        cases.with_context(|| format!("{} has no cases: it is not the report of a run", report.display()))?;
    let text = |case: &Value, key: &str| case[key].as_str().unwrap_or_default().to_owned();
    Ok(cases.iter().map(|case| (text(case, "name"), text(case, "outcome"))).collect())
}

/// The outcome of a clause in a run: one failed case fails it, and it passes only if all its cases
/// ran.
fn state(clause: &Clause, outcomes: Option<&Outcomes>) -> Option<&'static str> {
    let outcomes = outcomes?;
    let outcomes: Vec<_> = clause.cases.iter().map(|name| outcomes.get(*name).map(String::as_str)).collect();
    if outcomes.contains(&Some("failed")) {
        return Some("failed");
    }
    let all = !outcomes.is_empty() && outcomes.iter().all(|outcome| *outcome == Some("passed"));
    Some(if all { "passed" } else { "not run" })
}

fn print(clauses: &[Clause], outcomes: Option<&Outcomes>, all: bool) {
    for (page, _) in PAGES {
        let of_page: Vec<_> = clauses.iter().filter(|clause| clause.page == page).collect();
        let tried = of_page.iter().filter(|clause| !clause.cases.is_empty()).count();
        let percent = (tried * 100).checked_div(of_page.len()).unwrap_or(100);
        let mut line =
            format!("{page:<11} {tried:>3} of {:>3} clauses have a case, {percent:>3} %", of_page.len());
        if outcomes.is_some() {
            let count =
                |wanted| of_page.iter().filter(|clause| state(clause, outcomes) == Some(wanted)).count();
            line += &format!("; {} passed, {} failed", count("passed"), count("failed"));
        }
        println!("{line}");
    }
    for clause in clauses {
        let cases = if clause.cases.is_empty() { "NO CASE".to_owned() } else { clause.cases.join(" ") };
        match state(clause, outcomes) {
            Some("failed") => println!("failed   {} {} ({cases})", clause.id, clause.text),
            _ if clause.cases.is_empty() => println!("no case  {} {}", clause.id, clause.text),
            state if all => {
                println!("{:<8} {} {} ({cases})", state.unwrap_or("tried"), clause.id, clause.text)
            }
            _ => {}
        }
    }
}

fn document(clauses: &[Clause], outcomes: Option<&Outcomes>) -> Value {
    let shown = |clause: &Clause| {
        json!({"page": clause.page, "id": clause.id, "text": clause.text, "cases": clause.cases,
               "outcome": state(clause, outcomes)})
    };
    json!({"clauses": clauses.iter().map(shown).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::{PAGES, clauses};
    use crate::registry;

    #[test]
    fn every_clause_has_a_case() {
        let clauses = clauses(&registry::cases()).unwrap();
        let bare: Vec<_> =
            clauses.iter().filter(|clause| clause.cases.is_empty()).map(|clause| clause.id).collect();
        assert!(bare.is_empty(), "{bare:?}");
    }

    #[test]
    fn every_case_cites_a_clause_and_clauses_only() {
        let cases = registry::cases();
        let known = clauses(&cases).unwrap();
        for case in &cases {
            assert!(!case.clauses.is_empty(), "{} cites no clause", case.name);
            for id in case.clauses {
                assert!(known.iter().any(|clause| clause.id == *id), "{} cites {id}", case.name);
            }
        }
    }

    /// Promises that unit tests prove: `conformance/tests/citations.rs` holds them.
    const WITHOUT_CASES: &str = "-unit.txt";

    #[test]
    fn every_page_in_the_tree_is_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/clauses");
        let files: BTreeSet<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(WITHOUT_CASES))
            .collect();
        assert_eq!(files, PAGES.iter().map(|(page, _)| format!("{page}.txt")).collect());
    }
}
