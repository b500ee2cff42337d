//! Timeouts for other processes, on a machine that may be busy.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};

/// The longest timeout on a busy machine, as a multiple of an idle one's.
const MOST: f64 = 10.0;

/// The timeout for an operation that takes at most `idle` on an idle machine: scaled by the number
/// of processes per processor (proc(5), /proc/loadavg).
pub fn on_this_machine(idle: Duration) -> Duration {
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default();
    idle.mul_f64(factor(load, processors))
}

/// Requires that an operation took at most `idle`, or what that is on this machine.
///
/// # Errors
/// It took longer.
pub fn ensure_prompt(what: &str, took: Duration, idle: Duration) -> Result<()> {
    let limit = on_this_machine(idle);
    ensure!(took < limit, "{what} took {took:?}, at most {limit:?} are allowed");
    Ok(())
}

fn factor(load: f64, processors: f64) -> f64 {
    (load / processors).clamp(1.0, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_gets_more_time() {
        assert_eq!(factor(0.3, 2.0), 1.0);
        assert_eq!(factor(8.0, 2.0), 4.0);
        assert_eq!(factor(500.0, 2.0), MOST);
    }
}
