//! Makes recorded packet rules again when somebody flushed them: those of overlay networks, and of
//! everything else of Moor on this host.
//!
//! It waits for plugins that are at work, for up to 20 seconds, and such a plugin may wait for the
//! agent: so a thread of its own does it.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sys::{Error, Result};

use super::PROGRAM;

/// Time from a deleted rule to the look at all of them: a flush deletes them one by one.
pub(super) const SETTLE: Duration = Duration::from_millis(50);
/// Time to the next attempt at what the kernel refused.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// How often to see whether the thread has ended.
const POLL: Duration = Duration::from_millis(50);

/// When to make rules again, and the thread that does it.
#[derive(Debug, Default)]
pub(super) struct Rules {
    wanted_at: Option<Instant>,
    running: Option<(JoinHandle<Result<bool>>, Instant)>,
}

impl Rules {
    /// Rules are gone.
    pub fn suspect(&mut self, now: Instant) {
        self.wanted_at.get_or_insert(now + SETTLE);
    }

    /// When the next step is due.
    pub fn due(&self) -> Option<Instant> {
        self.running.as_ref().map(|(_, look)| *look).or(self.wanted_at)
    }

    /// Begins what is due. Returns whether rules have been made again since the last step.
    ///
    /// # Errors
    /// They could not be made; it is tried again.
    pub fn step(&mut self, now: Instant) -> Result<bool> {
        let mut made = Ok(false);
        match self.running.take() {
            Some((thread, _)) if thread.is_finished() => {
                let panicked = |_| Err(Error::new("make", "packet rules", io::ErrorKind::Other));
                made = thread.join().unwrap_or_else(panicked);
                if made.is_err() {
                    self.wanted_at.get_or_insert(now + AGAIN);
                }
            }
            Some((thread, _)) => self.running = Some((thread, now + POLL)),
            None => {}
        }
        if self.running.is_none() && self.wanted_at.is_some_and(|due| due <= now) {
            self.wanted_at = None;
            let started = thread::Builder::new().name("rules".into()).spawn(reapply);
            let started = started.map_err(|error| Error::new("start", "a thread for packet rules", error));
            let started = started.inspect_err(|_| self.wanted_at = Some(now + AGAIN))?;
            self.running = Some((started, now + POLL));
        }
        made
    }
}

/// Returns whether anything was missing.
fn reapply() -> Result<bool> {
    let reapplied = host::rules::reapply(&host::rules::open()?)?;
    let restored = !reapplied.restored.is_nothing();
    if restored || !reapplied.unreadable.is_empty() {
        reapplied.report(PROGRAM);
    }
    Ok(restored)
}
