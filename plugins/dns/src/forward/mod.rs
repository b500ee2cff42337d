//! Questions for the outside: passed on to other servers, and their answers passed back.
//!
//! Each goes out from a port of the kernel's choice with a number of its own, to one server after another: a server
//! that does not answer in [`TRY`] is left to answer late while the next one is asked. Somebody always answers in the
//! end: after [`TOTAL`] it is us, and we say that nobody did.

mod budget;
mod flight;
mod resolv;
mod upstreams;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use budget::Budget;
use flight::{Flight, Step};
pub use flight::{Question, Reply};
pub use resolv::HostServers;
use upstreams::Upstreams;

use crate::event_loop::{Id, Slab};
use crate::source::{Poller, Source};
use crate::zone::Payer;

/// How long one server is waited for before the next one is asked.
pub const TRY: Duration = Duration::from_millis(1500);
/// How long all of them are.
pub const TOTAL: Duration = Duration::from_secs(5);
/// Bytes of answers that are on their way to us, of all questions. A whole one is 64 KiB at most.
const BYTES_MAX: usize = 12 << 20;
/// How many servers are asked at most.
pub const SERVERS_MAX: usize = 3;
/// How many late questions are taken care of before others are listened to again.
const AT_ONCE: usize = 64;

/// Whom an answer is for.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// One that sent a datagram to that listener.
    Datagram(Id, sys::datagram::Peer),
    /// One that has that connection.
    Connection(Id),
}

/// All questions on their way.
#[derive(Debug, Default)]
pub struct Forwarder {
    flights: Slab<Flight>,
    budget: Budget,
    /// Bytes that the questions hold of answers.
    bytes: usize,
    upstreams: Upstreams,
    /// When the earliest question wants to be taken care of, or before.
    due: Option<Instant>,
}

impl Forwarder {
    /// Our own addresses: whoever is told to ask there would ask us for ever.
    pub fn set_own(&mut self, own: Vec<SocketAddr>) {
        self.upstreams.set_own(own);
    }

    /// Keeps to what so many descriptors allow.
    pub fn limit(&mut self, descriptors: u64) {
        self.budget.limit(descriptors);
    }

    /// Passes a question on.
    ///
    /// # Errors
    /// Nobody is asked: there are too many questions on their way, or no server to ask. The client wants an answer.
    pub fn start(
        &mut self,
        poller: &Poller,
        question: Question,
        payer: Payer,
        servers: &[SocketAddr],
        now: Instant,
    ) -> Result<(), Question> {
        if !self.budget.allows(&payer) {
            return Err(question);
        }
        let servers = self.upstreams.in_order(payer.network(), servers, now);
        if servers.is_empty() {
            return Err(question);
        }
        self.budget.take(&payer);
        let id = self.flights.insert(Flight::new(question, payer, servers, now));
        match self.proceed(poller, id, now) {
            None => Ok(()),
            Some(flight) => Err(flight.question),
        }
    }

    /// Asks the next server; gives the question back when there is none left to wait for.
    fn proceed(&mut self, poller: &Poller, id: Id, now: Instant) -> Option<Flight> {
        let flight = self.flights.get_mut(id)?;
        let left = flight.ask_next(&mut self.upstreams, now, |socket, write| {
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
        self.budget.give(&flight.payer);
        self.bytes -= flight.bytes();
        Some(flight)
    }

    /// Something happened to the sockets of a question; gives the answer, which is written into `buffer`.
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

    /// When [`Forwarder::expire`] wants to be called.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes care of questions that nobody answered in time, one answer per call, until it gives none.
    pub fn expire(&mut self, poller: &Poller, buffer: &mut [u8], now: Instant) -> Option<Reply> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        let late: Vec<Id> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.due() <= now)
            .map(|(id, _)| id)
            .take(AT_ONCE)
            .collect();
        for id in late {
            let over =
                self.flights.get_mut(id).is_some_and(|flight| flight.is_late(&mut self.upstreams, now));
            let failed = if over { self.take(id) } else { self.proceed(poller, id, now) };
            if let Some(flight) = failed {
                return Some(flight.failed(buffer));
            }
        }
        self.due = self.flights.iter().map(|(_, flight)| flight.due()).min();
        None
    }

    /// Whether no question is on its way.
    pub fn is_idle(&self) -> bool {
        self.flights.len() == 0
    }
}
