//! Waits to be told to end. The first process of a pid namespace ignores a signal that it does not
//! ask for, so it asks.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// Holds the signals back until [`wait`]: one that comes while files are written ends the wait, and
/// not the writing.
pub fn block() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("block SIGTERM and SIGINT")?;
    Ok(signals)
}

/// Returns with the first of these signals.
pub fn wait(signals: SigSet) -> Result<()> {
    signals.wait().context("wait for SIGTERM or SIGINT").map(drop)
}
