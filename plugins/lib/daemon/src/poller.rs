//! Waiting for events on many descriptors (epoll(7)).

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::slab::Id;

/// Events that one wait returns at most.
const EVENTS: usize = 64;

/// The kinds of descriptors that a user of the poller watches; an event carries the kind.
pub trait Tag: Copy {
    /// The kind as a number.
    fn to_byte(self) -> u8;
    /// The kind with that number.
    fn from_byte(byte: u8) -> Option<Self>;
}

/// A descriptor is ready. Whether to read, to write or to handle an error is found out by trying.
#[derive(Clone, Copy, Debug)]
pub struct Event<T> {
    /// The kind of descriptor.
    pub source: T,
    /// Its number.
    pub id: Id,
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller<T> {
    epoll: Epoll,
    sources: PhantomData<T>,
}

impl<T: Tag> Poller<T> {
    /// An instance that watches nothing yet.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn new() -> nix::Result<Self> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(|epoll| Self { epoll, sources: PhantomData })
    }

    fn event(flags: EpollFlags, source: T, id: Id) -> EpollEvent {
        EpollEvent::new(flags, u64::from(source.to_byte()) << 56 | id.to_word())
    }

    /// Watches a descriptor for input, until it is closed.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn watch(&self, descriptor: &impl AsFd, source: T, id: Id) -> nix::Result<()> {
        self.epoll.add(descriptor, Self::event(EpollFlags::EPOLLIN, source, id))
    }

    /// Changes what a watched descriptor is watched for.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn change(
        &self,
        descriptor: &impl AsFd,
        source: T,
        id: Id,
        read: bool,
        write: bool,
    ) -> nix::Result<()> {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, read);
        flags.set(EpollFlags::EPOLLOUT, write);
        self.epoll.modify(descriptor, &mut Self::event(flags, source, id))
    }

    /// Waits for events until the deadline, and passes each to `handle`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn wait(&self, deadline: Option<Instant>, mut handle: impl FnMut(Event<T>)) -> nix::Result<()> {
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
            let byte = u8::try_from(event.data() >> 56).unwrap_or(u8::MAX);
            if let Some(source) = T::from_byte(byte) {
                handle(Event { source, id: Id::from_word(event.data()) });
            }
        }
        Ok(())
    }
}
