//! How long to wait for others, on a machine that has more to do than this.

use std::fs;
use std::time::Duration;

/// The most that a busy machine is waited for, as a multiple of an idle one.
const MOST: f64 = 10.0;

/// The time for which to wait for what takes at most `idle` on an idle machine: longer by the number of processes that
/// share a processor at present (proc(5), /proc/loadavg).
pub fn on_this_machine(idle: Duration) -> Duration {
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default();
    idle.mul_f64(factor(load, processors))
}

fn factor(load: f64, processors: f64) -> f64 {
    (load / processors).clamp(1.0, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_machine_is_waited_for_once_and_a_busy_one_longer() {
        assert_eq!(factor(0.3, 2.0), 1.0);
        assert_eq!(factor(8.0, 2.0), 4.0);
        assert_eq!(factor(500.0, 2.0), MOST);
    }
}
