//! The costs that ARCHITECTURE.md promises are those of `testdata/budgets.json`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use serde_json::Value;

const SECTION: &str = "## What a release promises";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// A whole number with commas.
fn grouped(number: &Value) -> String {
    let digits = number.as_u64().unwrap().to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The rows of the table, from the budgets.
fn rows(budgets: &Value) -> Vec<String> {
    let of = |list: &str, wanted: &[(&str, &str)]| -> Value {
        let is_it = |row: &&Value| wanted.iter().all(|(key, value)| row[*key] == *value);
        budgets[list].as_array().unwrap().iter().find(is_it).unwrap().clone()
    };
    let ratio = |verb: &str, to: &str| {
        let scenario = ("scenario", "bridge + host-local");
        of("ratios", &[scenario, ("verb", verb), ("of", "wall"), ("to", to)])["atMost"].clone()
    };
    let calls = of("counts", &[("scenario", "bridge + host-local"), ("verb", "ADD")]);
    let bytes =
        ["executableBytes", "multicallBytes", "toolBytes"].map(|key| grouped(&budgets[key])).join("; ");
    [
        ("ADD of bridge + host-local, to the reference's time", ratio("ADD", "reference").to_string()),
        ("DEL of bridge + host-local, to the kernel's own time", ratio("DEL", "floor").to_string()),
        ("system calls of ADD of bridge + host-local", grouped(&calls["systemCalls"])),
        (
            "a verb among thousands of attachments, to the same alone, less the kernel's growth",
            budgets["growth"].to_string(),
        ),
        (
            "a connection through the last of 10,000 published ports, to one through one",
            budgets["dataPath"]["lastToOne"].to_string(),
        ),
        ("memory of any process, KiB", grouped(&budgets["peakKib"])),
        ("an executable, all plugins in one, and the tool, in bytes", bytes),
    ]
    .map(|(what, most)| format!("| {what} | {most} |"))
    .into()
}

#[test]
fn the_promised_costs_are_the_budgets() {
    let budgets: Value = serde_json::from_str(&read("testdata/budgets.json")).unwrap();
    let page = read("ARCHITECTURE.md");
    let section = page.split_once(SECTION).unwrap().1.split("\n## ").next().unwrap();
    let table: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(table, rows(&budgets));
}
