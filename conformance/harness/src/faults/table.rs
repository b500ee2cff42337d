//! The final output: the failures in full, a line per target, the totals.

use super::lane::Findings;
use super::target::TARGETS;
use super::trial::{Fault, Outcome};
use crate::strace::point::Extent;

/// Prints it: true when nothing was left behind and the virtual machine reported everything.
pub fn print(findings: &Findings) -> bool {
    let rows = &findings.rows;
    eprintln!();
    let bad: Vec<_> = rows.iter().filter_map(|row| Some((row, row.outcome.as_ref().err()?))).collect();
    for (row, report) in &bad {
        println!("==== {} {:?} at {} {}", row.target.name(), row.fault, row.point.syscall, row.point.nth);
        println!("{}\n", report.trim_end());
    }
    println!(
        "{:<25}{:>7} | {:>7}{:>8} | {:>7}{:>10}{:>8} | {:>11}",
        "", "points", "killed", "failed", "undone", "tolerated", "failed", "not reached"
    );
    for target in TARGETS {
        let of = |fault: Fault, wanted: fn(&Result<Outcome, String>) -> bool| {
            rows.iter()
                .filter(|row| row.target == target && row.fault == fault && wanted(&row.outcome))
                .count()
        };
        let points = of(Fault::Kill, |_| true);
        if points == 0 {
            continue;
        }
        let not_reached = |outcome: &Result<Outcome, String>| *outcome == Ok(Outcome::NotReached);
        println!(
            "{:<25}{points:>7} | {:>7}{:>8} | {:>7}{:>10}{:>8} | {:>11}{}",
            target.name(),
            of(Fault::Kill, |outcome| matches!(outcome, Ok(Outcome::Undone | Outcome::Tolerated))),
            of(Fault::Kill, Result::is_err),
            of(Fault::Error, |outcome| *outcome == Ok(Outcome::Undone)),
            of(Fault::Error, |outcome| *outcome == Ok(Outcome::Tolerated)),
            of(Fault::Error, Result::is_err),
            of(Fault::Kill, not_reached) + of(Fault::Error, not_reached),
            match &findings.in_vm {
                _ if findings.on_hosts.contains(&target) => "  (messages)",
                Some((there, Extent::All)) if there.contains(&target) => "  (virtual machine)",
                Some((there, Extent::Messages)) if there.contains(&target) => "  (virtual machine, messages)",
                _ => "",
            },
        );
    }
    for (target, why) in &findings.not_run {
        println!("{:<25}NOT RUN: {why}", target.name());
    }
    if let Some((_, Extent::Messages)) = findings.in_vm {
        println!(
            "In the virtual machine only messages to the kernel were hit; --lane vm hits every system call there."
        );
    }
    if !findings.on_hosts.is_empty() {
        println!(
            "Of cluster and overlay only messages to the kernel were hit; --filter NAME hits every system call."
        );
    }
    let not_reached = rows.iter().filter(|row| row.outcome == Ok(Outcome::NotReached)).count();
    println!(
        "{} injections, {} left something behind or broke something, {not_reached} points not reached",
        rows.len(),
        bad.len()
    );
    let not_run = findings.not_run.len();
    println!(
        "{} passed, {} failed, {not_run} targets not run",
        rows.len() - bad.len() - not_reached,
        bad.len()
    );
    if let Some(trouble) = &findings.trouble {
        println!("FAILED: {trouble}");
    }
    bad.is_empty() && findings.trouble.is_none()
}
