//! The responder's side of the control socket; see [`crate::control`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};

use crate::control::{ControlRequest, ControlResponse, PACKET_MAX, at_fallback};
use crate::event_loop::{Id, Slab, fails_one_connection_only};
use crate::record::StateDir;
use crate::source::{Poller, Source};

/// Connections at once.
const MAX: usize = 256;
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(30);
/// Connections accepted per event.
const ACCEPTS: usize = 128;

/// The control socket and the connections of plugins.
#[derive(Debug)]
pub(super) struct Control {
    /// SOCK_SEQPACKET. std has no type for it, but accept(2) is the same.
    socket: UnixListener,
    /// The socket at [`crate::control::fallback_address`], unless the name is taken.
    fallback: Option<UnixListener>,
    connections: Slab<Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// It came by the abstract socket, to which a container in the host's network namespace
    /// can connect too.
    fallback: bool,
    last_progress: Instant,
}

/// A request and the descriptors that came with it.
pub(super) type Incoming = (ControlRequest, Vec<OwnedFd>);

impl Control {
    /// Takes over a listening socket.
    pub(super) fn of_socket(socket: OwnedFd) -> Self {
        Self { socket: socket.into(), fallback: None, connections: Slab::default() }
    }

    /// Also listens at the abstract socket, which survives the removal of the state
    /// directory.
    pub(super) fn open_fallback(&mut self, state_dir: &StateDir, poller: &Poller) -> io::Result<()> {
        let fallback = UnixListener::from(at_fallback(state_dir)?);
        poller.watch(&fallback, Source::Control, Id::ZERO)?;
        self.fallback = Some(fallback);
        Ok(())
    }

    /// Replaces the listening socket; connections stay.
    pub(super) fn replace(&mut self, socket: OwnedFd, poller: &Poller) -> nix::Result<()> {
        self.socket = socket.into();
        self.watch(poller)
    }

    /// Watches for connections.
    pub(super) fn watch(&self, poller: &Poller) -> nix::Result<()> {
        poller.watch(&self.socket, Source::Control, Id::ZERO)
    }

    /// Starts or stops accepting connections.
    pub(super) fn listen(&self, poller: &Poller, on: bool) -> nix::Result<()> {
        std::iter::once(&self.socket)
            .chain(&self.fallback)
            .try_for_each(|socket| poller.change(socket, Source::Control, Id::ZERO, on, false))
    }

    /// The numbers of the connections.
    pub(super) fn connections(&self) -> Vec<Id> {
        self.connections.iter().map(|(id, _)| id).collect()
    }

    /// The listening socket.
    pub(super) fn socket(&self) -> &UnixListener {
        &self.socket
    }

    /// Accepts connections of root and of the responder's own user (D-055). Returns whether
    /// all waiting ones were accepted.
    pub(super) fn accept(&mut self, poller: &Poller, now: Instant) -> bool {
        let mut sockets = std::iter::once(&self.socket).chain(&self.fallback);
        let Some(mut socket) = sockets.next() else { return true };
        let mut fallback = false;
        for _ in 0..ACCEPTS {
            let stream = match socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if fails_one_connection_only(&error) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match sockets.next() {
                    Some(next) => {
                        (socket, fallback) = (next, true);
                        continue;
                    }
                    None => return true,
                },
                Err(_) => return false,
            };
            let socket = OwnedFd::from(stream);
            let trusted = getsockopt(&socket, sockopt::PeerCredentials)
                .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw());
            if !trusted {
                continue;
            }
            if self.connections.len() >= MAX
                && let Some((idlest, _)) =
                    self.connections.iter().min_by_key(|(_, connection)| connection.last_progress)
            {
                self.connections.remove(idlest);
            }
            let id = self.connections.insert(Connection { socket, fallback, last_progress: now });
            if self
                .connections
                .get(id)
                .is_some_and(|held| poller.watch(&held.socket, Source::Plugin, id).is_err())
            {
                self.connections.remove(id);
            }
        }
        true
    }

    /// The next request of a plugin. Anything else closes the connection.
    pub(super) fn receive(&mut self, id: Id, now: Instant) -> Option<Incoming> {
        let connection = self.connections.get_mut(id)?;
        let mut buffer = [0; PACKET_MAX];
        let packet = match sys::passing::receive(&connection.socket, &mut buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return None;
            }
            received => received.ok().filter(|packet| packet.whole && packet.length > 0),
        };
        let incoming = packet.and_then(|packet| {
            Some((ControlRequest::from_packet(&buffer[..packet.length])?, packet.descriptors))
        });
        let incoming = incoming.filter(|(request, _)| {
            !connection.fallback || matches!(request, ControlRequest::Records | ControlRequest::Settle)
        });
        match incoming {
            Some(incoming) => {
                connection.last_progress = now;
                Some(incoming)
            }
            None => {
                self.connections.remove(id);
                None
            }
        }
    }

    /// Sends a response. A connection that does not take it is closed.
    pub(super) fn answer(&mut self, id: Id, answer: &ControlResponse) {
        let Some(connection) = self.connections.get(id) else { return };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if send(connection.socket.as_fd().as_raw_fd(), &answer.to_packet(), flags).is_err() {
            self.connections.remove(id);
        }
    }

    /// Whether a plugin is connected that has not been idle for long.
    pub(super) fn is_in_use(&mut self, now: Instant) -> bool {
        let idle: Vec<Id> = self
            .connections
            .iter()
            .filter(|(_, connection)| now.saturating_duration_since(connection.last_progress) > IDLE)
            .map(|(id, _)| id)
            .collect();
        for id in idle {
            self.connections.remove(id);
        }
        !self.connections.is_empty()
    }
}
