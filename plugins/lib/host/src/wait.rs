//! Waiting for a descriptor, never past a deadline.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until there is something to read; `false` when the deadline came first.
pub(crate) fn readable(fd: &impl AsFd, deadline: Instant) -> io::Result<bool> {
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
