//! Closing a file without waiting for the kernel.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::calls;

/// Defers the last close of a file to a kernel worker: for files for which the kernel makes the
/// process that closes them last wait. Drop it after the file's descriptor.
#[derive(Debug, Default)]
pub struct BackgroundClose {
    /// The worker starts when the ring is closed.
    ring: Option<OwnedFd>,
}

impl BackgroundClose {
    /// Defers the last close of the file of `descriptor`. Without io_uring, nothing is deferred,
    /// and the process that closes the descriptor waits.
    pub fn of(descriptor: BorrowedFd<'_>) -> Self {
        Self { ring: calls::held_by_ring(descriptor).ok() }
    }

    /// Whether a kernel worker does the last close.
    pub fn is_deferred(&self) -> bool {
        self.ring.is_some()
    }
}
