//! Numbers that nobody guesses.

use std::io;

use crate::calls;

/// `N` bytes (at most 256) of the kernel's random generator. Never blocks.
///
/// # Errors
/// The kernel has none (before Linux 5.6).
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256, "the kernel gives no more at once") };
    calls::random()
}
