//! Pauses between attempts.

use std::time::Duration;

/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The same where somebody has to change something first.
const LONG: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Pauses that double from 0.2 to 5 s. Each is shortened by up to half, so that hosts that lost
/// etcd together do not come back together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    pauses: (Duration, Duration),
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pauses: PAUSES, failures: 0 }
    }
}

impl Backoff {
    /// Pauses from 1 to 60 s: somebody has to change something first.
    pub fn long() -> Self {
        Self { pauses: LONG, failures: 0 }
    }

    /// The pause after another failure; `random` are any bits.
    pub fn failed(&mut self, random: u32) -> Duration {
        let pause = self.pauses.0.saturating_mul(1 << self.failures.min(8)).min(self.pauses.1);
        self.failures = self.failures.saturating_add(1);
        pause - pause / 2 * (random % 1024) / 1024
    }

    /// After a success the next pause is the first again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}
