//! Connections of plugins.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use daemon::{Id, Slab};
use nix::sys::socket::{getsockopt, sockopt};

use super::run::{Poller, Source};
use crate::control::{ControlRequest, ControlResponse, LINE_MAX, REFERENCE_REQUEST, TO_REFERENCE, line};

/// Connections at once.
const MAX: usize = 128;
/// How long a connection may take for a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections accepted for one event.
const ACCEPTS: usize = 32;

/// The connections.
#[derive(Debug, Default)]
pub struct Connections {
    all: Slab<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    read: Vec<u8>,
    since: Duration,
}

impl Connections {
    /// Accepts connections of root and of this user. One that is too many closes the oldest.
    pub fn accept(&mut self, listener: &UnixListener, poller: &Poller, now: Duration) {
        for _ in 0..ACCEPTS {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
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
            let peer = getsockopt(&stream, sockopt::PeerCredentials);
            if !peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
                || stream.set_nonblocking(true).is_err()
            {
                continue;
            }
            if self.all.len() >= MAX
                && let Some((oldest, _)) = self.all.iter().min_by_key(|(_, held)| held.since)
            {
                self.all.remove(oldest);
            }
            let id = self.all.insert(Connection { stream, read: Vec::new(), since: now });
            let watched = self.all.get(id).map(|held| poller.watch(&held.stream, Source::Plugin, id));
            if !matches!(watched, Some(Ok(()))) {
                self.all.remove(id);
            }
        }
    }

    /// The next request of a plugin; anything else closes the connection.
    pub fn receive(&mut self, id: Id, now: Duration) -> Option<ControlRequest> {
        let held = self.all.get_mut(id)?;
        let mut piece = [0; LINE_MAX];
        let length = match held.stream.read(&mut piece) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => 0,
        };
        held.read.extend_from_slice(piece.get(..length).unwrap_or_default());
        if held.read.starts_with(REFERENCE_REQUEST) {
            // Whether it is read is the reference's affair.
            let _ = held.stream.write_all(TO_REFERENCE);
            self.all.remove(id);
            return None;
        }
        let end = held.read.iter().position(|byte| *byte == b'\n');
        match end {
            None if length > 0 && held.read.len() <= LINE_MAX => return None,
            None => {
                self.all.remove(id);
                return None;
            }
            Some(_) => {}
        }
        let rest = held.read.split_off(end.map_or(0, |end| end + 1));
        let request = serde_json::from_slice(&held.read).ok();
        (held.read, held.since) = (rest, now);
        if request.is_none() {
            self.all.remove(id);
        }
        request
    }

    /// Sends a response. A connection that does not take it is closed.
    pub fn answer(&mut self, id: Id, response: &ControlResponse) {
        let Some(held) = self.all.get_mut(id) else { return };
        if held.stream.write_all(&line(response)).is_err() {
            self.all.remove(id);
        }
    }

    /// Closes connections that make no request.
    pub fn expire(&mut self, now: Duration) {
        let late = |held: &Connection| now.saturating_sub(held.since) > PATIENCE;
        let late: Vec<Id> = self.all.iter().filter(|(_, held)| late(held)).map(|(id, _)| id).collect();
        late.into_iter().for_each(|id| drop(self.all.remove(id)));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
