//! The report: tables for people, the same numbers as JSON.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::budget::{Outcome, Verdict};
use super::compared::{Compared, Unit};
use super::contender::{BEFORE, FLOOR, OURS, REFERENCE};
use super::data_path::{Costs, DataPath, Rules};
use super::measure::{Measured, Series};
use super::together::Together;
use crate::stats::{median, p99, ratio};

/// Kernel and processors of this machine, in one line.
pub fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "Linux {}, {processors} processors ({}), load {}",
        kernel.trim(),
        model.map_or("unknown", |(_, model)| model.trim()),
        load.split_whitespace().next().unwrap_or("unknown")
    )
}

/// What is measured, and on what.
pub fn head(suite: &Path, reference: &Path, before: Option<&Path>) {
    let earlier = before.map(|dir| format!("    {BEFORE}: {}", dir.display())).unwrap_or_default();
    println!("ours: {}    reference: {}{earlier}", suite.display(), reference.display());
    println!("{}", machine());
    println!(
        "Everybody in turns. ms: median (p99; of fewer than 100 the largest) of a verb, the start of its processes \
         included.\nfloor: the kernel's own work for the links, addresses, routes and the announcement (not for packet \
         rules), by one\nprocess that holds everything open."
    );
}

/// The table of a scenario.
pub fn scenario(name: &str, measured: &Measured) {
    println!(
        "\n{name:<40} {:>8} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>11}",
        "wall ms",
        "(p99)",
        "CPU ms",
        "of ref.",
        "of floor",
        "syscalls",
        "children",
        "peak KiB",
        "exec. bytes"
    );
    let mut rows: Vec<&Series> = measured.series.iter().filter(|series| !series.samples.is_empty()).collect();
    let verb = |series: &Series| ["ADD", "CHECK", "DEL"].iter().position(|verb| *verb == series.verb);
    rows.sort_by_key(|series| verb(series).unwrap_or(usize::MAX));
    for series in rows {
        println!("{}", row(measured, series));
    }
    not_run(measured);
}

fn row(measured: &Measured, series: &Series) -> String {
    let to = |base: &str| match measured.find(base, &series.verb) {
        Some(base) if base.contender != series.contender => ratio(&series.wall(), &base.wall())
            .map_or_else(|| "-".into(), |ratio| format!("{:.2}", ratio.value)),
        _ => "-".into(),
    };
    let counted = |of: fn(&super::count::Counts) -> u64| {
        series.counts.as_ref().map_or_else(|| "-".into(), |counts| of(counts).to_string())
    };
    let wall = series.wall();
    format!(
        "  {:<8} {:<29} {:>8.2} {:>9} {:>8.2} {:>8} {:>8} {:>8} {:>9} {:>9} {:>11}",
        series.verb,
        format!("{} ({} times)", series.contender, wall.len()),
        median(&wall),
        format!("({:.2})", p99(&wall)),
        median(&series.cpu()),
        to(REFERENCE),
        to(FLOOR),
        counted(|counts| counts.system_calls),
        counted(|counts| counts.child_processes),
        counted(|counts| counts.peak_kib),
        counted(|counts| counts.executable_bytes),
    )
}

fn not_run(measured: &Measured) {
    for why in &measured.not_run {
        let shown: String = why.chars().take(300).collect();
        println!("  not run: {shown}{}", if shown.len() < why.len() { "..." } else { "" });
    }
}

/// The table of `--parallel`.
pub fn together(rows: &[Together]) {
    println!("\n{:<40} {:>12} {:>12} {:>9}", "at once", "ADD, all, ms", "DEL, all, ms", "failures");
    for row in rows {
        println!(
            "  {:<8} {:<29} {:>12.1} {:>12.1} {:>9}",
            row.attachments,
            row.contender,
            median(&row.add_ms),
            median(&row.del_ms),
            row.failures
        );
        if let Some(first) = &row.first_failure {
            println!("    the first: {first}");
        }
    }
}

/// The table of `--data-path`.
pub fn paths(rows: &[DataPath]) {
    let Some(base) = rows.iter().find(|row| row.rules == Rules::None) else { return };
    println!(
        "\n{:<48} {:>12} {:>9} {:>12} {:>9} {:>12} {:>9}",
        "data path: TCP, one client", "connect./s", "of none", "echo us", "of none", "64 KiB us", "of none"
    );
    let print = |direction: &str, name: String, costs: &Costs, base: &Costs| {
        let [connection, echo, bulk] = [&costs.connection, &costs.echo, &costs.bulk].map(|of| median(of));
        println!(
            "  {direction:<4}{name:<42} {:>12.0} {:>9.2} {echo:>12.1} {:>9.2} {bulk:>12.1} {:>9.2}",
            1e6 / connection,
            median(&base.connection) / connection,
            echo / median(&base.echo),
            bulk / median(&base.bulk),
        );
    };
    for row in rows {
        print("in", row.rules.name(), &row.inward, &base.inward);
    }
    for row in rows {
        if let (Some(costs), Some(base)) = (&row.outward, &base.outward) {
            print("out", row.rules.name(), costs, base);
        }
    }
}

/// The table of a part.
pub fn compared(all: &[Compared]) {
    for compared in all {
        let unit = compared.unit.name();
        println!("\n{:<48} {unit:>13} {:>13} {:>18}", compared.title(), "(p99)", "ours to it");
        let shown = |value: f64| match compared.unit {
            Unit::Ms => format!("{value:.3}"),
            Unit::Instructions => format!("{value:.0}"),
            Unit::Factor => format!("{value:.3}"),
        };
        for series in &compared.series {
            let ratio = compared.ours_to(&series.contender).filter(|_| series.contender != OURS);
            println!(
                "  {:<46} {:>13} {:>13} {:>18}",
                format!("{} ({} times)", series.contender, series.values.len()),
                shown(median(&series.values)),
                format!("({})", shown(p99(&series.values))),
                ratio.map_or("-".into(), |ratio| format!("{:.3} +- {:.3}", ratio.value, ratio.noise)),
            );
        }
        compared.faults.iter().for_each(|fault| println!("  FAULT: {fault}"));
        compared.notes.iter().for_each(|note| println!("  {note}"));
    }
}

/// The duration of each step of a run.
pub fn seconds(seconds: &[(&str, f64)]) {
    let whole: f64 = seconds.iter().map(|(_, seconds)| seconds).sum();
    let each: Vec<String> = seconds.iter().map(|(name, seconds)| format!("{name} {seconds:.0} s")).collect();
    println!("measured in {whole:.0} s: {}", each.join(", "));
}

/// The budgets.
pub fn verdicts(verdicts: &[Verdict]) {
    println!("\nbudgets of {OURS}");
    for verdict in verdicts {
        println!("  {}", verdict.line());
    }
    let count = |outcome: Outcome| verdicts.iter().filter(|verdict| verdict.outcome == outcome).count();
    println!(
        "{} met, {} missed within the noise, {} missed, {} not measured",
        count(Outcome::Met),
        count(Outcome::WithinNoise),
        count(Outcome::Missed),
        count(Outcome::NotMeasured)
    );
}

/// A scenario's or a point's numbers.
pub fn summary(name: &str, measured: &Measured) -> Value {
    let series: Vec<Value> = measured
        .series
        .iter()
        .filter(|series| !series.samples.is_empty())
        .map(|series| {
            let to = |base: &str| {
                let base = measured.find(base, &series.verb)?;
                ratio(&series.wall(), &base.wall())
            };
            json!({
                "contender": series.contender, "verb": series.verb, "times": series.samples.len(),
                "wallMs": {"median": median(&series.wall()), "p99": p99(&series.wall())},
                "cpuMs": {"median": median(&series.cpu()), "p99": p99(&series.cpu())},
                "toReference": to(REFERENCE), "toFloor": to(FLOOR), "counts": series.counts,
            })
        })
        .collect();
    json!({"name": name, "series": series, "notRun": measured.not_run})
}

/// A part's numbers, in the form of a scenario's.
pub fn comparison(compared: &Compared) -> Value {
    let series: Vec<Value> = compared
        .series
        .iter()
        .map(|series| {
            let ours_to_it = compared.ours_to(&series.contender);
            json!({
                "contender": series.contender, "times": series.values.len(), "median": median(&series.values),
                "p99": p99(&series.values), "oursToIt": ours_to_it,
            })
        })
        .collect();
    json!({"name": compared.title(), "unit": compared.unit, "series": series, "faults": compared.faults,
        "notes": compared.notes})
}
