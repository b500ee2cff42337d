//! Waiting for a descriptor, never past a deadline.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::random;

/// How long an operation is retried that other processes' changes disturb.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The number of first attempts without a pause: most collisions are with a single change.
const AT_ONCE: u32 = 8;
/// The longest pause before a later attempt. Pauses are random, so that two retriers do not stay in
/// step.
const PAUSE_MAX_US: u64 = 1000;

/// Retries of an operation that other processes' changes disturb, for at most [`PATIENCE`].
pub struct Attempts {
    deadline: Instant,
    /// The number of failed attempts.
    pub failed: u32,
}

impl Attempts {
    /// Starts the time limit.
    pub fn begin() -> Self {
        Self { deadline: Instant::now() + PATIENCE, failed: 0 }
    }

    /// Counts a failed attempt and pauses; `false` when the time is over.
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

/// Waits until `fd` is readable; `false` when the deadline comes first.
pub fn readable(fd: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        // Round up, so that the last round does not spin.
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
