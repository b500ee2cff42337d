//! The control socket's end at the responder; see [`crate::control`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};

use crate::control::{Answer, Ask, PACKET_MAX, at_rear};
use crate::event_loop::{Id, Slab, fails_one_connection_only};
use crate::record::Place;
use crate::source::{Poller, Source};

/// Connections at once; more than a plugin of every container would need.
const MAX: usize = 256;
/// How long a connection may stand still.
const IDLE: Duration = Duration::from_secs(30);
/// How many connections are accepted before others are listened to.
const ACCEPTS: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct Control {
    /// Of SOCK_SEQPACKET, which std knows no name for: it accepts all the same.
    socket: UnixListener,
    /// At [`crate::control::rear`], unless somebody has that name.
    rear: Option<UnixListener>,
    plugins: Slab<Plugin>,
}

#[derive(Debug)]
struct Plugin {
    socket: OwnedFd,
    /// It came by the rear, which a container on the host's network can find as well.
    rear: bool,
    moved: Instant,
}

/// A question, with what came with it.
pub(super) type Asked = (Ask, Vec<OwnedFd>);

impl Control {
    /// Goes on with a socket that is open.
    pub(super) fn of_socket(socket: OwnedFd) -> Self {
        Self { socket: socket.into(), rear: None, plugins: Slab::default() }
    }

    /// Has plugins find this responder though its place is removed.
    pub(super) fn open_rear(&mut self, place: &Place, poller: &Poller) -> io::Result<()> {
        let rear = UnixListener::from(at_rear(place)?);
        poller.watch(&rear, Source::Control, Id::ZERO)?;
        self.rear = Some(rear);
        Ok(())
    }

    /// Listens at another socket from now on; those that are connected stay.
    pub(super) fn replace(&mut self, socket: OwnedFd, poller: &Poller) -> nix::Result<()> {
        self.socket = socket.into();
        self.watch(poller)
    }

    /// Watches for connections.
    pub(super) fn watch(&self, poller: &Poller) -> nix::Result<()> {
        poller.watch(&self.socket, Source::Control, Id::ZERO)
    }

    /// Takes connections in, or leaves them where they are.
    pub(super) fn listen(&self, poller: &Poller, on: bool) -> nix::Result<()> {
        std::iter::once(&self.socket)
            .chain(&self.rear)
            .try_for_each(|socket| poller.change(socket, Source::Control, Id::ZERO, on, false))
    }

    /// Those that are connected.
    pub(super) fn plugins(&self) -> Vec<Id> {
        self.plugins.iter().map(|(id, _)| id).collect()
    }

    /// The socket that connections come in at.
    pub(super) fn socket(&self) -> &UnixListener {
        &self.socket
    }

    /// Takes connections in that have come: of our own user and of root (D-055). Says whether there was room for all.
    pub(super) fn accept(&mut self, poller: &Poller, now: Instant) -> bool {
        let mut sockets = std::iter::once(&self.socket).chain(&self.rear);
        let Some(mut socket) = sockets.next() else { return true };
        let mut rear = false;
        for _ in 0..ACCEPTS {
            let stream = match socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if fails_one_connection_only(&error) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match sockets.next() {
                    Some(next) => {
                        (socket, rear) = (next, true);
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
            if self.plugins.len() >= MAX
                && let Some((stillest, _)) = self.plugins.iter().min_by_key(|(_, plugin)| plugin.moved)
            {
                self.plugins.remove(stillest);
            }
            let id = self.plugins.insert(Plugin { socket, rear, moved: now });
            if self
                .plugins
                .get(id)
                .is_some_and(|held| poller.watch(&held.socket, Source::Plugin, id).is_err())
            {
                self.plugins.remove(id);
            }
        }
        true
    }

    /// The next question of a plugin. What is none ends the connection.
    pub(super) fn receive(&mut self, id: Id, now: Instant) -> Option<Asked> {
        let plugin = self.plugins.get_mut(id)?;
        let mut buffer = [0; PACKET_MAX];
        let packet = match sys::passing::receive(&plugin.socket, &mut buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return None;
            }
            received => received.ok().filter(|packet| packet.whole && packet.length > 0),
        };
        let asked =
            packet.and_then(|packet| Some((Ask::of_packet(&buffer[..packet.length])?, packet.descriptors)));
        let asked = asked.filter(|(ask, _)| !plugin.rear || matches!(ask, Ask::Records | Ask::Settle));
        match asked {
            Some(asked) => {
                plugin.moved = now;
                Some(asked)
            }
            None => {
                self.plugins.remove(id);
                None
            }
        }
    }

    /// Answers a plugin. One that does not take it has gone.
    pub(super) fn answer(&mut self, id: Id, answer: &Answer) {
        let Some(plugin) = self.plugins.get(id) else { return };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if send(plugin.socket.as_fd().as_raw_fd(), &answer.to_packet(), flags).is_err() {
            self.plugins.remove(id);
        }
    }

    /// Whether a plugin is connected that has not been still for long.
    pub(super) fn is_in_use(&mut self, now: Instant) -> bool {
        let still: Vec<Id> = self
            .plugins
            .iter()
            .filter(|(_, plugin)| now.saturating_duration_since(plugin.moved) > IDLE)
            .map(|(id, _)| id)
            .collect();
        for id in still {
            self.plugins.remove(id);
        }
        self.plugins.len() > 0
    }
}
