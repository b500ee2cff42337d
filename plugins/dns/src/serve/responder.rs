//! The responder's main loop: what it does on each event.

mod plugins;
mod queries;
mod records;
mod restore;
mod start;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sys::datagram::{Inbox, Outbox};

use super::args::Args;
use super::connections::Connections;
use super::control::Control;
use super::listeners::{Listener, Listeners};
use super::pace::Pace;
use super::presence::Presence;
use super::watch::Watch;
use crate::event_loop::Id;
use crate::forward::{Forwarder, HostServers};
use crate::record::{Key, StateDir};
use crate::source::{Event, Poller, Source};
use crate::zone::{Slot, Zone};

/// The file with the host's name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Batches of datagrams handled per event.
const BATCHES: usize = 8;
/// Connections accepted per event.
const ACCEPTS: usize = 64;
/// How often unbound addresses are retried and containers' namespaces checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a successor waits for queries in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The process and all its state.
#[derive(Debug)]
pub(super) struct Responder {
    args: Args,
    state_dir: StateDir,
    /// Device and owner of the directory with the records.
    origin: (u64, u32),
    lock: File,
    /// Held while no plugin may change records.
    plugins_lock: File,
    poller: Poller,
    control: Control,
    watch: Watch,
    zone: Zone,
    listeners: Listeners,
    connections: Connections,
    forwarder: Forwarder,
    host_servers: HostServers,
    inbox: Inbox,
    outbox: Outbox,
    /// Datagrams received in this round.
    queries: usize,
    pace: Pace,
    /// A buffer for one answer of any length.
    scratch: Box<[u8]>,
    /// An address could not be bound.
    unbound: bool,
    /// When the responder was last found to have no attachment.
    empty_since: Option<Instant>,
    next_check: Instant,
    /// The executable to become, as soon as no query is in flight.
    successor: Option<Successor>,
    /// Listeners that found no free descriptor, and when to accept again.
    paused: Vec<Id>,
    paused_until: Option<Instant>,
}

/// An executable that a plugin asked this process to become.
#[derive(Debug)]
struct Successor {
    executable: OwnedFd,
    path: PathBuf,
    /// When to execute it even if queries are in flight.
    deadline: Instant,
}

impl Responder {
    /// Where the namespace of an attachment was.
    pub(super) fn presence(&self, slot: Slot, key: &Key) -> Presence {
        let attached = self.zone.network(slot).and_then(|network| network.attached(key));
        attached.map(Presence::of).unwrap_or_default()
    }

    /// Adds a container's sockets in place of its previous ones.
    fn adopt_listener(&mut self, listener: Listener) -> io::Result<()> {
        listener.udp.set_nonblocking(true)?;
        listener.tcp.set_nonblocking(true)?;
        Ok(self.listeners.adopt(&self.poller, listener)?)
    }

    /// Opens and closes sockets according to the records; returns failures by network name.
    fn apply_records(&mut self, now: Instant) -> Vec<(String, String)> {
        let failed = self.listeners.apply(&self.poller, &self.zone);
        self.forwarder.set_own(self.listeners.addresses());
        self.forwarder.follow(&self.zone);
        let listeners = &self.listeners.all;
        self.connections.close_of(|listener| listeners.get(listener).is_none());
        if self.zone.attachments() > 0 {
            self.empty_since = None;
        } else {
            self.empty_since.get_or_insert(now);
        }
        self.unbound = !failed.is_empty();
        let named = |(slot, error)| Some((self.zone.network(slot)?.record().name.clone(), error));
        failed.into_iter().filter_map(named).collect()
    }

    /// Handles events until there has been no attachment for the grace period.
    pub(super) fn run(mut self) -> sys::Result<()> {
        let mut events = Vec::new();
        loop {
            let deadline = self.deadline();
            self.poller
                .wait(deadline, |event| events.push(event))
                .map_err(|errno| sys::Error::new("wait for queries at", self.dir_text(), errno))?;
            let now = Instant::now();
            self.queries = 0;
            events.drain(..).for_each(|event| self.handle(event, now));
            self.connections.expire(now);
            while let Some(reply) = self.forwarder.expire(&self.poller, &mut self.scratch, now) {
                self.deliver(&reply, now);
            }
            if now >= self.next_check {
                self.run_checks(now);
            }
            if self.watch.due().is_some_and(|due| now >= due) {
                self.reload_changes(now);
            }
            if self.paused_until.is_some_and(|until| now >= until) {
                self.resume_accepting();
            }
            if self.successor.is_some() {
                self.exec_successor(now);
            }
            if self.empty_since.is_some_and(|since| now >= since + self.args.grace) && self.may_exit(now)? {
                return Ok(());
            }
            if let Some(pause) = self.pace.pause(self.queries, now) {
                std::thread::sleep(pause);
            }
        }
    }

    fn dir_text(&self) -> String {
        self.args.state_dir.display().to_string()
    }

    fn deadline(&self) -> Option<Instant> {
        let look =
            self.unbound || self.listeners.all.iter().any(|(_, held)| held.origin.container().is_some());
        [
            self.connections.due(),
            self.forwarder.due(),
            self.watch.due(),
            look.then_some(self.next_check),
            self.empty_since.map(|since| since + self.args.grace),
            self.successor.as_ref().map(|successor| successor.deadline),
            self.paused_until,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handle(&mut self, event: Event, now: Instant) {
        match event.source {
            Source::Datagram if self.successor.is_none() => self.datagrams(event.id, now),
            Source::Accept if self.successor.is_none() => self.accept(event.id, now),
            Source::Datagram | Source::Accept => {}
            Source::Connection => self.connection(event.id, now),
            Source::Flight => {
                if let Some(reply) = self.forwarder.advance(&self.poller, event.id, &mut self.scratch, now) {
                    self.deliver(&reply, now);
                }
            }
            Source::Control if self.successor.is_none() => {
                if !self.control.accept(&self.poller, now) && self.control.listen(&self.poller, false).is_ok()
                {
                    self.paused_until = Some(now + queries::ACCEPT_PAUSE);
                }
            }
            Source::Control => {}
            Source::Plugin => self.plugin(event.id, now),
            Source::Records => self.watch.take(now),
        }
    }

    /// Retries addresses that could not be bound, and closes the sockets of containers with a
    /// deleted namespace: an open socket would keep it alive.
    fn run_checks(&mut self, now: Instant) {
        self.next_check = now + CHECK_INTERVAL;
        self.listeners.close(|listener| listener.presence.is_gone());
        if self.unbound {
            self.apply_records(now);
        }
    }

    /// Whether to exit: no plugin is at work, and there is still no record.
    fn may_exit(&mut self, now: Instant) -> sys::Result<bool> {
        self.empty_since = Some(now);
        if self.records_are_gone() {
            return Ok(true);
        }
        if self.plugins_lock.try_lock().is_err() {
            // A plugin is at work. It sends a request if it needs the responder.
            return Ok(false);
        }
        let over = self.is_unused(now);
        if !matches!(over, Ok(true)) {
            let _ = self.plugins_lock.unlock();
        }
        over
    }

    /// The same, while no plugin changes records. Closing the control socket refuses later
    /// requests; its file may stay, because this user may not remove it.
    fn is_unused(&mut self, now: Instant) -> sys::Result<bool> {
        if self.control.is_in_use(now) {
            return Ok(false);
        }
        self.load()?;
        if self.zone.attachments() > 0 {
            self.apply_records(now);
            return Ok(false);
        }
        let _ = sys::file::remove(&self.state_dir.control());
        Ok(true)
    }
}

/// Writes process id and release into the lock file, for administrators and for plugins that
/// get no response.
fn write_lock_file(lock: &mut File) {
    let about = format!("{} {}\n", std::process::id(), cni::RELEASE);
    // The file is informative only.
    let _ =
        lock.set_len(0).and_then(|()| io::Seek::rewind(lock)).and_then(|()| lock.write_all(about.as_bytes()));
}
