//! Whether queries arrive so fast that waiting for more of them pays.
//!
//! A query that is answered alone costs a wake-up and a pass through the kernel, nine tenths of
//! all its cost. Queries that arrive together are received, and answers to one address sent, in
//! one system call ([`sys::datagram`]). But a responder that is faster than its clients finds
//! one query at a time. Network cards moderate interrupts for the same reason.

use std::time::{Duration, Instant};

/// Queries per measurement.
const WINDOW: usize = 32;
/// Queries are fast if they arrive closer together than this.
const FAST: Duration = Duration::from_micros(50);
/// How long to wait for more. The kernel adds its timer slack of 50 us (prctl(2),
/// PR_SET_TIMERSLACK).
const PAUSE: Duration = Duration::from_micros(30);

/// Measures the rate of queries.
#[derive(Debug)]
pub struct Pace {
    /// When the current window began.
    since: Instant,
    count: usize,
    /// The previous window was fast.
    fast: bool,
}

impl Pace {
    /// Slow at first.
    pub fn new(now: Instant) -> Self {
        Self { since: now, count: 0, fast: false }
    }

    /// Counts queries that arrived; returns how long to wait before the next are received.
    pub fn pause(&mut self, queries: usize, now: Instant) -> Option<Duration> {
        self.count += queries;
        let late = now.saturating_duration_since(self.since) >= FAST * u32::try_from(WINDOW).unwrap_or(1);
        if late || self.count >= WINDOW {
            *self = Self { since: now, count: 0, fast: !late };
        }
        (self.fast && queries > 0).then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts pauses while `at_once` queries arrive every `apart` microseconds, `rounds`
    /// times.
    fn pauses(pace: &mut Pace, from: Instant, apart: u64, at_once: usize, rounds: u32) -> (u32, Instant) {
        let mut now = from;
        let mut made = 0;
        for _ in 0..rounds {
            now += Duration::from_micros(apart);
            made += u32::from(pace.pause(at_once, now).is_some());
        }
        (made, now)
    }

    #[test]
    fn slow_queries_are_answered_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pauses(&mut pace, start, 100, 1, 1_000).0, 0);
    }

    #[test]
    fn a_burst_shorter_than_a_window_is_answered_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut now = start;
        for _ in 0..100 {
            let (made, end) = pauses(&mut pace, now, 10, 1, 31);
            assert_eq!(made, 0);
            now = end + Duration::from_millis(10);
            assert_eq!(pace.pause(1, now), None);
        }
    }

    #[test]
    fn fast_queries_are_batched_until_they_slow_down() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let (made, now) = pauses(&mut pace, start, 10, 1, 1_000);
        assert_eq!(made, 1_000 - 31);
        // Queries that arrive during a pause count too.
        let (made, now) = pauses(&mut pace, now, 100, 8, 1_000);
        assert_eq!(made, 1_000);
        // A round without queries (a timer) makes no pause.
        assert_eq!(pace.pause(0, now), None);
        let (made, now) = pauses(&mut pace, now, 10_000, 1, 1);
        assert_eq!(made, 0);
        assert_eq!(pauses(&mut pace, now, 100, 1, 100).0, 0);
    }
}
