//! The control socket's end at the responder; see [`crate::control`].

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, send, socket,
    sockopt,
};

use super::poller::{Kind, Poller};
use super::slab::{Id, Slab};
use super::socket::is_the_callers;
use crate::control::{Answer, Ask, PACKET_MAX};

/// Connections at once; more than a plugin of every container would need.
const MAX: usize = 256;
/// How long a connection may stand still.
const IDLE: Duration = Duration::from_secs(30);
/// Connections that may wait in the kernel.
const BACKLOG: i32 = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct Control {
    /// Of SOCK_SEQPACKET, which std knows no name for: it accepts all the same.
    socket: UnixListener,
    plugins: Slab<Plugin>,
}

#[derive(Debug)]
struct Plugin {
    socket: OwnedFd,
    moved: Instant,
}

/// A question, with what came with it.
pub(super) type Asked = (Ask, Vec<OwnedFd>);

impl Control {
    /// Opens the socket at `path`, in the place of one that a dead responder left.
    pub(super) fn open(path: &Path) -> host::Result<Self> {
        let fail = |cause: io::Error| host::Error::new("listen at", path.display().to_string(), cause);
        host::file::remove(path)?;
        let open = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
            Ok(socket)
        };
        let socket = open().map_err(|errno| fail(errno.into()))?;
        // The directory keeps others out; nobody can connect before it listens.
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(fail)?;
        let backlog = Backlog::new(BACKLOG).map_err(|errno| fail(errno.into()))?;
        listen(&socket, backlog).map_err(|errno| fail(errno.into()))?;
        Ok(Self::of_socket(socket))
    }

    /// Goes on with a socket that is open.
    pub(super) fn of_socket(socket: OwnedFd) -> Self {
        Self { socket: socket.into(), plugins: Slab::default() }
    }

    /// Watches for connections.
    pub(super) fn watch(&self, poller: &Poller) -> nix::Result<()> {
        poller.watch(&self.socket, Kind::Control, Id::of_word(0))
    }

    /// Takes connections in, or leaves them where they are.
    pub(super) fn listen(&self, poller: &Poller, on: bool) -> nix::Result<()> {
        poller.change(&self.socket, Kind::Control, Id::of_word(0), on, false)
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
        for _ in 0..BACKLOG {
            let stream = match self.socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if is_the_callers(&error) => continue,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
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
            let id = self.plugins.insert(Plugin { socket, moved: now });
            if self.plugins.get(id).is_some_and(|held| poller.watch(&held.socket, Kind::Plugin, id).is_err())
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
        let packet = match host::passing::receive(&plugin.socket, &mut buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return None;
            }
            received => received.ok().filter(|packet| packet.whole && packet.length > 0),
        };
        let asked =
            packet.and_then(|packet| Some((Ask::of_packet(&buffer[..packet.length])?, packet.descriptors)));
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
