//! The main loop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cluster::control::{Outcome, Request};
use daemon::{Id, Tag};
use nix::sys::signalfd::SignalFd;
use sys::{Error, Result};

use super::args::Args;
use super::connections::Connections;
use super::reexec;
use super::start::now;
use crate::engine::{Engine, answer, failed};
use crate::kernel::Programmer;
use crate::log::log;
use crate::names::Names;
use crate::remote::Remote;

/// How long SIGTERM and `leave` wait for etcd.
const FAREWELL: Duration = Duration::from_secs(3);

/// The poller of the agent.
pub type Poller = daemon::Poller<Source>;

/// What a watched descriptor delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Connections of plugins.
    Control,
    /// Requests of one plugin.
    Plugin,
    /// Signals.
    Signal,
    /// Reports of the threads that speak to etcd.
    Remote,
    /// The kernel's events.
    Kernel,
}

const SOURCES: [Source; 5] =
    [Source::Control, Source::Plugin, Source::Signal, Source::Remote, Source::Kernel];

impl Tag for Source {
    fn to_byte(self) -> u8 {
        self as u8
    }

    fn from_byte(byte: u8) -> Option<Self> {
        SOURCES.get(usize::from(byte)).copied()
    }
}

/// Why the loop ends.
#[derive(Debug)]
enum End {
    /// A signal: the host stays in the cluster, and falls silent if nobody follows.
    Signal,
    /// The host leaves the cluster; whom to tell.
    Leave(Option<Id>),
}

/// The process and all its state.
pub struct Running {
    args: Args,
    lock: File,
    poller: Poller,
    connections: Connections,
    signals: SignalFd,
    engine: Engine,
    remote: Remote,
    names: Names,
    kernel: Programmer,
    kernel_due: Instant,
    /// Since when nobody here has needed the agent.
    unused: Option<Duration>,
    end: Option<End>,
    successor: Option<(OwnedFd, String)>,
}

impl Running {
    /// All that was started.
    ///
    /// # Errors
    /// The kernel refused a socket.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the process, and none has another's")]
    pub fn new(
        args: Args,
        lock: File,
        poller: Poller,
        connections: Connections,
        signals: SignalFd,
        engine: Engine,
        remote: Remote,
        names: Names,
        kernel: Programmer,
    ) -> Result<Self> {
        for descriptor in kernel.descriptors() {
            poller
                .watch(&descriptor, Source::Kernel, Id::ZERO)
                .map_err(|errno| Error::new("wait for", "the kernel's events", errno))?;
        }
        let kernel_due = Instant::now();
        Ok(Self {
            args,
            lock,
            poller,
            connections,
            signals,
            engine,
            remote,
            names,
            kernel,
            kernel_due,
            unused: None,
            end: None,
            successor: None,
        })
    }

    /// Handles events until a signal, or until the host leaves.
    pub fn run(mut self) -> Result<()> {
        while self.end.is_none() {
            self.turn(None)?;
        }
        match self.end.take() {
            Some(End::Leave(id)) => self.leave(id),
            _ => Ok(()),
        }
    }

    /// Waits for events, handles them, and does what is due.
    fn turn(&mut self, until: Option<Duration>) -> Result<()> {
        let began = now()?;
        let due = self.engine.due(began).min(until.unwrap_or(Duration::MAX));
        let deadline = (Instant::now() + due.saturating_sub(began)).min(self.kernel_due.max(Instant::now()));
        let mut events = Vec::new();
        self.poller
            .wait(Some(deadline), |event| events.push(event))
            .map_err(|errno| Error::new("wait for", "events", errno))?;
        let now = now()?;
        for event in events {
            match event.source {
                Source::Control => self.connections.accept(&self.poller, now),
                Source::Plugin => self.plugin(event.id, now),
                Source::Signal => {
                    if matches!(self.signals.read_signal(), Ok(Some(_))) {
                        self.end.get_or_insert(End::Signal);
                    }
                }
                Source::Remote => {
                    for report in self.remote.reports() {
                        let is_whole = matches!(report, crate::remote::Report::Whole(..));
                        self.engine.report(report, now);
                        if is_whole {
                            self.kernel.compare_all();
                            self.kernel_due = Instant::now();
                        }
                    }
                }
                Source::Kernel => self.kernel_due = Instant::now(),
            }
        }
        self.connections.expire(now);
        let connections = &self.connections;
        self.engine.forget_requests(|id| connections.has(id));
        self.engine.tick(now);
        self.advance(now);
        self.count_unused(now);
        Ok(())
    }

    /// Brings files, kernel and names up to what is known, asks etcd for the next thing, and answers
    /// whoever waits for it.
    fn advance(&mut self, now: Duration) {
        if self.engine.wants_other_credentials() && self.remote.has_new_files() {
            self.engine.try_again(now);
        }
        if std::mem::take(&mut self.engine.restart) {
            self.remote.restart_watch();
        }
        self.engine.note_refusals();
        self.engine.settle(now);
        if let Some(job) = self.engine.next_job(now)
            && !self.remote.ask(job)
        {
            log(&"the thread that speaks to etcd is gone");
            self.end.get_or_insert(End::Signal);
        }
        // Before the kernel, which with thousands of entries takes milliseconds.
        for (id, response) in self.engine.responses(now) {
            self.connections.answer(id, &response);
        }
        if self.engine.has_changed(now) {
            self.engine.program(&mut self.kernel, &mut self.names, now);
            self.kernel_due = Instant::now();
        }
        if Instant::now() >= self.kernel_due {
            self.step_kernel();
        }
        if let Some((executable, path)) = self.successor.take() {
            let error =
                reexec::exec(&executable, &self.args, super::start::kept(&self.lock, &self.connections));
            log(&format_args!("execute {path}: {error}"));
        }
    }

    fn step_kernel(&mut self) {
        match self.kernel.step(Instant::now()) {
            Ok(stepped) => {
                self.kernel_due = stepped.next;
                self.engine.repaired = self.kernel.counted().repaired;
                if stepped.underlay_changed {
                    self.engine.find_addresses();
                }
            }
            Err(error) => {
                log(&format_args!("{error:#}"));
                self.kernel_due = Instant::now() + Duration::from_secs(1);
            }
        }
    }

    fn plugin(&mut self, id: Id, now: Duration) {
        while let Some((request, descriptors)) = self.connections.receive(id, now) {
            match request {
                Request::Leave { force } => match self.engine.may_leave(force) {
                    Ok(()) => self.end = Some(End::Leave(Some(id))),
                    Err(why) => self.connections.answer(id, &failed(11, why)),
                },
                Request::Reexec { path } => match reexec::executable(&path, descriptors) {
                    Ok(executable) => {
                        self.connections.answer(id, &answer(Outcome::Done));
                        self.successor = Some((executable, path));
                    }
                    Err(error) => {
                        self.connections.answer(id, &failed(11, format!("execute {path}: {error}")))
                    }
                },
                Request::Check { ref network, .. } => {
                    let lines =
                        self.kernel.differences(network).unwrap_or_else(|error| vec![format!("{error:#}")]);
                    self.engine.found_in_kernel = BTreeSet::from_iter(lines);
                    self.engine.request(id, request, now);
                    // Judged at once, but by an agent that has read nothing yet.
                    for (id, response) in self.engine.responses(now) {
                        self.connections.answer(id, &response);
                    }
                    self.engine.found_in_kernel.clear();
                }
                request => self.engine.request(id, request, now),
            }
        }
    }

    fn count_unused(&mut self, now: Duration) {
        let is_unused = self.connections.is_empty() && self.engine.is_unused();
        self.unused = is_unused.then(|| self.unused.unwrap_or(now));
        if let (Some(since), Some(grace)) = (self.unused, self.args.grace)
            && now.saturating_sub(since) >= grace
        {
            self.end.get_or_insert(End::Leave(None));
        }
    }

    /// Takes the host's records out of etcd. Files go only if somebody asked for it.
    fn leave(mut self, id: Option<Id>) -> Result<()> {
        let deadline = now()? + FAREWELL;
        self.engine.begin_to_leave();
        let mut is_done = false;
        while now()? < deadline && !is_done {
            self.turn(Some(deadline))?;
            is_done = self.engine.has_left();
        }
        let Some(id) = id else { return Ok(()) };
        if !is_done {
            let why = format!("the host's records are still in etcd: {}", self.engine.why_away(now()?));
            self.connections.answer(id, &failed(11, why));
            return Ok(());
        }
        // What cannot be removed is no name of a network here any more.
        let _ = self.names.set(&BTreeMap::new());
        let outcome = match self.engine.remove_files() {
            Ok(()) => answer(Outcome::Done),
            Err(error) => failed(5, format!("{error:#}")),
        };
        self.connections.answer(id, &outcome);
        Ok(())
    }
}
