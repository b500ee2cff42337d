//! The daemon's main loop.

use std::path::Path;
use std::time::{Duration, Instant};

use daemon::{Id, Tag, confine};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sys::{Error, privilege};

use super::args::Args;
use super::connections::Connections;
use super::leases::Leases;
use super::listen::Listening;
use super::log;
use crate::acquire::now;
use crate::control::{ControlRequest, ControlResponse, PROTOCOL, Verb};
use crate::record::Store;

/// How often records are looked for that no plugin reported, because it was killed.
const RESCAN: Duration = Duration::from_secs(10);
/// What the daemon needs to work in containers' namespaces, of which some are only reachable by
/// their processes, and at DHCPv6's port of clients.
const CAPABILITIES: [u32; 5] = [
    privilege::NET_BIND_SERVICE,
    privilege::NET_ADMIN,
    privilege::NET_RAW,
    privilege::SYS_ADMIN,
    privilege::SYS_PTRACE,
];
/// System calls besides those of every daemon: namespaces, records, and sockets closed in the
/// background.
const SYSTEM_CALLS: &[libc::c_long] = &[
    libc::SYS_fstatfs,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_setns,
    libc::SYS_statfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// The poller of the daemon.
pub type Poller = daemon::Poller<Source>;

/// What a watched descriptor delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Connections of plugins.
    Control,
    /// Requests of one plugin.
    Plugin,
    /// Frames of one exchange.
    Flight,
    /// Signals.
    Signal,
}

const SOURCES: [Source; 4] = [Source::Control, Source::Plugin, Source::Flight, Source::Signal];

impl Tag for Source {
    fn to_byte(self) -> u8 {
        self as u8
    }

    fn from_byte(byte: u8) -> Option<Self> {
        SOURCES.get(usize::from(byte)).copied()
    }
}

/// The process and all its state.
pub struct Running {
    args: Args,
    poller: Poller,
    listening: Listening,
    connections: Connections,
    leases: Leases,
    signals: SignalFd,
    rescan: Duration,
    /// Since when there has been no lease.
    empty: Option<Duration>,
    ends: bool,
}

impl Running {
    /// Listens, reads the records, and drops privileges.
    pub fn start(args: Args) -> sys::Result<Self> {
        let store = Store::below(&args.host_prefix);
        store.make()?;
        let listening = Listening::open(&args, &store)?;
        let kernel = |errno: nix::errno::Errno| Error::new("wait for", "plugins and signals", errno);
        let poller = Poller::new().map_err(kernel)?;
        poller.watch(&listening.listener, Source::Control, Id::ZERO).map_err(kernel)?;
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.thread_block().map_err(kernel)?;
        let signals =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(kernel)?;
        poller.watch(&signals, Source::Signal, Id::ZERO).map_err(kernel)?;
        let now = now()?;
        let mut leases = Leases::new(&args, &store);
        leases.read_all(now)?;
        confined(&args, &store)?;
        Ok(Self {
            args,
            poller,
            listening,
            connections: Connections::default(),
            leases,
            signals,
            rescan: now + RESCAN,
            empty: None,
            ends: false,
        })
    }

    /// Handles events until a signal, or until there has been no lease for long.
    pub fn run(mut self) -> sys::Result<()> {
        let mut events = Vec::new();
        while !self.ends {
            let began = now()?;
            self.leases.advance(&self.poller, began);
            let next = [self.leases.next(), Some(self.rescan), self.idle_until()];
            let next = next.into_iter().flatten().min().unwrap_or(self.rescan);
            let deadline = Instant::now() + next.saturating_sub(began);
            self.poller
                .wait(Some(deadline), |event| events.push(event))
                .map_err(|errno| Error::new("wait for", "events", errno))?;
            let now = now()?;
            for event in events.drain(..) {
                match event.source {
                    Source::Control => self.connections.accept(&self.listening.listener, &self.poller, now),
                    Source::Plugin => self.plugin(event.id, now),
                    Source::Flight => self.leases.receive(event.id, now),
                    Source::Signal => self.ends |= matches!(self.signals.read_signal(), Ok(Some(_))),
                }
            }
            self.connections.expire(now);
            if now >= self.rescan {
                self.rescan = now + RESCAN;
                if let Err(error) = self.leases.read_all(now) {
                    log(&format_args!("{error:#}"));
                }
            }
            self.empty = self.leases.is_empty().then(|| self.empty.unwrap_or(now));
            self.ends |= self.idle_until().is_some_and(|until| now >= until) && self.connections.is_empty();
        }
        self.listening.close();
        if let Some(path) = &self.args.pid_file {
            // Nobody needs it any more.
            let _ = sys::file::remove(path);
        }
        Ok(())
    }

    fn idle_until(&self) -> Option<Duration> {
        Some(self.empty? + self.args.idle?)
    }

    fn plugin(&mut self, id: Id, now: Duration) {
        let Some(ControlRequest { ask, lease }) = self.connections.receive(id, now) else { return };
        let mut error = None;
        match (ask, lease) {
            (Verb::Hello, _) => {}
            (Verb::Sync, Some(lease)) if !lease.contains('/') => self.leases.read(&lease, now),
            (Verb::Sync, _) => error = Some("no record has this name".to_owned()),
            (Verb::Retire, _) if self.args.idle.is_some() => self.ends = true,
            (Verb::Retire, _) => error = Some("this daemon was not started on demand".to_owned()),
        }
        let build = cni::RELEASE.to_owned();
        let (pid, limits) = (std::process::id(), self.args.limits);
        self.connections.answer(id, &ControlResponse { protocol: PROTOCOL, build, pid, limits, error });
    }
}

/// Gives up what the daemon does not need.
fn confined(args: &Args, store: &Store) -> sys::Result<()> {
    privilege::limit_capabilities(&CAPABILITIES)
        .map_err(|cause| Error::new("drop", "capabilities", cause))?;
    let socket = args.reached(&args.socket);
    let written = [Some(store.dir()), socket.parent(), args.pid_file.as_deref().and_then(Path::parent)];
    let written: Vec<&Path> = written.into_iter().flatten().collect();
    // A kernel without one of these still gets a daemon.
    for confined in [confine::forbid_file_writes(&written), confine::forbid_other_system_calls(SYSTEM_CALLS)]
    {
        if let Err(error) = confined {
            log(&format_args!("the kernel cannot confine the daemon fully: {error}"));
        }
    }
    Ok(())
}
