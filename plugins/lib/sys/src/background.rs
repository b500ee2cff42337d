//! Closing a descriptor without waiting for the kernel.

use std::os::fd::AsFd;

use crate::calls;

/// Closes a descriptor whose last close waits in the kernel. A kernel worker closes it for good and
/// waits instead; where the kernel lends none, the caller waits.
pub fn close_in_background(descriptor: impl AsFd) {
    // The descriptor first, the ring last: the worker starts with the ring's end.
    let ring = calls::held_by_ring(descriptor.as_fd());
    drop(descriptor);
    drop(ring);
}
