//! A clock to order records by.

use nix::time::{ClockId, clock_gettime};

use crate::{Error, Result};

/// Returns CLOCK_BOOTTIME in nanoseconds (clock_gettime(2)). It runs while the machine is suspended
/// and never goes back, even when the time of day is set. For records under `/run`, which do not
/// outlive a boot.
///
/// # Errors
/// The kernel does not have this clock.
pub fn since_boot() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_err(|errno| Error::new("read", "the clock since boot", errno))?;
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec()).unwrap_or_default()))
}
