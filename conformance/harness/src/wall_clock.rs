//! The wall clock of the virtual machine, which alone may be set: that of any other machine is its
//! administrator's.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

/// The kernel's parameter that marks the harness's virtual machine.
pub const MARK: &str = "moor.throwaway";
/// The days among which the clock jumps, with today in the middle, and how many each jump is long:
/// two readings are seldom of the same day.
const DAYS: i64 = 31;
const JUMP: i64 = 7;
/// The time between two jumps: shorter than that between two calls of a plugin.
const EVERY: Duration = Duration::from_millis(5);
const DAY_S: i64 = 86_400;

/// Requires the virtual machine, and the right to set its clock.
pub fn ensure_settable() -> Result<()> {
    let parameters = fs::read_to_string("/proc/cmdline").context("read the kernel's parameters")?;
    let is_ours = parameters.split_whitespace().any(|word| word == MARK);
    ensure!(is_ours, "only the virtual machine's wall clock is set");
    set(clock_gettime(ClockId::CLOCK_REALTIME)?)
}

/// Does something while the wall clock jumps by days to and fro. What one program has written,
/// another one reads at another time of day, and so does the same one later: as on hosts whose
/// clocks are days apart, and are set back.
pub fn while_it_jumps<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    ensure_settable()?;
    let (began, right) = (Instant::now(), clock_gettime(ClockId::CLOCK_REALTIME)?);
    let over = AtomicBool::new(false);
    let jump = |days: i64| set(right + began.elapsed().into() + TimeSpec::new(days * DAY_S, 0));
    std::thread::scope(|scope| {
        let jumps = scope.spawn(|| -> Result<()> {
            for nth in (0..).take_while(|_| !over.load(Ordering::Relaxed)) {
                jump(nth * JUMP % DAYS - DAYS / 2)?;
                std::thread::sleep(EVERY);
            }
            jump(0)
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        jumps.join().map_err(|_| anyhow!("the clock's thread panicked"))??;
        done
    })
}

fn set(time: TimeSpec) -> Result<()> {
    clock_settime(ClockId::CLOCK_REALTIME, time).context("set the wall clock")
}
