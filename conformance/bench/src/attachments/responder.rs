//! The dns responder that an ADD started.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::stage::dns::{responder, until};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::peak;

/// The timeout for a killed one to exit.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process that answers for the only namespace in a directory of names, if there is one.
fn of(names: &Path) -> Option<Pid> {
    let place = fs::read_dir(names).ok()?.flatten().next()?.path();
    Some(Pid::from_raw(responder(&place)?.try_into().ok()?))
}

/// Its peak memory in KiB; none if there is no responder.
pub fn peak_kib(names: &Path) -> Result<Option<u64>> {
    of(names).map(peak::high_water).transpose()
}

/// Kills it, if there is one, and waits for its end.
pub fn end(names: &Path) -> Result<()> {
    let Some(pid) = of(names) else { return Ok(()) };
    kill(pid, Signal::SIGKILL).with_context(|| format!("kill the responder {pid}"))?;
    match waitpid(pid, None) {
        // It becomes a child of the room's first process only after its parent has ended.
        Ok(_) | Err(Errno::ECHILD) => {}
        Err(error) => return Err(error).context("wait for the killed responder"),
    }
    until(PATIENCE, "the killed responder is gone", || of(names).is_none())
}
