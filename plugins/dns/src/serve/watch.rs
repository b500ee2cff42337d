//! Notices changes of the records that no plugin reports: by hand, or by a plugin that was
//! killed.
//!
//! A plugin reports its changes at once, so most events are matched by a report before they are
//! [`SETTLE`] old, and cost nothing. The rest is read again. That needs no lock: a change
//! during the read makes another event.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use sys::file::TEMP_PREFIX;

use super::log::log_error;
use crate::event_loop::Id;
use crate::map::Map;
use crate::record::{Key, NETWORK_FILE, StateDir, encoded};
use crate::source::{Poller, Source};

/// How long a plugin may take to report a change, and the shortest time between two reloads.
const SETTLE: Duration = Duration::from_millis(200);
/// Buffers of events read at once.
const BUFFERS: usize = 64;
/// linux/inotify.h: no events of unlinked files, such as the draft of a record. (nix has no
/// name for it.)
const IN_EXCL_UNLINK: AddWatchFlags = AddWatchFlags::from_bits_retain(0x0400_0000);

/// The inotify watches.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// None if the kernel refused: then only reported changes are noticed.
    inotify: Option<Inotify>,
    watched: Map<WatchDescriptor, WatchedDir>,
    /// Unreported changes: a network's directory, and the name of the file in it.
    changed: Vec<(String, OsString)>,
    /// Events were lost, so anything may have changed.
    lost: bool,
    /// When the first unreported change was seen.
    since: Option<Instant>,
    /// The failure to watch was logged.
    logged: bool,
}

/// A watched directory.
#[derive(Debug, PartialEq, Eq)]
enum WatchedDir {
    /// The directory of all networks.
    Networks,
    /// The directory of one network.
    Network(String),
    /// The directory of its attachments.
    Attachments(String),
    /// The directory of its other hosts.
    Hosts(String),
}

/// What to read again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreported {
    /// All records.
    Everything,
    /// The networks with these directory names.
    Networks(Vec<String>),
}

impl Watch {
    /// Starts without any watched directory.
    pub(super) fn start(poller: &Poller) -> Self {
        let mut watch = Self::default();
        let open = || {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            poller.watch(&inotify, Source::Records, Id::ZERO).map(|()| inotify)
        };
        match open() {
            Ok(inotify) => watch.inotify = Some(inotify),
            Err(errno) => watch.log_once(errno),
        }
        watch
    }

    fn log_once(&mut self, errno: Errno) {
        if !self.logged {
            self.logged = true;
            log_error(&"records that are changed by hand may be noticed late: watch them", &errno.desc());
        }
    }

    /// Watches all networks. Callers do this before they read the records.
    pub(super) fn all(&mut self, state_dir: &StateDir) {
        self.put(&state_dir.networks_dir(), WatchedDir::Networks);
        // A directory that cannot be listed cannot be read either; the reader reports
        // that.
        for network in state_dir.directories().unwrap_or_default() {
            self.network(state_dir, &network);
        }
    }

    /// Watches a network. Callers do this before they read its records. A missing directory
    /// is not watched.
    pub(super) fn network(&mut self, state_dir: &StateDir, network: &str) {
        let dir = encoded(network);
        self.put(&state_dir.networks_dir(), WatchedDir::Networks);
        self.put(&state_dir.network_dir(network), WatchedDir::Network(dir.clone()));
        self.put(&state_dir.attachments_dir(network), WatchedDir::Attachments(dir.clone()));
        self.put(&state_dir.remote_dir(network), WatchedDir::Hosts(dir));
    }

    fn put(&mut self, path: &Path, watched_dir: WatchedDir) {
        let Some(inotify) = &self.inotify else { return };
        let changes = AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVE_SELF
            | IN_EXCL_UNLINK;
        let added = inotify.add_watch(path, changes);
        let former = self.watched.iter().find(|(_, held)| **held == watched_dir).map(|(number, _)| *number);
        if let Some(former) = former.filter(|former| added != Ok(*former)) {
            // The directory was replaced or removed.
            self.watched.remove(&former);
            let _ = inotify.rm_watch(former);
        }
        match added {
            Ok(number) => drop(self.watched.insert(number, watched_dir)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => self.log_once(errno),
        }
    }

    /// Reads pending events.
    pub(super) fn take(&mut self, now: Instant) {
        for _ in 0..BUFFERS {
            let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) else { break };
            events.into_iter().for_each(|event| self.note(event));
        }
        if self.lost || !self.changed.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    fn note(&mut self, InotifyEvent { wd, mask, name, .. }: InotifyEvent) {
        if mask.contains(AddWatchFlags::IN_IGNORED) {
            self.watched.remove(&wd);
            return;
        }
        let name = name.unwrap_or_default();
        if name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
            return;
        }
        match self.watched.get(&wd) {
            _ if mask.intersects(AddWatchFlags::IN_Q_OVERFLOW | AddWatchFlags::IN_UNMOUNT) => {
                self.lost = true
            }
            // The directory itself was moved away.
            Some(WatchedDir::Networks) if name.is_empty() => self.lost = true,
            Some(WatchedDir::Networks) => {
                // Directories of records have UTF-8 names.
                self.changed.extend(name.into_string().ok().map(|dir| (dir, OsString::new())));
            }
            Some(WatchedDir::Network(dir) | WatchedDir::Attachments(dir) | WatchedDir::Hosts(dir)) => {
                self.changed.push((dir.clone(), name))
            }
            None => {}
        }
    }

    /// A plugin reports a change of a network or of one attachment. Returns whether nothing
    /// else changed there.
    pub(super) fn reported(&mut self, network: &str, key: Option<&Key>, now: Instant) -> bool {
        self.take(now);
        let (dir, file) = (encoded(network), key.map(Key::file_name));
        let expected = [Some(OsStr::new(NETWORK_FILE)), file.as_deref().map(OsStr::new)];
        let mut all = true;
        self.changed.retain(|(changed, name)| {
            let here = *changed == dir;
            all &= !here || expected.contains(&Some(name));
            !here
        });
        if self.changed.is_empty() && !self.lost {
            self.since = None;
        }
        all
    }

    /// When [`Watch::take_unreported`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + SETTLE)
    }

    /// Takes the unreported changes.
    pub(super) fn take_unreported(&mut self) -> Unreported {
        self.since = None;
        let mut dirs: Vec<String> = self.changed.drain(..).map(|(dir, _)| dir).collect();
        if std::mem::take(&mut self.lost) {
            return Unreported::Everything;
        }
        dirs.sort_unstable();
        dirs.dedup();
        Unreported::Networks(dirs)
    }
}
