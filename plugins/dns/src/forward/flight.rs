//! A forwarded query.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::question::{MessageKind, Question, Reply};
use super::upstreams::Upstreams;
use super::{ATTEMPT_TIMEOUT, TOTAL_TIMEOUT};
use crate::cache::Pending;
use crate::event_loop::connect_to;
use crate::zone::Account;

/// How often a query is sent at most: as often as [`ATTEMPT_TIMEOUT`] fits into [`TOTAL_TIMEOUT`].
const ATTEMPTS_MAX: usize = 4;
/// Unrelated datagrams that are read at once.
const UNRELATED_MAX: usize = 16;

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Wait for another event.
    Wait,
    /// Query the next server.
    Next,
    /// Send the answer in the buffer, which has that length, shortened to what the client takes.
    Done(usize),
}

/// A query in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) question: Question,
    pub(super) account: Account,
    /// Where the answer is kept.
    pub(super) pending: Option<Pending>,
    servers: Vec<SocketAddr>,
    /// Servers that do not support EDNS (RFC 6891, section 7), to be queried without.
    plain: Vec<SocketAddr>,
    /// Queries without an answer yet.
    attempts: Vec<Attempt>,
    /// How many queries were sent.
    sent: usize,
    began: Instant,
    tried: Instant,
}

#[derive(Debug)]
struct Attempt {
    server: SocketAddr,
    id: u16,
    edns: bool,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Datagram(UdpSocket),
    /// The stream, with unsent and received bytes.
    Stream {
        stream: TcpStream,
        output: Vec<u8>,
        input: Vec<u8>,
    },
}

impl Flight {
    pub(super) fn new(
        question: Question,
        account: Account,
        servers: Vec<SocketAddr>,
        pending: Option<Pending>,
        now: Instant,
    ) -> Self {
        let (plain, attempts) = (Vec::new(), Vec::new());
        Self { question, account, pending, servers, plain, attempts, sent: 0, began: now, tried: now }
    }

    /// Bytes of incomplete answers.
    pub(super) fn bytes(&self) -> usize {
        let held = |attempt: &Attempt| match &attempt.socket {
            Socket::Datagram(_) => 0,
            Socket::Stream { input, .. } => input.capacity(),
        };
        self.attempts.iter().map(held).sum()
    }

    /// Queries the next server; returns whether there is an answer to wait for. `watch`
    /// gets the socket, and whether to wait until it is writable.
    pub(super) fn query_next(
        &mut self,
        upstreams: &mut Upstreams,
        now: Instant,
        watch: impl Fn(BorrowedFd<'_>, bool) -> nix::Result<()>,
    ) -> bool {
        self.tried = now;
        while let Some((server, edns)) = self.next_server() {
            match self.send(server, edns) {
                Ok(attempt) => {
                    let watched = match &attempt.socket {
                        Socket::Datagram(socket) => watch(socket.as_fd(), false),
                        Socket::Stream { stream, .. } => watch(stream.as_fd(), true),
                    };
                    if watched.is_ok() {
                        self.attempts.push(attempt);
                        return true;
                    }
                }
                // A local shortage is no failure of the server.
                Err(error) if is_local_shortage(&error) => {}
                Err(_) => upstreams.note_unreachable(self.account.network(), server, now),
            }
        }
        !self.attempts.is_empty()
    }

    /// A server is queried again only if the query may be lost: a server that answered with
    /// an error is not in `attempts`.
    fn may_ask(&self) -> bool {
        self.sent < self.servers.len() || (!self.attempts.is_empty() && self.sent < ATTEMPTS_MAX)
    }

    /// The next server, and whether to keep EDNS.
    fn next_server(&mut self) -> Option<(SocketAddr, bool)> {
        if let Some(server) = self.plain.pop() {
            return Some((server, false));
        }
        self.may_ask().then(|| {
            self.sent += 1;
            (self.servers[(self.sent - 1) % self.servers.len()], true)
        })
    }

    fn send(&mut self, server: SocketAddr, edns: bool) -> io::Result<Attempt> {
        let id = u16::from_ne_bytes(sys::random::bytes()?);
        let socket = connect_to(server, self.question.is_tcp())?;
        let edns = edns && self.question.edns;
        let tcp = self.question.is_tcp();
        let message = self.question.message(id, edns);
        let socket = if tcp {
            let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
            let output = [&length[..], message].concat();
            Socket::Stream { stream: socket.into(), output, input: Vec::new() }
        } else {
            let socket = UdpSocket::from(socket);
            socket.send(message)?;
            Socket::Datagram(socket)
        };
        Ok(Attempt { server, id, edns, socket })
    }

    /// When to give up on the current server.
    pub(super) fn due(&self) -> Instant {
        (self.tried + ATTEMPT_TIMEOUT).min(self.began + TOTAL_TIMEOUT)
    }

    /// Records that the last server did not answer in time; returns whether the total time
    /// is over.
    pub(super) fn note_late(&mut self, upstreams: &mut Upstreams, now: Instant) -> bool {
        if let Some(silent) = self.attempts.last() {
            upstreams.note_timeout(self.account.network(), silent.server, now);
        }
        now >= self.began + TOTAL_TIMEOUT
    }

    /// Reads answers; `written` is called when a connection has nothing more to write.
    pub(super) fn advance(
        &mut self,
        upstreams: &mut Upstreams,
        buffer: &mut [u8],
        now: Instant,
        written: impl Fn(BorrowedFd<'_>) -> nix::Result<()>,
    ) -> Step {
        let network = self.account.network();
        let mut n = 0;
        let mut failed = false;
        while let Some(attempt) = self.attempts.get_mut(n) {
            let received = match &mut attempt.socket {
                Socket::Datagram(socket) => {
                    receive(socket, buffer, |message| self.question.classify(attempt.id, message))
                }
                Socket::Stream { stream, output, input } => exchange(stream, output, input, buffer, &written)
                    .map(|length| {
                        length.map(|length| (length, self.question.classify(attempt.id, &buffer[..length])))
                    }),
            };
            match received {
                Ok(None) => n += 1,
                Ok(Some((length, MessageKind::Answer))) => {
                    upstreams.note_answer(network, attempt.server);
                    self.question.pass_back(buffer);
                    return Step::Done(length);
                }
                Ok(Some((_, kind))) => {
                    // The server answers, with whatever code.
                    upstreams.note_answer(network, attempt.server);
                    if kind == MessageKind::NotUnderstood && attempt.edns {
                        self.plain.push(attempt.server);
                    }
                    failed = true;
                    self.attempts.remove(n);
                }
                Err(_) => {
                    upstreams.note_unreachable(network, attempt.server, now);
                    failed = true;
                    self.attempts.remove(n);
                }
            }
        }
        if failed { Step::Next } else { Step::Wait }
    }

    pub(super) fn reply(&self, length: usize) -> Reply {
        Reply { client: self.question.client, length }
    }

    /// Writes SERVFAIL as the answer.
    pub(super) fn failed(&self, buffer: &mut [u8]) -> Reply {
        self.reply(self.question.fail(buffer))
    }
}

/// Whether this host is short of descriptors, memory or ports.
fn is_local_shortage(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let shortages =
        [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EAGAIN, Errno::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|errno| shortages.contains(&Errno::from_raw(errno)))
}

type Received = io::Result<Option<(usize, MessageKind)>>;

/// Reads datagrams until one is related to the query.
fn receive(socket: &UdpSocket, buffer: &mut [u8], classify: impl Fn(&[u8]) -> MessageKind) -> Received {
    for _ in 0..UNRELATED_MAX {
        match socket.recv(buffer) {
            Ok(length) => match classify(&buffer[..length]) {
                MessageKind::Unrelated => {}
                kind => return Ok(Some((length, kind))),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Writes and reads what is possible; returns the length of the message in the buffer once it
/// is complete.
fn exchange(
    stream: &mut TcpStream,
    output: &mut Vec<u8>,
    input: &mut Vec<u8>,
    buffer: &mut [u8],
    written: impl Fn(BorrowedFd<'_>) -> nix::Result<()>,
) -> io::Result<Option<usize>> {
    while !output.is_empty() {
        match stream.write(output) {
            Ok(count) => drop(output.drain(..count)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if output.is_empty() {
            written(stream.as_fd())?;
        }
    }
    loop {
        let wanted = match input.get(..2) {
            Some(length) => 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
            None => 2,
        };
        if wanted > 2 && input.len() >= wanted {
            let message = &input[2..wanted];
            let room = buffer.get_mut(..message.len()).ok_or(io::ErrorKind::FileTooLarge)?;
            room.copy_from_slice(message);
            return Ok(Some(message.len()));
        }
        if wanted == 2 && input.len() >= 2 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let room = (wanted - input.len()).min(buffer.len());
        match stream.read(&mut buffer[..room]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
