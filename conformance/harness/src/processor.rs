//! Pinning to a processor.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Pins this process, and every child started from now on, to its current processor.
pub fn stay_on_one() -> Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &here).context("stay on one processor")
}
