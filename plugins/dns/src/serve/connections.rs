//! TCP connections of clients (RFC 7766): a client may send several queries, and gets answers
//! as they come.
//!
//! No read and no write blocks. A connection that makes no progress for too long is closed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::event_loop::{Id, Slab};
use crate::map::Map;
use crate::source::{Poller, Source};
use crate::wire::{HEADER, QUERY_MAX};
use crate::zone::Account;

/// Connections at once.
const MAX: usize = 256;
/// Connections of one account.
const PER_ACCOUNT_MAX: usize = 32;
/// Connections of one network.
const PER_NETWORK_MAX: usize = 128;
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(5);
/// How long the bytes of one query may take to arrive.
const REQUEST: Duration = Duration::from_secs(10);
/// Bytes of unsent answers above which no further query of the connection is read.
const OUTPUT_MAX: usize = 128 << 10;
/// Bytes of unsent answers above which the connection is closed. Answers of upstream servers
/// are queued whether the client reads or not.
const OUTPUT_HARD_MAX: usize = 256 << 10;
/// Bytes of unsent answers of all connections. Above it, the connection with most is closed.
const BYTES_MAX: usize = 16 << 20;
/// Capacity that an empty output buffer keeps.
const KEPT: usize = 4 << 10;
/// Forwarded queries in flight of one connection.
const PENDING_MAX: usize = 64;
/// Bytes of the length prefix.
const PREFIX: usize = 2;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// The client's address.
    pub peer: IpAddr,
    /// The account that the connection is charged to.
    pub account: Account,
    /// The listener that accepted it.
    pub listener: Id,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Forwarded queries in flight.
    pending: usize,
    /// The client has closed its side.
    eof: bool,
    last_progress: Instant,
    request_since: Option<Instant>,
    watched: (bool, bool),
}

/// All connections.
#[derive(Debug, Default)]
pub struct Connections {
    all: Slab<Connection>,
    of_account: Map<Account, usize>,
    due: Option<Instant>,
}

impl Connection {
    fn deadline(&self) -> Instant {
        let idle = self.last_progress + IDLE;
        self.request_since.map_or(idle, |since| idle.min(since + REQUEST))
    }

    /// Whether another query may be read.
    fn has_room(&self) -> bool {
        self.output.len() < OUTPUT_MAX && self.pending < PENDING_MAX
    }

    /// Removes the next complete query from the input: `None` if it is incomplete, `Err` if
    /// its length is invalid.
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

    /// Reads available bytes, up to the longest query.
    fn fill(&mut self, now: Instant) -> io::Result<()> {
        let mut piece = [0; QUERY_MAX + PREFIX];
        while self.input.len() < piece.len() {
            let room = piece.len() - self.input.len();
            match self.stream.read(&mut piece[..room]) {
                Ok(0) => {
                    self.eof = true;
                    return Ok(());
                }
                Ok(count) => {
                    self.input.extend_from_slice(&piece[..count]);
                    self.last_progress = now;
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
                    self.last_progress = now;
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
        // The length prefix has 16 bits.
        if let Ok(length) = u16::try_from(answer.len()) {
            self.output.extend_from_slice(&length.to_be_bytes());
            self.output.extend_from_slice(answer);
        }
    }
}

/// What was done with a query.
pub enum Handled<'a> {
    /// Answered.
    Answer(&'a [u8]),
    /// Forwarded to upstream servers.
    Pending,
    /// Not a DNS query: the connection is closed.
    NotQuery,
}

impl Connections {
    /// Adds a connection. If its account, its network or all connections are at their
    /// limit, the one among them that has been idle longest is closed.
    pub fn accept(
        &mut self,
        poller: &Poller,
        stream: TcpStream,
        peer: IpAddr,
        account: Account,
        listener: Id,
        now: Instant,
    ) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let network = account.network();
        let of_network = self.of_account.iter().filter(|(account, _)| account.network() == network);
        let of_network: usize = of_network.map(|(_, count)| count).sum();
        if self.of_account.get(&account).is_some_and(|count| *count >= PER_ACCOUNT_MAX) {
            self.make_room(|held| held.account == account);
        } else if of_network >= PER_NETWORK_MAX {
            self.make_room(|held| held.account.network() == network);
        } else if self.all.len() >= MAX {
            self.make_room(|_| true);
        }
        *self.of_account.entry(account.clone()).or_default() += 1;
        let connection = Connection {
            stream,
            peer,
            account,
            listener,
            input: Vec::new(),
            output: Vec::new(),
            pending: 0,
            eof: false,
            last_progress: now,
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

    /// Closes the matching connection that has been idle longest.
    fn make_room(&mut self, these: impl Fn(&Connection) -> bool) {
        let these = self.all.iter().filter(|(_, held)| these(held));
        if let Some((idlest, _)) = these.min_by_key(|(_, held)| held.last_progress) {
            self.close(idlest);
        }
    }

    fn close(&mut self, id: Id) {
        let Some(connection) = self.all.remove(id) else { return };
        if let Some(count) = self.of_account.get_mut(&connection.account) {
            *count -= 1;
            if *count == 0 {
                self.of_account.remove(&connection.account);
            }
        }
    }

    /// Closes the connections with most unsent bytes until all are within the limit.
    fn enforce_total_bytes(&mut self) {
        let bytes = |connections: &Self| -> usize {
            connections.all.iter().map(|(_, held)| held.output.capacity()).sum()
        };
        while bytes(self) > BYTES_MAX {
            let most = self.all.iter().max_by_key(|(_, held)| held.output.capacity());
            let Some((most, _)) = most else { return };
            self.close(most);
        }
    }

    /// Closes the connections of listeners that are gone.
    pub fn close_of(&mut self, gone: impl Fn(Id) -> bool) {
        let ids: Vec<Id> =
            self.all.iter().filter(|(_, connection)| gone(connection.listener)).map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.close(id));
    }

    /// Handles an event: reads queries, passes each to `answer`, and writes what is queued.
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
                Ok(None) if connection.eof => break,
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
                Handled::NotQuery => handled.1 = true,
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

    /// Queues the answer of an upstream server.
    pub fn answer(&mut self, poller: &Poller, id: Id, answer: &[u8], now: Instant) {
        let Some(connection) = self.all.get_mut(id) else { return };
        connection.pending = connection.pending.saturating_sub(1);
        connection.push(answer);
        connection.last_progress = now;
        let broken = connection.flush(now).is_err();
        self.settle(poller, id, broken);
    }

    /// Updates what is watched, and closes the connection if it has failed or is finished.
    fn settle(&mut self, poller: &Poller, id: Id, broken: bool) {
        let Some(connection) = self.all.get_mut(id) else { return };
        let over = connection.eof && connection.output.is_empty() && connection.pending == 0;
        // At end of file a socket stays readable: watching it for input would spin.
        let waiting = connection.output.len();
        let watch = (!connection.eof && connection.has_room(), waiting > 0);
        let watched = broken
            || watch == connection.watched
            || poller.change(&connection.stream, Source::Connection, id, watch.0, watch.1).is_ok();
        connection.watched = watch;
        if broken || over || !watched || waiting > OUTPUT_HARD_MAX {
            self.close(id);
        } else if waiting > 0 {
            self.enforce_total_bytes();
        }
    }

    /// When [`Connections::expire`] is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Closes connections that are past their deadline.
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

    /// Whether no answer is queued or in flight.
    pub fn is_idle(&self) -> bool {
        self.all.iter().all(|(_, connection)| connection.output.is_empty() && connection.pending == 0)
    }
}
