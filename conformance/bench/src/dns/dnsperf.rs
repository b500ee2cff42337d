//! dnsperf: measures how many queries per second a server answers.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::room::Room;

/// Sends the queries of a file from the namespace of the container `c1` for some seconds.
/// Returns the number of answers, in total and per second. Every response must be NOERROR.
pub fn run(room: &Room, server: &str, questions: &Path, seconds: u64) -> Result<(f64, f64)> {
    let output = room.inside("c1", || {
        let mut command = Command::new("dnsperf");
        command.args(["-s", server, "-c", "4", "-q", "64", "-T", "1", "-l", &seconds.to_string(), "-d"]);
        command.arg(questions);
        command.stdin(Stdio::null()).output().context("start dnsperf")
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |label: &str| -> Result<f64> {
        let rest = text.lines().find_map(|line| line.trim().strip_prefix(label)).unwrap_or_default();
        let word = rest.split_whitespace().next().and_then(|word| word.parse().ok());
        word.with_context(|| format!("dnsperf does not print {label}: {text}"))
    };
    let (sent, completed) = (after("Queries sent:")?, after("Queries completed:")?);
    ensure!(text.contains("NOERROR") && text.contains("(100.00%)"), "{server}: {text}");
    ensure!(completed >= sent * 0.999, "{server} lost queries: {text}");
    Ok((completed, after("Queries per second:")?))
}
