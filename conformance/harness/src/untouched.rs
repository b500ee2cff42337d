//! `untouched`: a command, after which this machine must be as it was before.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{diff, snapshot};

/// Runs it with this process's own standard streams. True when it succeeded and has changed nothing.
pub fn run(command: &[OsString]) -> Result<bool> {
    let (program, args) = command.split_first().context("no command is given")?;
    let before = snapshot::machine()?;
    let status = Command::new(program).args(args).status();
    let status = status.with_context(|| format!("start {}", program.display()))?;
    let touched = diff::lines(&before, &snapshot::machine()?);
    if !touched.is_empty() {
        eprintln!("{} has changed this machine:{}", program.display(), diff::shown(&touched));
    }
    Ok(status.success() && touched.is_empty())
}
