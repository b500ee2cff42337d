//! Waiting for a descriptor, never past a deadline.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::random;

/// How long something is tried again because somebody else was quicker.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Attempts that follow each other at once: most collisions are with one change of somebody else.
const AT_ONCE: u32 = 8;
/// The longest pause before a later attempt. Its length is random, so that two that collide do not stay in step.
const PAUSE_MAX_US: u64 = 1000;

/// Attempts at something that somebody else's changes spoil, for at most [`PATIENCE`].
pub struct Attempts {
    deadline: Instant,
    /// How many were spoiled.
    pub failed: u32,
}

impl Attempts {
    /// Begins the time for them.
    pub fn begin() -> Self {
        Self { deadline: Instant::now() + PATIENCE, failed: 0 }
    }

    /// Counts one that was spoiled, and pauses; `false` when the time is over.
    pub fn again(&mut self) -> bool {
        self.failed += 1;
        if Instant::now() >= self.deadline {
            return false;
        }
        if self.failed < AT_ONCE {
            std::thread::yield_now();
        } else {
            let random = random::bytes().map_or(0, u16::from_ne_bytes);
            std::thread::sleep(Duration::from_micros(u64::from(random) % PAUSE_MAX_US));
        }
        true
    }
}

/// Waits until there is something to read; `false` when the deadline came first.
pub fn readable(fd: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        // Rounded up, so that the last round does not spin.
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = i32::try_from(left.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
        let timeout =
            if left.is_zero() { PollTimeout::ZERO } else { timeout.try_into().unwrap_or(PollTimeout::MAX) };
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}
