//! One process, started so that it can be timed: input and output are files, so that no other
//! process has to run meanwhile.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::room::SCRATCH;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The cost of one operation.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Milliseconds from before its start to after its end.
    pub wall_ms: f64,
    /// Milliseconds of processor time, user and system, including the processes that it waited for.
    pub cpu_ms: f64,
}

impl std::ops::AddAssign for Sample {
    fn add_assign(&mut self, other: Self) {
        self.wall_ms += other.wall_ms;
        self.cpu_ms += other.cpu_ms;
    }
}

/// A process that is about to be started.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The executable.
    pub program: PathBuf,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its standard input.
    pub input: String,
    /// The prefix of its files, distinct among concurrent processes.
    pub tag: String,
}

impl Shot {
    /// The command, with its files opened. `wrapper` is the program that runs it.
    pub fn command(&self, wrapper: &[OsString]) -> Result<Command> {
        let stdin = self.file("in");
        fs::write(&stdin, &self.input).with_context(|| format!("write {}", stdin.display()))?;
        let mut command = match wrapper.split_first() {
            None => Command::new(&self.program),
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(&self.program);
                command
            }
        };
        command.env_clear().envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(File::open(&stdin)?);
        command.stdout(Stdio::from(File::create(self.file("out"))?));
        command.stderr(Stdio::from(File::create(self.file("err"))?));
        Ok(command)
    }

    /// Runs it, timed. It must succeed.
    pub fn fire(&self) -> Result<(Sample, Option<Value>)> {
        let mut command = self.command(&[])?;
        // All children that have been waited for; there is no other one meanwhile.
        let before = processor_ms(getrusage(UsageWho::RUSAGE_CHILDREN)?);
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;
        let status = child.wait()?;
        let wall_ms = began.elapsed().as_secs_f64() * 1e3;
        let cpu_ms = processor_ms(getrusage(UsageWho::RUSAGE_CHILDREN)?) - before;
        Ok((Sample { wall_ms, cpu_ms }, self.answer(status)?))
    }

    /// Its output, after it succeeded.
    pub fn answer(&self, status: std::process::ExitStatus) -> Result<Option<Value>> {
        ensure!(status.success(), "{}: {status}: {}", self.program.display(), self.said()?);
        self.printed()
    }

    /// What it wrote to standard output and standard error, in one line.
    pub fn said(&self) -> Result<String> {
        let both = fs::read_to_string(self.file("out"))? + " " + &fs::read_to_string(self.file("err"))?;
        Ok(both.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Its output.
    pub fn printed(&self) -> Result<Option<Value>> {
        let stdout = fs::read_to_string(self.file("out"))?;
        if stdout.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&stdout).map(Some).with_context(|| format!("read its answer {stdout:?}"))
    }

    fn file(&self, kind: &str) -> PathBuf {
        PathBuf::from(SCRATCH).join(format!("{}.{kind}", self.tag))
    }
}

/// Processor time in milliseconds.
fn processor_ms(usage: Usage) -> f64 {
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    // Exact up to 2^53 microseconds, some centuries.
    micros as f64 / 1e3
}
