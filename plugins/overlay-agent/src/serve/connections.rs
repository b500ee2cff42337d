//! The control socket and the connections of plugins.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use cluster::control::{Answer, PACKET_MAX, Request};
use daemon::{Id, Slab};
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};

use super::run::{Poller, Source};

/// Connections at once.
const MAX: usize = 256;
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(60);
/// Connections accepted for one event.
const ACCEPTS: usize = 64;

/// The socket and its connections.
#[derive(Debug)]
pub struct Connections {
    listener: UnixListener,
    all: Slab<Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    last_progress: Duration,
}

/// A request with the descriptors that came with it.
pub type Incoming = (Request, Vec<OwnedFd>);

impl Connections {
    /// Takes over a listening socket.
    pub fn of_socket(socket: OwnedFd) -> Self {
        Self { listener: socket.into(), all: Slab::default() }
    }

    /// The listening socket.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Accepts connections of root and of the agent's own user.
    pub fn accept(&mut self, poller: &Poller, now: Duration) {
        for _ in 0..ACCEPTS {
            let socket = match self.listener.accept() {
                Ok((stream, _)) => OwnedFd::from(stream),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                Err(_) => return,
            };
            let own = nix::unistd::geteuid().as_raw();
            let peer = getsockopt(&socket, sockopt::PeerCredentials);
            if !peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own) {
                continue;
            }
            if self.all.len() >= MAX
                && let Some((idlest, _)) = self.all.iter().min_by_key(|(_, held)| held.last_progress)
            {
                self.all.remove(idlest);
            }
            let id = self.all.insert(Connection { socket, last_progress: now });
            if self.all.get(id).is_some_and(|held| poller.watch(&held.socket, Source::Plugin, id).is_err()) {
                self.all.remove(id);
            }
        }
    }

    /// The next request of a plugin. Anything else closes the connection.
    pub fn receive(&mut self, id: Id, now: Duration) -> Option<Incoming> {
        let held = self.all.get_mut(id)?;
        let mut buffer = [0; PACKET_MAX];
        let packet = match sys::passing::receive(&held.socket, &mut buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return None;
            }
            received => received.ok().filter(|packet| packet.whole && packet.length > 0),
        };
        let incoming = packet.and_then(|packet| {
            let request = serde_json::from_slice(buffer.get(..packet.length)?).ok()?;
            Some((request, packet.descriptors))
        });
        match incoming {
            Some(_) => held.last_progress = now,
            None => drop(self.all.remove(id)),
        }
        incoming
    }

    /// Sends a response. A connection that does not take it is closed.
    pub fn answer(&mut self, id: Id, answer: &Answer) {
        let Some(held) = self.all.get_mut(id) else { return };
        // Texts and numbers always serialize.
        let mut packet = serde_json::to_vec(answer).unwrap_or_default();
        if packet.len() > PACKET_MAX {
            let why = "the response is longer than a packet";
            packet = serde_json::to_vec(&crate::engine::failed(999, why)).unwrap_or_default();
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if send(held.socket.as_fd().as_raw_fd(), &packet, flags).is_err() {
            self.all.remove(id);
        }
    }

    /// Closes connections that have been idle for long.
    pub fn expire(&mut self, now: Duration) {
        let late = |held: &Connection| now.saturating_sub(held.last_progress) > IDLE;
        let late: Vec<Id> = self.all.iter().filter(|(_, held)| late(held)).map(|(id, _)| id).collect();
        late.into_iter().for_each(|id| drop(self.all.remove(id)));
    }

    /// Whether a connection is open.
    pub fn has(&self, id: Id) -> bool {
        self.all.get(id).is_some()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
