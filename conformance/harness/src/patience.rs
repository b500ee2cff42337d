//! Timeouts for other processes, on a machine that may be busy.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};

/// The longest timeout on a busy machine, as a multiple of an idle one's.
const MOST: f64 = 10.0;

/// The loads of the machine, and of the host that emulates it, if it is the virtual machine (as its
/// init mounts it).
const LOADS: [&str; 2] = ["/proc/loadavg", "/vm-host/loadavg"];

/// The timeout for an operation that takes at most `idle` on an idle machine: scaled by the number
/// of processes per processor (proc(5), /proc/loadavg), which a virtual machine has as many of as
/// its host.
pub fn on_this_machine(idle: Duration) -> Duration {
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let loads = LOADS.map(|path| load(&fs::read_to_string(path).unwrap_or_default()));
    idle.mul_f64(factor(loads.into_iter().fold(0.0, f64::max), processors))
}

fn load(text: &str) -> f64 {
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
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
    fn the_init_of_the_virtual_machine_mounts_the_hosts_load() {
        let (dir, _) = LOADS[1].rsplit_once('/').unwrap();
        assert!(include_str!("vm/init").contains(&format!(" proc /root{dir} ")));
        assert_eq!(load("36.98 32.25 21.22 5/900 3\n"), 36.98);
    }

    #[test]
    fn a_busy_machine_gets_more_time() {
        assert_eq!(factor(0.3, 2.0), 1.0);
        assert_eq!(factor(8.0, 2.0), 4.0);
        assert_eq!(factor(500.0, 2.0), MOST);
    }
}
