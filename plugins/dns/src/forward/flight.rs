//! A forwarded query.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::upstreams::Upstreams;
use super::{Client, TOTAL, TRY};
use crate::event_loop::connect_to;
use crate::wire::{HEADER, Query, Rcode, flag, opt, put, truncated, word};
use crate::zone::Payer;

/// How often a query is sent at most: as often as [`TRY`] fits into [`TOTAL`].
const TRIES: usize = 4;
/// Unrelated datagrams that are read at once.
const STRAYS: usize = 16;

/// The parts of a client's query that are needed to forward and to answer it.
#[derive(Debug)]
pub struct Question {
    /// Where the answer goes.
    pub client: Client,
    id: u16,
    flags: u16,
    limit: usize,
    edns: bool,
    /// The message for upstream servers, without its id: header, question, EDNS.
    message: Vec<u8>,
    question: usize,
}

/// An answer for a client. Its bytes are in the caller's buffer.
#[derive(Debug)]
pub struct Reply {
    /// Where it goes.
    pub client: Client,
    /// Its length in bytes.
    pub length: usize,
}

impl Question {
    /// Copies from a query. `limit`: the longest answer that the client takes.
    pub fn new(client: Client, query: &Query<'_>, limit: usize) -> Self {
        let question = query.question();
        let mut message = Vec::with_capacity(HEADER + question.len() + 11);
        message.resize(HEADER, 0);
        put(&mut message, 2, query.flags() & (flag::RD | flag::CD));
        put(&mut message, 4, 1);
        message.extend_from_slice(question);
        if let Some(edns) = query.edns {
            put(&mut message, 10, 1);
            message.extend_from_slice(&opt(Rcode::NoError, edns.dnssec));
        }
        let (id, flags, edns) = (query.id(), query.flags(), query.edns.is_some());
        Self { client, id, flags, limit, edns, message, question: question.len() }
    }

    fn is_tcp(&self) -> bool {
        matches!(self.client, Client::Connection(_))
    }

    fn asked(&self) -> &[u8] {
        self.message.get(HEADER..HEADER + self.question).unwrap_or_default()
    }

    /// The message for an upstream server, with or without EDNS.
    fn message(&mut self, id: u16, edns: bool) -> &[u8] {
        let end = if edns { self.message.len() } else { HEADER + self.question };
        put(&mut self.message, 0, id);
        put(&mut self.message, 10, u16::from(edns));
        self.message.get(..end).unwrap_or_default()
    }

    /// Writes SERVFAIL; returns the length.
    pub fn fail(&self, buffer: &mut [u8]) -> usize {
        let message = if self.edns { &self.message[..] } else { &self.message[..HEADER + self.question] };
        let Some(room) = buffer.get_mut(..message.len()) else { return 0 };
        room.copy_from_slice(message);
        put(room, 0, self.id);
        put(room, 2, flag::QR | self.flags & flag::RD | flag::RA | Rcode::ServFail as u16);
        put(room, 10, u16::from(self.edns));
        // Of EDNS only our own OPT record.
        if let Some(options) = room.get_mut(HEADER + self.question..).filter(|rest| !rest.is_empty()) {
            options.copy_from_slice(&opt(Rcode::NoError, false));
        }
        room.len()
    }

    /// Classifies a message from the server that got the query under `id`.
    fn judge(&self, id: u16, message: &[u8]) -> Verdict {
        let flags = word(message, 2).unwrap_or(0);
        if word(message, 0) != Some(id) || flags & (flag::QR | flag::OPCODE) != flag::QR {
            return Verdict::Stray;
        }
        let code = flags & flag::RCODE;
        let odd = code == Rcode::FormErr as u16 || code == Rcode::NotImp as u16;
        let failed = odd || matches!(code, 2 | 5);
        let failure = if odd { Verdict::NotUnderstood } else { Verdict::Failure };
        let asked = message.get(HEADER..HEADER + self.question);
        match word(message, 4) {
            Some(1) if asked.is_some_and(|asked| asked.eq_ignore_ascii_case(self.asked())) => {
                if failed {
                    failure
                } else {
                    Verdict::Answer
                }
            }
            // Some servers do not repeat the question in an error.
            Some(0) if failed => failure,
            _ => Verdict::Stray,
        }
    }

    /// Turns the server's answer in the buffer into ours; returns its length.
    fn pass_back(&self, buffer: &mut [u8], length: usize) -> usize {
        let flags = word(buffer, 2).unwrap_or(0) & (flag::TC | flag::RCODE);
        put(buffer, 0, self.id);
        put(buffer, 2, flag::QR | flag::RA | self.flags & flag::RD | flags);
        if let Some(asked) = buffer.get_mut(HEADER..HEADER + self.question) {
            asked.copy_from_slice(self.asked());
        }
        if length > self.limit { truncated(&mut buffer[..length], self.question) } else { length }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stray,
    Failure,
    /// The server does not understand the query.
    NotUnderstood,
    Answer,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Wait for another event.
    Wait,
    /// Query the next server.
    Next,
    /// Send the answer in the buffer, which has that length.
    Done(usize),
}

/// A query in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) question: Question,
    pub(super) payer: Payer,
    servers: Vec<SocketAddr>,
    /// Servers that do not support EDNS (RFC 6891, section 7), to be queried without.
    plain: Vec<SocketAddr>,
    /// Queries without an answer yet.
    tries: Vec<Try>,
    /// How many queries were sent.
    asked: usize,
    began: Instant,
    tried: Instant,
}

#[derive(Debug)]
struct Try {
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
    pub(super) fn new(question: Question, payer: Payer, servers: Vec<SocketAddr>, now: Instant) -> Self {
        let (plain, tries) = (Vec::new(), Vec::new());
        Self { question, payer, servers, plain, tries, asked: 0, began: now, tried: now }
    }

    /// Bytes of incomplete answers.
    pub(super) fn bytes(&self) -> usize {
        let held = |attempt: &Try| match &attempt.socket {
            Socket::Datagram(_) => 0,
            Socket::Stream { input, .. } => input.capacity(),
        };
        self.tries.iter().map(held).sum()
    }

    /// Queries the next server; returns whether there is an answer to wait for. `watch`
    /// gets the socket, and whether to wait until it is writable.
    pub(super) fn ask_next(
        &mut self,
        upstreams: &mut Upstreams,
        now: Instant,
        watch: impl Fn(BorrowedFd<'_>, bool) -> nix::Result<()>,
    ) -> bool {
        self.tried = now;
        while let Some((server, edns)) = self.next_server() {
            match self.ask(server, edns) {
                Ok(attempt) => {
                    let watched = match &attempt.socket {
                        Socket::Datagram(socket) => watch(socket.as_fd(), false),
                        Socket::Stream { stream, .. } => watch(stream.as_fd(), true),
                    };
                    if watched.is_ok() {
                        self.tries.push(attempt);
                        return true;
                    }
                }
                // A local shortage is no failure of the server.
                Err(error) if is_our_lack(&error) => {}
                Err(_) => upstreams.is_dead(self.payer.network(), server, now),
            }
        }
        !self.tries.is_empty()
    }

    /// A server is queried again only if the query may be lost: a server that answered with
    /// an error is not in `tries`.
    fn may_ask(&self) -> bool {
        self.asked < self.servers.len() || (!self.tries.is_empty() && self.asked < TRIES)
    }

    /// The next server, and whether to keep EDNS.
    fn next_server(&mut self) -> Option<(SocketAddr, bool)> {
        if let Some(server) = self.plain.pop() {
            return Some((server, false));
        }
        self.may_ask().then(|| {
            self.asked += 1;
            (self.servers[(self.asked - 1) % self.servers.len()], true)
        })
    }

    fn ask(&mut self, server: SocketAddr, edns: bool) -> io::Result<Try> {
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
        Ok(Try { server, id, edns, socket })
    }

    /// When to give up on the current server.
    pub(super) fn due(&self) -> Instant {
        (self.tried + TRY).min(self.began + TOTAL)
    }

    /// Records that the last server did not answer in time; returns whether the total time
    /// is over.
    pub(super) fn is_late(&mut self, upstreams: &mut Upstreams, now: Instant) -> bool {
        if let Some(silent) = self.tries.last() {
            upstreams.is_silent(self.payer.network(), silent.server, now);
        }
        now >= self.began + TOTAL
    }

    /// Reads answers; `written` is called when a connection has nothing more to write.
    pub(super) fn advance(
        &mut self,
        upstreams: &mut Upstreams,
        buffer: &mut [u8],
        now: Instant,
        written: impl Fn(BorrowedFd<'_>) -> nix::Result<()>,
    ) -> Step {
        let network = self.payer.network();
        let mut n = 0;
        let mut failed = false;
        while let Some(attempt) = self.tries.get_mut(n) {
            let received = match &mut attempt.socket {
                Socket::Datagram(socket) => {
                    receive(socket, buffer, |message| self.question.judge(attempt.id, message))
                }
                Socket::Stream { stream, output, input } => converse(stream, output, input, buffer, &written)
                    .map(|length| {
                        length.map(|length| (length, self.question.judge(attempt.id, &buffer[..length])))
                    }),
            };
            match received {
                Ok(None) => n += 1,
                Ok(Some((length, Verdict::Answer))) => {
                    upstreams.is_alive(network, attempt.server);
                    return Step::Done(self.question.pass_back(buffer, length));
                }
                Ok(Some((_, verdict))) => {
                    // The server answers, with whatever code.
                    upstreams.is_alive(network, attempt.server);
                    if verdict == Verdict::NotUnderstood && attempt.edns {
                        self.plain.push(attempt.server);
                    }
                    failed = true;
                    self.tries.remove(n);
                }
                Err(_) => {
                    upstreams.is_dead(network, attempt.server, now);
                    failed = true;
                    self.tries.remove(n);
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
fn is_our_lack(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let lacks =
        [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EAGAIN, Errno::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|errno| lacks.contains(&Errno::from_raw(errno)))
}

type Received = io::Result<Option<(usize, Verdict)>>;

/// Reads datagrams until one is related to the query.
fn receive(socket: &UdpSocket, buffer: &mut [u8], judge: impl Fn(&[u8]) -> Verdict) -> Received {
    for _ in 0..STRAYS {
        match socket.recv(buffer) {
            Ok(length) => match judge(&buffer[..length]) {
                Verdict::Stray => {}
                verdict => return Ok(Some((length, verdict))),
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
fn converse(
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
