//! strace on a process that is at work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::on_this_machine;

/// strace, attached to a process until it is [detached](Attached::detach).
pub struct Attached {
    strace: Child,
    log: PathBuf,
}

impl Attached {
    /// Attaches it with these options, and returns once it sees the process.
    pub fn to(pid: u32, options: &[&str], log: &Path) -> Result<Self> {
        let strace = Command::new("strace")
            .args(options)
            .args(["-qq", "-p", &pid.to_string(), "-o", &log.display().to_string()])
            .stdin(Stdio::null())
            .spawn()
            .context("start strace")?;
        let attached = Self { strace, log: log.to_owned() };
        let deadline = Instant::now() + on_this_machine(Duration::from_secs(5));
        while !is_traced(pid) {
            ensure!(Instant::now() < deadline, "strace is not attached to process {pid}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(attached)
    }

    /// Detaches it: what it has written.
    pub fn detach(mut self) -> Result<String> {
        kill(Pid::from_raw(self.strace.id().try_into()?), Signal::SIGINT)?;
        self.strace.wait()?;
        Ok(fs::read_to_string(&self.log)?)
    }
}

fn is_traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
}
