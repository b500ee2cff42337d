//! The machine's own state, which must not change; and `untouched`, which runs a command between
//! two snapshots of it.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{diff, snapshot};

/// The machine's state at some time.
pub struct Machine(Vec<String>);

impl Machine {
    /// Takes a snapshot.
    pub fn now() -> Result<Self> {
        snapshot::machine().map(Self)
    }

    /// The changes since the snapshot.
    pub fn changes(&self) -> Result<Vec<String>> {
        Ok(diff::lines(&self.0, &snapshot::machine()?))
    }
}

/// Runs the command with this process's standard streams. True when it succeeded and changed
/// nothing.
pub fn run(command: &[OsString]) -> Result<bool> {
    let (program, args) = command.split_first().context("no command is given")?;
    let before = Machine::now()?;
    let status = Command::new(program).args(args).status();
    let status = status.with_context(|| format!("start {}", program.display()))?;
    let touched = before.changes()?;
    if !touched.is_empty() {
        eprintln!("{} has changed this machine:{}", program.display(), diff::shown(&touched));
    }
    Ok(status.success() && touched.is_empty())
}
