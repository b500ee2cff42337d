//! Closing a descriptor without waiting for the kernel.

use std::os::fd::AsFd;

use crate::calls;

/// Closes a descriptor for which the kernel makes the last close wait. A kernel worker does that
/// close and waits instead; without one, the caller waits.
pub fn close_in_background(descriptor: impl AsFd) {
    // Close the descriptor first and the ring last: the worker starts when the ring is closed.
    let ring = calls::held_by_ring(descriptor.as_fd());
    drop(descriptor);
    drop(ring);
}
