//! What etcd answers and does not do: it refuses this host, or has no space. Other requests go on
//! meanwhile, above all those that keep the host's lease alive.

use std::time::Duration;

use super::Engine;
use crate::remote::{Job, Outcome, Trouble};
use crate::txn::Op;

/// The first pause after etcd refused this host, and the longest.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The first pause after etcd had no space, and the longest.
const FULL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The longest pause while somebody on this host waits for the result.
const AWAITED: Duration = Duration::from_secs(5);

/// Requests that have a fate of their own: a user may be allowed to read, and not to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// The full read, and the watch.
    Watching,
    /// Other reads, and keeping the lease alive.
    Reading,
    /// Transactions, and a new lease.
    Writing,
}

impl About {
    pub(super) fn of(job: &Job) -> Self {
        match job {
            Job::Txn(..) | Job::Grant(_) => Self::Writing,
            _ => Self::Reading,
        }
    }
}

/// Requests of one kind that are held back.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    /// What was tried, what etcd said, and what to do.
    pub(super) why: String,
    /// etcd has no space; else it refuses this host.
    pub(super) is_full: bool,
    /// Since when there is no success.
    pub(super) since: Duration,
    /// The last attempt.
    at: Duration,
    /// The pause from then on.
    pause: Duration,
}

impl Hold {
    /// After an attempt that failed at this time. Pauses double, and are up to a quarter longer at
    /// random: hosts that were refused together do not ask together.
    pub(super) fn after(before: Option<&Self>, why: &str, is_full: bool, now: Duration, random: u8) -> Self {
        let before = before.filter(|before| before.is_full == is_full);
        let (first, longest) = if is_full { FULL } else { REFUSED };
        let pause = before.map_or(first, |before| (before.pause * 2).min(longest));
        let since = before.map_or(now, |before| before.since);
        let pause = pause + pause * u32::from(random) / 1024;
        Self { why: why.to_owned(), is_full, since, at: now, pause }
    }

    /// When it is tried again.
    pub(super) fn until(&self, is_awaited: bool) -> Duration {
        self.at + if is_awaited { self.pause.min(AWAITED) } else { self.pause }
    }
}

impl Engine {
    /// etcd answered, and did not do it.
    pub(super) fn hold(&mut self, about: About, trouble: &Trouble, now: Duration) {
        let random = sys::random::bytes::<1>().map_or(0, |[byte]| byte);
        let before = self.holds.get(&about);
        if before.is_none_or(|before| before.why != trouble.text) {
            crate::log::log(&trouble.text);
        }
        let hold = Hold::after(before, &trouble.text, trouble.is_full, now, random);
        self.holds.insert(about, hold);
    }

    /// Whether requests of a kind wait.
    pub(super) fn is_held(&self, about: About, now: Duration) -> bool {
        let is_awaited = self.pending.iter().any(|pending| pending.is_for_etcd());
        self.holds.get(&about).is_some_and(|hold| now < hold.until(is_awaited))
    }

    /// Ends what an answer of etcd shows to be over.
    pub(super) fn release(&mut self, job: &Job, outcome: &Outcome) {
        let needs_space = match job {
            Job::Txn(txn, _) => txn.ops.iter().any(|op| matches!(op, Op::Put(..))),
            job => matches!(job, Job::Grant(_)),
        };
        let is_over = |about: About, hold: &Hold| match (about, job, outcome) {
            (About::Writing, _, Outcome::Space(status)) => hold.is_full && !status.is_full,
            (About::Writing, Job::Txn(..), _) => !hold.is_full || needs_space,
            (About::Writing, Job::Grant(_), _) => hold.is_full,
            (About::Reading, Job::Newest, _) => true,
            _ => false,
        };
        // Whoever may read again can watch, too.
        self.restart |= job == &Job::Newest && self.is_refused(About::Reading);
        self.holds.retain(|about, hold| !is_over(*about, hold));
    }

    fn is_refused(&self, about: About) -> bool {
        self.holds.get(&about).is_some_and(|hold| !hold.is_full)
    }

    /// Why etcd refuses this host, if it does.
    pub(super) fn refusals(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values().filter(|hold| !hold.is_full)
    }

    /// Whether another certificate or password could help.
    pub fn wants_other_credentials(&self) -> bool {
        self.refusals().next().is_some()
    }

    /// There are other certificates, or there is another password.
    pub fn try_again(&mut self, now: Duration) {
        for hold in self.holds.values_mut() {
            hold.pause = Duration::ZERO;
        }
        (self.retry_at, self.keep_alive_due) = (now, self.keep_alive_due.min(now));
        self.check_due = now;
    }
}

#[cfg(test)]
mod tests;
