//! The connection to etcd: one thread for requests, one for the watch. The main loop hands out one
//! request at a time, and hears of results and changes by a channel and a byte in a pipe.

mod requests;
mod watch;

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use cluster::key::Key;
use cluster::settings::Settings;

use crate::etcd::{self, Client, Header, Stopper};
use crate::state::cache::{Change, Raw};
use crate::txn::Txn;

/// The stack of a thread, in bytes: TLS and JSON need some tens of KiB.
const STACK: usize = 1 << 20;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// A transaction, with the host's lease.
    Txn(Txn, Option<i64>),
    /// A lease of so many seconds.
    Grant(u32),
    /// Keeps a lease alive.
    KeepAlive(i64),
    /// The newest revision of all records.
    Newest,
    /// How full the database is.
    Space,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The transaction was done at this revision.
    Committed(i64),
    /// A comparison failed; what the compared keys have, at this revision.
    Differs(Vec<(Key, Option<Raw>)>, i64),
    /// The lease.
    Granted(i64),
    /// Whether the lease lives on, or is unknown to etcd.
    Kept(bool),
    /// The newest revision of all records.
    Newest(i64),
    /// How full the database is.
    Space(etcd::Status),
}

/// Who answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// The id of the cluster.
    pub cluster: String,
    /// The member's URL.
    pub member: String,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What was tried, what etcd said, and what to do.
    pub text: String,
    /// etcd refuses this host, or such requests: it is not tried again soon.
    pub is_refusal: bool,
    /// etcd has no space; deletions succeed.
    pub is_full: bool,
}

/// What the threads report.
#[derive(Clone, Debug)]
pub enum Report {
    /// A request has ended.
    Done(Job, Result<(Outcome, Contact), Trouble>),
    /// All records, at a revision; changes follow. The texts name records that are too large.
    Whole(Vec<Raw>, i64, Vec<String>, Contact),
    /// Changes, complete up to a revision.
    Changes(Vec<Change>, i64),
    /// The watch has ended; a full read follows as soon as a member answers.
    Lost(Trouble),
}

/// Ends the watch that runs; there is none between two.
type Watching = Arc<Mutex<Option<Stopper>>>;

/// The main loop's end.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    jobs: Sender<Job>,
    watch: Watching,
    watcher: Thread,
    reports: Receiver<Report>,
    wake: PipeReader,
}

/// A thread's way to report.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    reports: Sender<Report>,
    wake: Arc<PipeWriter>,
}

impl Reporter {
    /// Reports; returns whether the main loop still listens.
    pub(crate) fn send(&self, report: Report) -> bool {
        self.reports.send(report).is_ok() && (&*self.wake).write_all(&[0]).is_ok()
    }
}

impl Remote {
    /// Starts the threads.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn start(settings: &Settings) -> std::io::Result<Self> {
        let (wake, writer) = std::io::pipe()?;
        let (jobs, queue) = channel();
        let watching = Watching::default();
        let (sender, reports) = channel();
        let reporter = Reporter { reports: sender, wake: writer.into() };
        let client = Client::new(settings);
        let prefix = settings.prefix.clone();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        let mut watch = watch::Thread::new(client.clone(), &prefix, reporter.clone(), watching.clone());
        let watcher = thread("watch").spawn(move || watch.run())?.thread().clone();
        let requests = requests::Thread::new(client.clone(), prefix, reporter);
        thread("requests").spawn(move || requests.run(&queue))?;
        Ok(Self { client, jobs, watch: watching, watcher, reports, wake })
    }

    /// Hands out a request.
    pub fn ask(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }

    /// Ends the watch: another member is asked for everything. Without a watch it is tried at once.
    pub fn restart_watch(&self) {
        let running = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        match running {
            Some(stopper) => stopper.stop(),
            None => self.watcher.unpark(),
        }
    }

    /// Whether a file with a certificate, a key or the password has changed since the last call. If
    /// so, a watch that waits is tried at once.
    pub fn has_new_files(&self) -> bool {
        let is_so = self.client.has_new_files();
        if is_so {
            self.watcher.unpark();
        }
        is_so
    }

    /// The descriptor that is readable when there are reports.
    pub fn wake(&self) -> &PipeReader {
        &self.wake
    }

    /// The reports that have come; call it when [`Remote::wake`] is readable.
    pub fn reports(&mut self) -> Vec<Report> {
        let mut bytes = [0; 512];
        let count = self.wake.read(&mut bytes).unwrap_or(0);
        // A byte is written after its report.
        (0..count).filter_map(|_| self.reports.try_recv().ok()).collect()
    }
}

impl Trouble {
    /// The trouble with an error of the client.
    fn of(error: &etcd::Error) -> Self {
        Self {
            text: error.to_string(),
            is_refusal: error.is_refusal(),
            is_full: matches!(error, etcd::Error::Full(_)),
        }
    }
}

impl Contact {
    fn of(header: &Header, member: &str) -> Self {
        Self { cluster: format!("{:016x}", header.cluster), member: member.to_owned() }
    }
}

impl Raw {
    fn of(record: etcd::Record) -> Self {
        let etcd::Record { key, value, create_revision, mod_revision, .. } = record;
        Self { key, value, created: create_revision, modified: mod_revision }
    }
}
