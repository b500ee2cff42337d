//! The next request to etcd.

use std::time::Duration;

use super::{About, BACK_OFF, CHECK, Engine, RESCAN, SPACE};
use crate::remote::Job;
use crate::steps::{self, Step};
use crate::txn::Txn;

impl Engine {
    /// The next request, if etcd has none of ours.
    pub fn next_job(&mut self, now: Duration) -> Option<Job> {
        if self.busy.is_some() || now < self.retry_at {
            return None;
        }
        let job = self.choose(now)?;
        self.busy = Some((job.clone(), now));
        self.known = self.cache.revision();
        Some(job)
    }

    fn choose(&mut self, now: Duration) -> Option<Job> {
        match self.local.lease {
            _ if self.local.leaving => {}
            None if !self.is_held(About::Writing, now) && self.may_join(now) => {
                return Some(Job::Grant(self.settings.host_ttl_s));
            }
            Some(lease) if now >= self.keep_alive_due => return Some(Job::KeepAlive(lease)),
            _ => {}
        }
        if let Some(txn) = self.next_txn(now) {
            return Some(Job::Txn(txn, self.local.lease));
        }
        if now >= self.check_due && !self.is_held(About::Reading, now) {
            self.check_due = now + CHECK;
            return Some(Job::Newest);
        }
        if now >= self.space_due && self.cache.is_whole() {
            self.space_due = now + SPACE.0;
            return Some(Job::Space);
        }
        None
    }

    /// Whether a lease would be of use. Anybody may ask etcd for one, but a double of another host
    /// has nothing to put under it.
    fn may_join(&self, now: Duration) -> bool {
        let standing = self.with_view(now, steps::standing);
        self.cache.is_whole()
            && !self.local.host.addresses.is_empty()
            && matches!(standing, steps::Standing::Outside | steps::Standing::Member)
            && self.cache.has(&cluster::key::Key::Meta)
    }

    fn next_txn(&mut self, now: Duration) -> Option<Txn> {
        // etcd without space still takes deletions.
        if self.holds.get(&About::Writing).is_some_and(|hold| hold.is_full)
            && let Some(txn) = self.with_view(now, steps::deletions)
        {
            return Some(txn);
        }
        if self.is_held(About::Writing, now) {
            return None;
        }
        let is_ledger_free = now >= self.ledger_at;
        let Some(step) = self.with_view(now, steps::next) else {
            // Nothing is left to write, so nothing would show that the reason has gone.
            if !self.holds.get(&About::Writing).is_some_and(|hold| hold.is_full) {
                self.holds.remove(&About::Writing);
            }
            return None;
        };
        let txn = match step {
            Step::Txn(txn) => txn,
            _ if !is_ledger_free => return None,
            step => match self.under_ledger_lock(&step, now) {
                Some(txn) => txn,
                None => {
                    self.ledger_at = now + BACK_OFF.0;
                    return None;
                }
            },
        };
        Some(txn)
    }

    /// What is done by time.
    pub fn tick(&mut self, now: Duration) {
        self.look_behind(now);
        self.note_silent(now);
        if now >= self.carried_until {
            self.changed |= self.cache.drop_carried();
        }
        let is_double = matches!(self.with_view(now, steps::standing), steps::Standing::Doubled(_));
        self.doubled_since = is_double.then(|| self.doubled_since.unwrap_or(now));
        self.local.utc = utc();
        if now >= self.rescan_due {
            self.rescan_due = now + RESCAN;
            match self.files.networks() {
                Ok(networks) => {
                    for network in networks {
                        if self.local.nets.contains_key(&network) {
                            self.refresh(&network);
                        } else {
                            self.open_network(&network);
                        }
                    }
                    self.troubles.remove("files");
                }
                Err(error) => self.trouble("files", &error),
            }
        }
        let closed = self.local.closed;
        self.close_if_cut_off(now);
        if closed != self.local.closed && !self.cache.is_whole() {
            for network in self.local.nets.keys().cloned().collect::<Vec<_>>() {
                self.write_closed(&network);
            }
        }
    }

    /// Notes since when hosts have given no sign of life.
    fn note_silent(&mut self, now: Duration) {
        let cache = &self.cache;
        let is_alive = |host: &str| cache.has(&cluster::key::Key::Alive(host.to_owned()));
        let silent: Vec<String> =
            cache.hosts().map(|(host, _)| host).filter(|host| !is_alive(host)).map(str::to_owned).collect();
        self.local.silent_since.retain(|host, _| silent.contains(host));
        for host in silent {
            self.local.silent_since.entry(host).or_insert(now);
        }
    }
}

/// The wall clock in UTC, for people: RFC 3339.
fn utc() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}
