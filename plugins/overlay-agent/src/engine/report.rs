//! What etcd reported.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::key::Key;
use cluster::local::LeaseFile;

use super::{About, BACK_OFF, BEHIND, CONTACT, Engine, OWN_CHANGES, RESTORED, SPACE};
use crate::remote::{Contact, Job, Outcome, Report, Trouble};
use crate::state::cache::Raw;
use crate::txn::{Op, Txn};

/// How often the same transaction may find a difference before it waits.
const REPEATS: u32 = 3;

impl Engine {
    /// Takes over a report.
    pub fn report(&mut self, report: Report, now: Duration) {
        match report {
            Report::Done(job, result) => self.done(&job, result, now),
            Report::Whole(records, revision, too_large, contact) => {
                self.too_large = too_large;
                self.reached(&contact, now);
                self.holds.remove(&About::Watching);
                let was_whole = self.cache.is_whole();
                if was_whole && (std::mem::take(&mut self.restored) || revision < self.cache.revision()) {
                    self.cache.replace_restored(&records, revision, &self.local.id);
                    self.carried_until = now + RESTORED;
                } else {
                    self.cache.replace(&records, revision);
                }
                self.behind = None;
                self.find_lost_blocks();
                self.changed = true;
            }
            Report::Changes(changes, revision) => {
                self.changed |= self.cache.apply(&changes, revision);
                if self.behind.is_some_and(|(newest, _)| newest <= self.cache.revision()) {
                    self.behind = None;
                }
            }
            // Requests go on by another member; only if they fail, too, etcd is away.
            Report::Lost(trouble) => {
                if trouble.is_refusal {
                    self.hold(About::Watching, &trouble, now);
                } else if !self.cache.is_whole() {
                    self.failed(&trouble, now);
                }
            }
        }
    }

    fn done(&mut self, job: &Job, result: Result<(Outcome, Contact), Trouble>, now: Duration) {
        self.busy = None;
        let (outcome, contact) = match result {
            Ok(done) => done,
            Err(trouble) => return self.not_done(job, &trouble, now),
        };
        self.reached(&contact, now);
        self.release(job, &outcome);
        // A linearizable answer never goes back behind what was known before the question.
        let at = match &outcome {
            Outcome::Committed(revision) | Outcome::Differs(_, revision) => Some(*revision),
            _ => None,
        };
        if at.is_some_and(|at| at < self.known) && self.cache.is_whole() {
            (self.restart, self.restored) = (true, true);
        }
        match (job, outcome) {
            (Job::Txn(txn, lease), Outcome::Committed(revision)) => {
                self.committed(txn, *lease, revision, now)
            }
            (Job::Txn(txn, _), Outcome::Differs(found, revision)) => self.differs(txn, &found, revision, now),
            (Job::Grant(_), Outcome::Granted(lease)) => {
                self.local.lease = Some(lease);
                self.keep_alive_due = now + self.keep_alive_every();
                let file = LeaseFile { v: cluster::VERSION, lease, cluster: self.cluster.clone() };
                match self.files.write_lease(&file) {
                    Ok(()) => drop(self.troubles.remove("lease")),
                    Err(error) => self.trouble("lease", &error),
                }
            }
            (Job::KeepAlive(_), Outcome::Kept(lives)) => {
                self.keep_alive_due = now + self.keep_alive_every();
                if !lives {
                    self.local.lease = None;
                    self.local.alive_lease = None;
                }
            }
            (Job::Space, Outcome::Space(status)) => {
                let is_held = self.holds.values().any(|hold| hold.is_full);
                self.space_due = now + if status.is_full || is_held { SPACE.1 } else { SPACE.0 };
                self.space = status.warnings();
            }
            (Job::Newest, Outcome::Newest(newest)) if newest > self.cache.revision() => {
                self.behind.get_or_insert((newest, now));
                self.check_due = now + BEHIND;
            }
            _ => {}
        }
    }

    /// Whether the watch is behind for too long.
    pub(super) fn look_behind(&mut self, now: Duration) {
        let is_late = |since: Duration| now.saturating_sub(since) >= BEHIND;
        if self.behind.is_some_and(|(newest, since)| newest > self.cache.revision() && is_late(since)) {
            self.behind = None;
            self.restart = true;
        }
    }

    fn keep_alive_every(&self) -> Duration {
        Duration::from_millis(u64::from(self.settings.host_ttl_s) * 1000 / 3)
    }

    /// etcd has answered.
    fn reached(&mut self, contact: &Contact, now: Duration) {
        if !self.cluster.is_empty() && self.cluster != contact.cluster && self.cache.is_whole() {
            // Another cluster: nothing that is known holds.
            (self.restart, self.restored) = (true, true);
        }
        if self.cluster != contact.cluster {
            // A lease of another cluster.
            (self.local.lease, self.local.alive_lease) = (None, None);
        }
        self.cluster.clone_from(&contact.cluster);
        self.member = Some(contact.member.clone());
        // The first member that answers decides. A name of it may have no address yet.
        if self.first_member.is_none() || self.local.host.addresses.is_empty() {
            self.first_member.get_or_insert_with(|| contact.member.clone());
            self.find_addresses();
        }
        (self.away, self.back_off) = (None, BACK_OFF.0);
        self.contact = Some(now);
        if self.contact_written.is_none_or(|written| now.saturating_sub(written) >= CONTACT) {
            self.contact_written = Some(now);
            if let Err(error) = self.files.write_contact(now) {
                self.trouble("contact", &error);
            }
        }
    }

    fn not_done(&mut self, job: &Job, trouble: &Trouble, now: Duration) {
        match job {
            // Nothing depends on it, and an operator may have closed it to others.
            Job::Space if trouble.is_refusal => self.space_due = now + SPACE.0,
            _ if trouble.is_full => {
                self.space_due = self.space_due.min(now + SPACE.1);
                self.hold(About::Writing, trouble, now);
            }
            _ if trouble.is_refusal => {
                if matches!(job, Job::KeepAlive(_)) {
                    self.keep_alive_due = now + self.back_off;
                    self.back_off = (self.back_off * 2).min(BACK_OFF.1);
                }
                self.hold(About::of(job), trouble, now);
            }
            _ => self.failed(trouble, now),
        }
    }

    /// etcd did not answer.
    fn failed(&mut self, trouble: &Trouble, now: Duration) {
        if self.away.as_deref() != Some(&trouble.text) {
            crate::log::log(&trouble.text);
        }
        self.away = Some(trouble.text.clone());
        let pause = self.back_off;
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
        // Hosts that lost etcd together do not come back together.
        let random = sys::random::bytes::<1>().map_or(0, |[byte]| u32::from(byte));
        self.retry_at = now + pause + pause * random / 1024;
    }

    /// Applies a transaction of ours that was done.
    fn committed(&mut self, txn: &Txn, lease: Option<i64>, revision: i64, now: Duration) {
        self.repeated = None;
        self.clear_marks();
        for op in &txn.ops {
            let key = op.key();
            let Op::Put(_, value, _) = op else {
                self.cache.learn(key, None, revision);
                continue;
            };
            if *key == Key::Alive(self.local.id.clone()) {
                self.local.alive_lease = lease;
            }
            let created = self.cache.get(key).map_or(revision, |item| item.created);
            let path = key.path(&self.settings.prefix).into_bytes();
            let raw = Raw { key: path, value: value.clone(), created, modified: revision };
            self.cache.learn(key, Some(&raw), revision);
        }
        // This host's own containers matter to others only, but for a doubled address.
        let is_own = |op: &Op| matches!(op.key(), Key::Endpoint(endpoint) if endpoint.host == self.local.id);
        if txn.ops.iter().all(is_own) {
            self.changed_at.get_or_insert(now + OWN_CHANGES);
        } else {
            self.changed = true;
        }
    }

    /// Takes over what etcd has otherwise than was believed.
    fn differs(&mut self, txn: &Txn, found: &[(Key, Option<Raw>)], revision: i64, now: Duration) {
        self.clear_marks();
        for (key, raw) in found {
            self.cache.learn(key, raw.as_ref(), revision);
        }
        self.changed = true;
        let count = match &self.repeated {
            Some((before, count)) if before == txn => count + 1,
            _ => 1,
        };
        if count >= REPEATS {
            self.retry_at = now + BACK_OFF.0 * count.min(25);
        }
        self.repeated = Some((txn.clone(), count));
    }

    /// Forgets what was marked for a transaction that has ended: etcd has it, or it is not so.
    fn clear_marks(&mut self) {
        for net in self.local.nets.values_mut() {
            net.marked.clear();
            net.leaving.clear();
        }
    }

    /// Finds blocks that were this host's, and that etcd has forgotten.
    fn find_lost_blocks(&mut self) {
        for (network, net) in &mut self.local.nets {
            let is_lost = |first: &&std::net::IpAddr| {
                !self.cache.has(&Key::Block { network: network.clone(), first: **first })
            };
            let had = net.blocks.blocks.iter().chain(&net.lost);
            net.lost = had.filter(is_lost).copied().collect::<BTreeSet<_>>();
        }
        self.clear_marks();
    }
}
