//! Unpredictable numbers.

use std::io;

use crate::calls;

/// Returns `N` bytes (at most 256) from the kernel's random generator. Never blocks.
///
/// # Errors
/// The kernel lacks this call (before Linux 5.6).
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256, "at most 256 bytes per call") };
    calls::random()
}
