//! The thread for the watch: a full read, then changes from its revision on. Whenever the watch ends,
//! a full read follows; what it does not have is gone, and until then nothing is.

use std::sync::PoisonError;

use cluster::key::root;

use super::{Contact, Report, Reporter, Trouble, Watching};
use crate::etcd::{Attempt, Backoff, Client, Error, Event, Events, Watch, WatchEnd};
use crate::state::cache::{Change, Raw};

/// What the thread works with.
pub(super) struct Thread {
    client: Client,
    root: Vec<u8>,
    reporter: Reporter,
    watching: Watching,
    backoff: Backoff,
    /// After etcd refused this host.
    refused: Backoff,
}

/// The main loop is gone.
struct Gone;

impl Thread {
    pub(super) fn new(client: Client, prefix: &str, reporter: Reporter, watching: Watching) -> Self {
        let root = root(prefix).into_bytes();
        let (backoff, refused) = (Backoff::default(), Backoff::long());
        Self { client, root, reporter, watching, backoff, refused }
    }

    /// Reads and watches until the main loop is gone.
    pub(super) fn run(&mut self) {
        while let Ok(ended) = self.follow() {
            let pause = match ended {
                None => std::time::Duration::ZERO,
                Some(error) => {
                    if !self.reporter.send(Report::Lost(Trouble::of(&error))) {
                        return;
                    }
                    let random = sys::random::bytes::<4>().map_or(0, u32::from_ne_bytes);
                    match error.is_refusal() {
                        true => self.refused.failed(random),
                        false => self.backoff.failed(random),
                    }
                }
            };
            std::thread::park_timeout(pause);
        }
    }

    /// Reads everything, and follows it; returns why that ended, if it was not asked for.
    fn follow(&mut self) -> Result<Option<Error>, Gone> {
        let whole = match self.client.read(&self.root) {
            Ok(whole) => whole,
            Err(error) => return Ok(Some(error)),
        };
        let revision = whole.value.revision;
        let mut watch = match self.client.watch(&self.root, revision + 1) {
            Ok(watch) => watch,
            Err(error) => return Ok(Some(error)),
        };
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch.stopper());
        let contact = Contact::of(&whole.header, &whole.member);
        let records = whole.value.records.into_iter().map(Raw::of).collect();
        let left_out =
            whole.value.left_out.into_iter().map(|left| format!("{}: {}", left.key, left.why)).collect();
        self.report(Report::Whole(records, revision, left_out, contact))?;
        self.backoff.succeeded();
        self.refused.succeeded();
        let end = loop {
            match watch.next() {
                Ok(events) => self.changes(events, &watch)?,
                Err(end) => break end,
            }
        };
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let member = watch.member().to_owned();
        Ok(match end {
            WatchEnd::Compacted(_) => None,
            // The member was found behind, or the cluster is another.
            WatchEnd::Stopped => {
                self.client.leave(&member);
                None
            }
            WatchEnd::Canceled(why) => {
                self.client.leave(&member);
                Some(Error::NoQuorum(Attempt { member, why }))
            }
            WatchEnd::Failed(error) => {
                self.client.leave(&member);
                Some(error)
            }
        })
    }

    fn changes(&self, events: Events, _watch: &Watch) -> Result<(), Gone> {
        let changes = events.events.into_iter().filter_map(|event| match event {
            Event::Put(record) => Some(Change::Put(Raw::of(record))),
            Event::Deleted(key, revision) => Some(Change::Deleted(key, revision)),
            // The next full read names it.
            Event::LeftOut(_) => None,
        });
        self.report(Report::Changes(changes.collect(), events.header.revision))
    }

    fn report(&self, report: Report) -> Result<(), Gone> {
        if self.reporter.send(report) { Ok(()) } else { Err(Gone) }
    }
}
