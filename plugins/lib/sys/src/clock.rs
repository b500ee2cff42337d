//! Who came first.

use nix::time::{ClockId, clock_gettime};

use crate::{Error, Result};

/// Nanoseconds of CLOCK_BOOTTIME (clock_gettime(2)): it goes on while the machine sleeps, and never back, whatever is done
/// to the time of day. For what lies in `/run`, which is of one boot.
///
/// # Errors
/// The kernel has no such clock.
pub fn since_boot() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_err(|errno| Error::new("read", "the clock since boot", errno))?;
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec()).unwrap_or_default()))
}
