//! Whether questions come so fast that it pays to let some gather.
//!
//! One that is answered alone costs the most: a wake-up, and the whole way through the kernel for one answer, which is
//! nine tenths of it all. Those that come together are taken, and answers to one address go, as one ([`sys::datagram`]).
//! But whoever is faster than those who ask finds just one each time. Network cards moderate their interrupts for that
//! reason.

use std::time::{Duration, Instant};

/// How many questions are looked at together.
const WINDOW: usize = 32;
/// They come fast if they come closer together than this.
const FAST: Duration = Duration::from_micros(50);
/// How long they are let gather. The kernel adds its slack of 50 us (prctl(2), PR_SET_TIMERSLACK).
const PAUSE: Duration = Duration::from_micros(30);

/// See the module.
#[derive(Debug)]
pub struct Pace {
    /// The first one of the window came then.
    since: Instant,
    count: usize,
    /// The window before this one was fast.
    fast: bool,
}

impl Pace {
    /// Slow, until seen otherwise.
    pub fn new(now: Instant) -> Self {
        Self { since: now, count: 0, fast: false }
    }

    /// So many questions came; gives how long to wait before the next ones are taken.
    pub fn pause(&mut self, questions: usize, now: Instant) -> Option<Duration> {
        self.count += questions;
        let late = now.saturating_duration_since(self.since) >= FAST * u32::try_from(WINDOW).unwrap_or(1);
        if late || self.count >= WINDOW {
            *self = Self { since: now, count: 0, fast: !late };
        }
        (self.fast && questions > 0).then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds questions that come so far apart, in micros, so many at once; gives how many pauses that makes.
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
    fn questions_that_come_slowly_are_answered_at_once() {
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
    fn a_flood_is_let_gather_until_it_ends() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let (made, now) = pauses(&mut pace, start, 10, 1, 1_000);
        assert_eq!(made, 1_000 - 31);
        // What gathers in a pause counts as well.
        let (made, now) = pauses(&mut pace, now, 100, 8, 1_000);
        assert_eq!(made, 1_000);
        // Rounds without a question, those of a timer, make no pause.
        assert_eq!(pace.pause(0, now), None);
        let (made, now) = pauses(&mut pace, now, 10_000, 1, 1);
        assert_eq!(made, 0);
        assert_eq!(pauses(&mut pace, now, 100, 1, 100).0, 0);
    }
}
