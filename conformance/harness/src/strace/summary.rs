//! The summary of `strace -c`.

use anyhow::{Context, Result, ensure};

/// The number of calls and of executed programs in a summary of `strace -c`: a row is `% time`,
/// seconds, usecs per call, calls, errors if there were any, name.
pub fn totals(summary: &str) -> Result<(u64, u64)> {
    let (mut calls, mut programs) = (0, 0);
    for line in summary.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(Ok(count))) = (words.last(), words.get(3).map(|word| word.parse::<u64>()))
        else {
            continue;
        };
        if *name == "total" {
            continue;
        }
        calls += count;
        if *name == "execve" {
            let failed =
                if words.len() == 6 { words[4].parse::<u64>().context("errors of execve")? } else { 0 };
            programs += count - failed;
        }
    }
    ensure!(programs > 0, "strace's summary names no execve: {summary}");
    Ok((calls, programs))
}

#[cfg(test)]
mod tests {
    use super::totals;

    #[test]
    fn failed_execs_count_as_calls_but_not_as_programs() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 50.00    0.000100          50         4         2 execve
 50.00    0.000100          10        10           read
------ ----------- ----------- --------- --------- ----------------
100.00    0.000200          14        14         2 total
";
        assert_eq!(totals(summary).unwrap(), (14, 2));
    }

    #[test]
    fn an_empty_summary_is_an_error() {
        assert!(totals("").is_err());
    }
}
