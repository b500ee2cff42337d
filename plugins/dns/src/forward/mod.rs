//! Forwards queries to upstream servers, and their answers to clients.
//!
//! Each query is sent from an ephemeral port with a random id, to one server after another. A
//! server that does not answer within [`ATTEMPT_TIMEOUT`] may still answer while the next one is
//! queried. A client always gets an answer: after [`TOTAL_TIMEOUT`] it is SERVFAIL.

mod budget;
mod flight;
mod question;
mod resolv;
mod upstreams;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use budget::Budget;
use flight::{Flight, Step};
pub use question::{Question, Reply};
pub use resolv::HostServers;
use upstreams::Upstreams;

use crate::event_loop::{Id, Slab};
use crate::source::{Poller, Source};
use crate::zone::Account;

/// How long to wait for one server before the next one is queried.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long to wait for all servers.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of incomplete answers of all queries. One answer has at most 64 KiB.
const BYTES_MAX: usize = 12 << 20;
/// How many servers are queried at most.
pub const SERVERS_MAX: usize = 3;
/// Timed-out queries handled at once.
const EXPIRED_MAX: usize = 64;

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// To the sender of a datagram, from that listener.
    Datagram(Id, sys::datagram::Peer),
    /// To that connection.
    Connection(Id),
}

/// All queries in flight.
#[derive(Debug, Default)]
pub struct Forwarder {
    flights: Slab<Flight>,
    budget: Budget,
    /// Bytes of incomplete answers.
    bytes: usize,
    upstreams: Upstreams,
    /// The earliest deadline, or an earlier time.
    due: Option<Instant>,
}

impl Forwarder {
    /// Sets our own addresses, which are never queried: that would be a loop.
    pub fn set_own(&mut self, own: Vec<SocketAddr>) {
        self.upstreams.set_own(own);
    }

    /// Limits queries to what the number of descriptors allows.
    pub fn limit(&mut self, descriptors: u64) {
        self.budget.limit(descriptors);
    }

    /// Forwards a query.
    ///
    /// # Errors
    /// Too many queries are in flight, or there is no server to query. The client needs an
    /// answer.
    pub fn start(
        &mut self,
        poller: &Poller,
        question: Question,
        account: Account,
        servers: &[SocketAddr],
        now: Instant,
    ) -> Result<(), Question> {
        if !self.budget.allows(&account) {
            return Err(question);
        }
        let servers = self.upstreams.ordered(account.network(), servers, now);
        if servers.is_empty() {
            return Err(question);
        }
        self.budget.acquire(&account);
        let id = self.flights.insert(Flight::new(question, account, servers, now));
        match self.proceed(poller, id, now) {
            None => Ok(()),
            Some(flight) => Err(flight.question),
        }
    }

    /// Queries the next server; returns the query if there is none left to wait for.
    fn proceed(&mut self, poller: &Poller, id: Id, now: Instant) -> Option<Flight> {
        let flight = self.flights.get_mut(id)?;
        let left = flight.query_next(&mut self.upstreams, now, |socket, write| {
            poller.watch(&socket, Source::Flight, id)?;
            if write { poller.change(&socket, Source::Flight, id, true, true) } else { Ok(()) }
        });
        if left {
            let due = flight.due();
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
            return None;
        }
        self.take(id)
    }

    fn take(&mut self, id: Id) -> Option<Flight> {
        let flight = self.flights.remove(id)?;
        self.budget.release(&flight.account);
        self.bytes -= flight.bytes();
        Some(flight)
    }

    /// Handles an event of a query's sockets; returns the answer, written into `buffer`.
    pub fn advance(&mut self, poller: &Poller, id: Id, buffer: &mut [u8], now: Instant) -> Option<Reply> {
        let flight = self.flights.get_mut(id)?;
        let before = flight.bytes();
        let step = flight.advance(&mut self.upstreams, buffer, now, |socket| {
            poller.change(&socket, Source::Flight, id, true, false)
        });
        self.bytes = self.bytes + flight.bytes() - before;
        match step {
            Step::Wait if self.bytes > BYTES_MAX => self.take(id).map(|flight| flight.failed(buffer)),
            Step::Wait => None,
            Step::Done(length) => self.take(id).map(|flight| flight.reply(length)),
            Step::Next => self.proceed(poller, id, now).map(|flight| flight.failed(buffer)),
        }
    }

    /// When [`Forwarder::expire`] is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Handles queries that are past their deadline: one answer per call, until there is
    /// none.
    pub fn expire(&mut self, poller: &Poller, buffer: &mut [u8], now: Instant) -> Option<Reply> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        let late: Vec<Id> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.due() <= now)
            .map(|(id, _)| id)
            .take(EXPIRED_MAX)
            .collect();
        for id in late {
            let over =
                self.flights.get_mut(id).is_some_and(|flight| flight.note_late(&mut self.upstreams, now));
            let failed = if over { self.take(id) } else { self.proceed(poller, id, now) };
            if let Some(flight) = failed {
                return Some(flight.failed(buffer));
            }
        }
        self.due = self.flights.iter().map(|(_, flight)| flight.due()).min();
        None
    }

    /// Whether no query is in flight.
    pub fn is_idle(&self) -> bool {
        self.flights.len() == 0
    }
}
