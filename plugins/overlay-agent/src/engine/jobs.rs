//! The next request to etcd.

use std::time::Duration;

use super::{BACK_OFF, CHECK, Engine, RESCAN};
use crate::remote::Job;
use crate::steps::{self, Step};
use crate::txn::{Op, Txn};

impl Engine {
    /// The next request, if etcd has none of ours.
    pub fn next_job(&mut self, now: Duration) -> Option<Job> {
        if self.busy.is_some() || now < self.retry_at {
            return None;
        }
        let job = self.choose(now)?;
        self.busy = Some((job.clone(), now));
        Some(job)
    }

    fn choose(&mut self, now: Duration) -> Option<Job> {
        match self.local.lease {
            _ if self.local.leaving => {}
            None if self.may_join(now) => return Some(Job::Grant(self.settings.host_ttl_s)),
            Some(lease) if now >= self.keep_alive_due => return Some(Job::KeepAlive(lease)),
            _ => {}
        }
        if let Some(txn) = self.next_txn(now) {
            return Some(Job::Txn(txn, self.local.lease));
        }
        if now >= self.check_due {
            self.check_due = now + CHECK;
            return Some(Job::Newest);
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
        let is_ledger_free = now >= self.ledger_at;
        let step = self.with_view(now, steps::next)?;
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
        if self.full.is_none() {
            return Some(txn);
        }
        // etcd without space still takes deletions.
        let only_deletes = txn.ops.iter().all(|op| matches!(op, Op::Delete(_)));
        let deletions: Vec<Op> = txn.ops.iter().filter(|op| matches!(op, Op::Delete(_))).cloned().collect();
        Some(if only_deletes || deletions.is_empty() { txn } else { Txn { ops: deletions, ..txn } })
    }

    /// What is done by time.
    pub fn tick(&mut self, now: Duration) {
        self.look_behind(now);
        self.note_silent(now);
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
