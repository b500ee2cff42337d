//! Waiting for sockets.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::slab::Id;

/// Events that are taken at once.
const EVENTS: usize = 64;

/// What a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Questions come in as datagrams.
    Datagram,
    /// Connections of clients come in.
    Accept,
    /// A client's connection.
    Connection,
    /// A question that was passed on.
    Flight,
    /// Connections of plugins come in.
    Control,
    /// A plugin's connection.
    Plugin,
    /// Changes of the records.
    Records,
}

const KINDS: [Kind; 7] = [
    Kind::Datagram,
    Kind::Accept,
    Kind::Connection,
    Kind::Flight,
    Kind::Control,
    Kind::Plugin,
    Kind::Records,
];

/// Something happened to a socket; what, is found out by trying.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What it is.
    pub kind: Kind,
    /// Which one.
    pub id: Id,
}

/// See the module.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
}

impl Poller {
    /// # Errors
    /// The kernel refused.
    pub fn new() -> nix::Result<Self> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(|epoll| Self { epoll })
    }

    fn event(flags: EpollFlags, kind: Kind, id: Id) -> EpollEvent {
        EpollEvent::new(flags, (kind as u64) << 56 | id.word())
    }

    /// Watches for something to read, for as long as the socket is open.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn watch(&self, socket: &impl AsFd, kind: Kind, id: Id) -> nix::Result<()> {
        self.epoll.add(socket, Self::event(EpollFlags::EPOLLIN, kind, id))
    }

    /// Watches for something else than before.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn change(&self, socket: &impl AsFd, kind: Kind, id: Id, read: bool, write: bool) -> nix::Result<()> {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, read);
        flags.set(EpollFlags::EPOLLOUT, write);
        self.epoll.modify(socket, &mut Self::event(flags, kind, id))
    }

    /// Waits until something happens, but not past the deadline. `each` gets the events.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn wait(&self, deadline: Option<Instant>, mut each: impl FnMut(Event)) -> nix::Result<()> {
        let timeout = deadline.map_or(EpollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last round does not spin.
            let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
            EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
        });
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            done => done?,
        };
        for event in &events[..count] {
            let Some(kind) = KINDS.get(usize::try_from(event.data() >> 56).unwrap_or(usize::MAX)) else {
                continue;
            };
            each(Event { kind: *kind, id: Id::of_word(event.data()) });
        }
        Ok(())
    }
}
