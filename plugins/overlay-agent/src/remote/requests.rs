//! The thread for requests: one at a time, each bounded.

use std::sync::mpsc::Receiver;

use cluster::key::{Key, root};

use super::{Contact, Job, Outcome, Report, Reporter, Trouble};
use crate::etcd::{Client, Comparison, Error, Operation};
use crate::state::cache::Raw;
use crate::txn::{Compare, Lease, Op, Txn};

/// What the thread works with.
pub(super) struct Thread {
    client: Client,
    prefix: String,
    reporter: Reporter,
}

impl Thread {
    pub(super) fn new(client: Client, prefix: String, reporter: Reporter) -> Self {
        Self { client, prefix, reporter }
    }

    /// Does requests until the main loop is gone.
    pub(super) fn run(&self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            let done = self.ask(&job).map_err(|error| Trouble::of(&error));
            if !self.reporter.send(Report::Done(job, done)) {
                return;
            }
        }
    }

    fn ask(&self, job: &Job) -> Result<(Outcome, Contact), Error> {
        match job {
            Job::Txn(txn, lease) => self.txn(txn, *lease),
            Job::Grant(seconds) => {
                let answer = self.client.grant(*seconds)?;
                Ok((Outcome::Granted(answer.value), Contact::of(&answer.header, &answer.member)))
            }
            Job::KeepAlive(lease) => {
                let answer = self.client.keep_alive(*lease)?;
                Ok((Outcome::Kept(answer.value.is_some()), Contact::of(&answer.header, &answer.member)))
            }
            Job::Space => {
                let answer = self.client.status()?;
                Ok((Outcome::Space(answer.value), Contact::of(&answer.header, &answer.member)))
            }
            Job::Newest => {
                let answer = self.client.newest(root(&self.prefix).as_bytes())?;
                Ok((Outcome::Newest(answer.value), Contact::of(&answer.header, &answer.member)))
            }
        }
    }

    fn txn(&self, txn: &Txn, host_lease: Option<i64>) -> Result<(Outcome, Contact), Error> {
        let own_lease = txn.own_lease().map(|seconds| self.client.grant(seconds)).transpose()?;
        let own_lease = own_lease.map_or(0, |answer| answer.value);
        let path = |key: &Key| key.path(&self.prefix).into_bytes();
        let compare = |compare: &Compare| match compare {
            Compare::Absent(key) => Comparison::CreateRevision(path(key), 0),
            Compare::Unchanged(key, revision) => Comparison::ModRevision(path(key), *revision),
            Compare::Value(key, value) => Comparison::Value(path(key), value.clone()),
        };
        let operation = |op: &Op| match op {
            Op::Put(key, value, lease) => {
                let lease = match lease {
                    Lease::None => 0,
                    Lease::Host => host_lease.unwrap_or(0),
                    Lease::New(_) => own_lease,
                };
                Operation::Put { key: path(key), value: value.clone(), lease }
            }
            Op::Delete(key) => Operation::Delete(path(key)),
        };
        let sent = self.client.txn(&crate::etcd::Txn {
            compare: txn.compares.iter().map(compare).collect(),
            then: txn.ops.iter().map(operation).collect(),
            otherwise: txn.compares.iter().map(|compare| Operation::Get(path(compare.key()))).collect(),
        });
        // Nothing is under the lease: it would only wait for its end.
        if own_lease != 0 && !matches!(&sent, Ok(answer) if answer.value.succeeded) {
            let _ = self.client.revoke(own_lease);
        }
        let answer = sent?;
        let contact = Contact::of(&answer.header, &answer.member);
        let revision = answer.header.revision;
        if answer.value.succeeded {
            return Ok((Outcome::Committed(revision), contact));
        }
        let keys = txn.compares.iter().map(|compare| compare.key().clone());
        let found =
            keys.zip(answer.value.read).map(|(key, records)| (key, records.into_iter().next().map(Raw::of)));
        Ok((Outcome::Differs(found.collect(), revision), contact))
    }
}
