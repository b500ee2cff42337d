//! Giving up what is not needed.

use std::io;

use crate::sys;

/// linux/capability.h: ports below 1024 may be bound.
pub const NET_BIND_SERVICE: u64 = 1 << 10;

/// Gives up all capabilities but those of the mask (those of it that are held), and the means to get others by executing something
/// (no_new_privs; prctl(2)). Of the calling thread alone: there had better be no other.
///
/// # Errors
/// The kernel refused.
pub fn keep(mask: u64) -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    sys::keep_capabilities(mask)
}
