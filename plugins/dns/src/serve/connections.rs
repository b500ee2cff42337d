//! Connections of clients (RFC 7766): several questions on one, answered as the answers come.
//!
//! Nobody is waited for: what a client has not sent or not taken stays where it is, and the connection is closed when
//! that goes on for too long.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::event_loop::{Id, Slab};
use crate::map::Map;
use crate::source::{Poller, Source};
use crate::wire::{HEADER, QUERY_MAX};
use crate::zone::Payer;

/// Connections at once.
const MAX: usize = 256;
/// Those of one container, of the host at one network's address, and of all together that have no record and ask there.
const OF_ONE_MAX: usize = 32;
/// Those of one network.
const OF_NETWORK_MAX: usize = 128;
/// How long a connection may stand still.
const IDLE: Duration = Duration::from_secs(5);
/// How long a question may take to come.
const REQUEST: Duration = Duration::from_secs(10);
/// Bytes of answers that may wait for a client before its next questions are read.
const OUTPUT_MAX: usize = 128 << 10;
/// Bytes of answers that a connection may have waiting: what comes from other servers comes unasked. One that takes none
/// of it is closed.
const OUTPUT_HARD_MAX: usize = 256 << 10;
/// Bytes of answers that wait for all clients together: the one that has most makes room.
const BYTES_MAX: usize = 16 << 20;
/// Bytes that a connection may keep for its next answers.
const KEPT: usize = 4 << 10;
/// Questions of one connection that may be on their way to other servers.
const PENDING_MAX: usize = 64;
/// Bytes of a frame's length.
const PREFIX: usize = 2;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Where it comes from.
    pub peer: IpAddr,
    /// Whom it is counted by.
    pub payer: Payer,
    /// Where it came in.
    pub listener: Id,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Questions on their way to other servers.
    pending: usize,
    /// Nothing more will be read.
    ended: bool,
    moved: Instant,
    request_since: Option<Instant>,
    watched: (bool, bool),
}

/// All of them.
#[derive(Debug, Default)]
pub struct Connections {
    all: Slab<Connection>,
    of_payer: Map<Payer, usize>,
    due: Option<Instant>,
}

impl Connection {
    fn deadline(&self) -> Instant {
        let idle = self.moved + IDLE;
        self.request_since.map_or(idle, |since| idle.min(since + REQUEST))
    }

    /// What is to be read next is read only when there is room for its answer.
    fn has_room(&self) -> bool {
        self.output.len() < OUTPUT_MAX && self.pending < PENDING_MAX
    }

    /// The next whole question; `Err` when what came is none, `None` when there is not enough yet.
    fn take(&mut self) -> Result<Option<Vec<u8>>, ()> {
        let Some(prefix) = self.input.get(..PREFIX) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([prefix[0], prefix[1]]));
        if !(HEADER..=QUERY_MAX).contains(&length) {
            return Err(());
        }
        if self.input.len() < PREFIX + length {
            return Ok(None);
        }
        let question = self.input[PREFIX..PREFIX + length].to_vec();
        self.input.drain(..PREFIX + length);
        Ok(Some(question))
    }

    /// Reads what there is, up to a question of the longest kind.
    fn fill(&mut self, now: Instant) -> io::Result<()> {
        let mut piece = [0; QUERY_MAX + PREFIX];
        while self.input.len() < piece.len() {
            let room = piece.len() - self.input.len();
            match self.stream.read(&mut piece[..room]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(count) => {
                    self.input.extend_from_slice(&piece[..count]);
                    self.moved = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => {
                    self.output.drain(..count);
                    self.moved = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.output.shrink_to(self.output.len());
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.shrink_to(KEPT);
        Ok(())
    }

    fn push(&mut self, answer: &[u8]) {
        // No answer is longer than its prefix can tell.
        if let Ok(length) = u16::try_from(answer.len()) {
            self.output.extend_from_slice(&length.to_be_bytes());
            self.output.extend_from_slice(answer);
        }
    }
}

/// What became of a question that came by a connection.
pub enum Handled<'a> {
    /// This is its answer.
    Answer(&'a [u8]),
    /// It is on its way to other servers.
    Pending,
    /// It was none: there is nothing more to say to this client.
    Noise,
}

impl Connections {
    /// Takes a connection in. When there are too many of whom it is counted by, of its network or of all, the one among
    /// these that has stood still for the longest time makes room.
    pub fn accept(
        &mut self,
        poller: &Poller,
        stream: TcpStream,
        peer: IpAddr,
        payer: Payer,
        listener: Id,
        now: Instant,
    ) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let network = payer.network();
        let of_network = self.of_payer.iter().filter(|(payer, _)| payer.network() == network);
        let of_network: usize = of_network.map(|(_, count)| count).sum();
        if self.of_payer.get(&payer).is_some_and(|count| *count >= OF_ONE_MAX) {
            self.make_room(|held| held.payer == payer);
        } else if of_network >= OF_NETWORK_MAX {
            self.make_room(|held| held.payer.network() == network);
        } else if self.all.len() >= MAX {
            self.make_room(|_| true);
        }
        *self.of_payer.entry(payer.clone()).or_default() += 1;
        let connection = Connection {
            stream,
            peer,
            payer,
            listener,
            input: Vec::new(),
            output: Vec::new(),
            pending: 0,
            ended: false,
            moved: now,
            request_since: None,
            watched: (true, false),
        };
        let due = connection.deadline();
        let id = self.all.insert(connection);
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        if self.all.get(id).is_some_and(|held| poller.watch(&held.stream, Source::Connection, id).is_err()) {
            self.close(id);
        }
    }

    /// Closes the one of these that has stood still for the longest time.
    fn make_room(&mut self, these: impl Fn(&Connection) -> bool) {
        let these = self.all.iter().filter(|(_, held)| these(held));
        if let Some((stillest, _)) = these.min_by_key(|(_, held)| held.moved) {
            self.close(stillest);
        }
    }

    fn close(&mut self, id: Id) {
        let Some(connection) = self.all.remove(id) else { return };
        if let Some(count) = self.of_payer.get_mut(&connection.payer) {
            *count -= 1;
            if *count == 0 {
                self.of_payer.remove(&connection.payer);
            }
        }
    }

    /// Closes those that have most waiting for them, until all together have no more than they may.
    fn keep_to_bytes(&mut self) {
        let bytes = |connections: &Self| -> usize {
            connections.all.iter().map(|(_, held)| held.output.capacity()).sum()
        };
        while bytes(self) > BYTES_MAX {
            let most = self.all.iter().max_by_key(|(_, held)| held.output.capacity());
            let Some((most, _)) = most else { return };
            self.close(most);
        }
    }

    /// Closes what came in there.
    pub fn close_of(&mut self, gone: impl Fn(Id) -> bool) {
        let ids: Vec<Id> =
            self.all.iter().filter(|(_, connection)| gone(connection.listener)).map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.close(id));
    }

    /// Something happened: reads questions, has them answered, and writes what there is to write.
    pub fn advance(
        &mut self,
        poller: &Poller,
        id: Id,
        now: Instant,
        mut answer: impl FnMut(&Connection, &[u8], &mut dyn FnMut(Handled<'_>)),
    ) {
        let Some(connection) = self.all.get_mut(id) else { return };
        let mut broken = connection.flush(now).is_err();
        while !broken && connection.has_room() {
            let question = match connection.take() {
                Err(()) => {
                    broken = true;
                    break;
                }
                Ok(Some(question)) => question,
                Ok(None) if connection.ended => break,
                Ok(None) => {
                    let before = connection.input.len();
                    broken = connection.fill(now).is_err();
                    if connection.input.len() == before {
                        break;
                    }
                    continue;
                }
            };
            connection.request_since = None;
            let mut handled = (None, false);
            let mut output = std::mem::take(&mut connection.output);
            answer(connection, &question, &mut |outcome| match outcome {
                Handled::Answer(bytes) => {
                    if let Ok(length) = u16::try_from(bytes.len()) {
                        output.extend_from_slice(&length.to_be_bytes());
                        output.extend_from_slice(bytes);
                    }
                }
                Handled::Pending => handled.0 = Some(()),
                Handled::Noise => handled.1 = true,
            });
            connection.output = output;
            connection.pending += usize::from(handled.0.is_some());
            broken = handled.1;
        }
        if connection.input.is_empty() {
            connection.request_since = None;
        } else {
            connection.request_since.get_or_insert(now);
        }
        broken = broken || connection.flush(now).is_err();
        self.settle(poller, id, broken);
    }

    /// The answer of other servers to a question of the connection.
    pub fn answer(&mut self, poller: &Poller, id: Id, answer: &[u8], now: Instant) {
        let Some(connection) = self.all.get_mut(id) else { return };
        connection.pending = connection.pending.saturating_sub(1);
        connection.push(answer);
        connection.moved = now;
        let broken = connection.flush(now).is_err();
        self.settle(poller, id, broken);
    }

    /// Watches for what can go on, and closes what cannot.
    fn settle(&mut self, poller: &Poller, id: Id, broken: bool) {
        let Some(connection) = self.all.get_mut(id) else { return };
        let over = connection.ended && connection.output.is_empty() && connection.pending == 0;
        // A connection that has ended is readable for ever: it is not watched for that, or it would keep us busy.
        let waiting = connection.output.len();
        let watch = (!connection.ended && connection.has_room(), waiting > 0);
        let watched = broken
            || watch == connection.watched
            || poller.change(&connection.stream, Source::Connection, id, watch.0, watch.1).is_ok();
        connection.watched = watch;
        if broken || over || !watched || waiting > OUTPUT_HARD_MAX {
            self.close(id);
        } else if waiting > 0 {
            self.keep_to_bytes();
        }
    }

    /// When [`Connections::expire`] wants to be called.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Closes what took too long.
    pub fn expire(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let late: Vec<Id> = self
            .all
            .iter()
            .filter(|(_, connection)| connection.deadline() <= now)
            .map(|(id, _)| id)
            .collect();
        late.into_iter().for_each(|id| self.close(id));
        self.due = self.all.iter().map(|(_, connection)| connection.deadline()).min();
    }

    /// Whether nobody waits for an answer, as far as we know.
    pub fn is_idle(&self) -> bool {
        self.all.iter().all(|(_, connection)| connection.output.is_empty() && connection.pending == 0)
    }
}
