//! What a run has started ends with it, also when a signal ends the run.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until the machine has a process with this command line, or has none.
fn wait_for(command_line: &str, expected: bool) {
    let start = Instant::now();
    while is_running(command_line) != expected {
        assert!(start.elapsed() < LIMIT, "{command_line:?} running: {}, after {LIMIT:?}", !expected);
        sleep(Duration::from_millis(50));
    }
}

fn is_running(command_line: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).any(|words| {
        let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.join(" ").trim_end() == command_line
    })
}

#[test]
fn rooms_end_with_a_killed_run() {
    let suite = tempfile::tempdir().unwrap();
    // A time that nobody else sleeps for identifies the plugin.
    let sleeping = format!("sleep 3{:07}", std::process::id());
    let bridge = suite.path().join("bridge");
    fs::write(&bridge, format!("#!/bin/sh\nexec {sleeping}\n")).unwrap();
    fs::set_permissions(&bridge, fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_conformance"));
    run.arg("run").arg("--cni-path").arg(suite.path()).args(["--lane", "native", "--filter", "loopback/"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&sleeping, true);
    run.kill().unwrap();
    run.wait().unwrap();
    wait_for(&sleeping, false);
}
