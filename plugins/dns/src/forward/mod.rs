//! Forwards queries to upstream servers, and their answers to clients.
//!
//! Each query is sent from an ephemeral port with a random id, to one server after another. A
//! server that does not answer within [`ATTEMPT_TIMEOUT`] may still answer while the next one is
//! queried. A client always gets an answer: after [`TOTAL_TIMEOUT`] it is SERVFAIL. Answers are
//! kept for later clients ([`crate::cache`]).

mod budget;
mod flight;
mod question;
mod resolv;
mod upstreams;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use budget::Budget;
use flight::{Flight, Step};
use question::Question;
pub use question::Reply;
pub use resolv::HostServers;
use upstreams::Upstreams;

use crate::cache::{Cache, Figures, Scope};
use crate::event_loop::{Id, Slab};
use crate::source::{Poller, Source};
use crate::wire::Query;
use crate::zone::{Account, Querier, Slot, Zone};

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

/// A query for a name of the outside.
pub struct Asked<'a> {
    /// The client.
    pub querier: &'a Querier<'a>,
    /// Where the answer goes.
    pub client: Client,
    /// The account that the query is charged to.
    pub account: Account,
    /// The query.
    pub query: &'a Query<'a>,
    /// The longest answer that the client takes.
    pub limit: usize,
}

/// All queries in flight, and the answers to earlier ones.
#[derive(Debug, Default)]
pub struct Forwarder {
    flights: Slab<Flight>,
    cache: Cache,
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

    /// Applies changed records to the kept answers.
    pub fn follow(&mut self, zone: &Zone) {
        self.cache.follow(zone);
    }

    /// The figures of a network's kept answers.
    pub fn figures(&self, network: Slot) -> Figures {
        self.cache.figures(network)
    }

    /// Answers a query from the kept answers, or else forwards it to one of the servers. Returns
    /// the length of an answer in `buffer`, which is SERVFAIL if too many queries are in flight,
    /// or if there is no server to query.
    pub fn ask(
        &mut self,
        poller: &Poller,
        asked: Asked<'_>,
        servers: &[SocketAddr],
        buffer: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        let Asked { querier, client, account, query, limit } = asked;
        let (slot, network) = (querier.slot(), querier.network().record());
        let scope = Scope { slot, network, owner: querier.owner_of_servers(), servers };
        if let Some(length) = since_boot().and_then(|now| self.cache.find(&scope, query, limit, buffer, now))
        {
            return Some(length);
        }
        let question = Question::new(client, query, limit);
        let allowed = self.budget.allows(&account);
        let servers = self.upstreams.ordered(slot, servers, now);
        if !allowed || servers.is_empty() {
            return Some(question.fail(buffer));
        }
        self.budget.acquire(&account);
        let pending = self.cache.expect(&scope, query);
        let id = self.flights.insert(Flight::new(question, account, servers, pending, now));
        self.proceed(poller, id, now).map(|flight| flight.failed(buffer).length)
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
        if let Some(pending) = &flight.pending {
            self.cache.end(pending);
        }
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
            Step::Done(length) => self.take(id).map(|flight| self.complete(flight, buffer, length)),
            Step::Next => self.proceed(poller, id, now).map(|flight| flight.failed(buffer)),
        }
    }

    /// Keeps the answer in the buffer for later clients, and shortens it to what this one takes.
    fn complete(&mut self, mut flight: Flight, buffer: &mut [u8], length: usize) -> Reply {
        if let (Some(pending), Some(now)) = (flight.pending.take(), since_boot()) {
            self.cache.keep(pending, &buffer[..length], now);
        }
        let length = flight.question.shorten(buffer, length);
        flight.reply(length)
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
        self.flights.is_empty()
    }
}

/// The time since boot; without a clock nothing is kept.
fn since_boot() -> Option<Duration> {
    sys::clock::since_boot().ok().map(Duration::from_nanos)
}
