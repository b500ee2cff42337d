//! Limits of time in cases follow the load of the machine: an idle machine's limit fails a suite
//! that is right on a busy one. It reads the sources as text, as rustfmt leaves them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// What a case measures a time by.
const MEASURED: [&str; 5] = ["took", "elapsed()", "lasted", "longest", "quickest"];
/// What makes a limit follow the load.
const PATIENT: [&str; 2] = ["on_this_machine", "limit"];
/// A handshake must be over before duplicate address detection is: no busy machine moves that.
const FIXED: [&str; 1] = ["ensure!(took < Duration::from_millis(500), \"{target} took {took:?}\");"];

/// Statements `ensure!` that compare a measured time with a limit that does not follow the load.
fn impatient(text: &str) -> Vec<String> {
    let statements = text.split("ensure!(").skip(1).filter_map(|rest| rest.split_once(';'));
    let compares = |statement: &str| {
        let condition = statement.split(['"', ',']).next().unwrap_or_default();
        MEASURED
            .iter()
            .any(|word| [" < ", " <= "].iter().any(|sign| condition.contains(&format!("{word}{sign}"))))
    };
    statements
        .map(|(statement, _)| {
            format!("ensure!({};", statement.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .filter(|statement| compares(statement) && !PATIENT.iter().any(|word| statement.contains(word)))
        .filter(|statement| !FIXED.contains(&statement.as_str()))
        .collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn limits_of_time_follow_the_load() {
    let cases = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/src"));
    assert!(cases.len() > 100, "cases are elsewhere");
    let found: Vec<String> = cases
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            impatient(&text).into_iter().map(move |line| format!("{}: {line}", file.display()))
        })
        .collect();
    assert!(found.is_empty(), "use harness::patience::ensure_prompt:\n{}", found.join("\n"));
}

#[test]
fn planted_limits_are_found() {
    let planted = r#"
    ensure!(answer.took < Duration::from_secs(1), "ADD took {:?}", answer.took);
    ensure!(
        began.elapsed() <= SOON,
        "late"
    );
    ensure!(count < 5, "it took {count}");
    ensure!(began.elapsed() < on_this_machine(LIMIT), "late");
    "#;
    assert_eq!(impatient(planted).len(), 2, "{:?}", impatient(planted));
}
