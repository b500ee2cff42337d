//! The leases that the daemon keeps, and their exchanges in progress.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use daemon::{Id, Slab};

use super::log;
use super::run::{Poller, Source};
use super::step::{Step, due};
use super::{args::Args, link};
use crate::client::{Event, Pace};
use crate::exchange::{Exchange, Purpose, Received};
use crate::record::{Record, State, Store};
use crate::terms::Terms;
use crate::wire::Missing;

/// Exchanges at once; others wait for a moment.
const FLIGHTS: usize = 256;
const MOMENT: Duration = Duration::from_millis(100);
/// Frames read for one event.
const FRAMES: usize = 64;
/// Frames of others in one exchange; a link with more gets a pause.
const JUNK: u32 = 4096;
/// The pause after what the kernel refused, or a flood.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries to limit the address on the link.
const LIMITS: u32 = 30;
/// The longest pause while there is no address.
const SEARCH: Duration = Duration::from_secs(16);

/// The leases.
#[derive(Debug)]
pub struct Leases {
    store: Store,
    socket: PathBuf,
    all: Slab<Lease>,
    names: BTreeMap<String, Id>,
    /// Files that are no records, each reported once.
    faulty: BTreeSet<String>,
    /// The longest pause between two messages.
    longest: Duration,
    args: Args,
}

#[derive(Debug)]
struct Lease {
    record: Record,
    flight: Option<Flight>,
    /// When something is due.
    next: Option<Duration>,
    /// The record is not written yet.
    unwritten: bool,
    /// When to limit the address on the link, and how often to try again.
    limit: Option<(Duration, u32)>,
    /// Why no exchange can begin, as it was logged.
    hindrance: Option<String>,
}

#[derive(Debug)]
struct Flight {
    exchange: Exchange,
    junk: u32,
}

impl Leases {
    /// None yet.
    pub fn new(args: &Args, store: &Store) -> Self {
        Self {
            store: store.clone(),
            socket: args.socket.clone(),
            all: Slab::default(),
            names: BTreeMap::new(),
            faulty: BTreeSet::new(),
            longest: Duration::from_millis(args.limits.resend_max),
            args: args.clone(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// When the next step is due.
    pub fn next(&self) -> Option<Duration> {
        let limits = self.all.iter().filter_map(|(_, lease)| lease.limit.map(|(at, _)| at));
        self.all.iter().filter_map(|(_, lease)| lease.next).chain(limits).min()
    }

    /// Reads all records.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn read_all(&mut self, now: Duration) -> sys::Result<()> {
        let names = self.store.names()?;
        let gone: Vec<String> = self.names.keys().filter(|name| !names.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.forget(name));
        for name in names.iter().filter(|name| !self.names.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.read(&name, now);
        }
        Ok(())
    }

    /// Reads a record again.
    pub fn read(&mut self, name: &str, now: Duration) {
        self.forget(name);
        match self.store.read(name) {
            Ok(Some(record)) if record.socket == self.socket && record.name() == name => {
                let lease = Lease {
                    record,
                    flight: None,
                    next: Some(now),
                    unwritten: false,
                    limit: Some((now + PAUSE, LIMITS)),
                    hindrance: None,
                };
                let id = self.all.insert(lease);
                self.names.insert(name.to_owned(), id);
            }
            Ok(None) => {
                if let Some(fault) = self.store.fault(name).filter(|_| self.faulty.insert(name.to_owned())) {
                    log(&format_args!("{fault}: its lease is not extended"));
                }
            }
            Ok(_) => {}
            Err(error) => log(&format_args!("{error:#}")),
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(id) = self.names.remove(name) {
            self.all.remove(id);
        }
    }

    fn flights(&self) -> usize {
        self.all.iter().filter(|(_, lease)| lease.flight.is_some()).count()
    }

    /// Does what is due.
    pub fn advance(&mut self, poller: &Poller, now: Duration) {
        let is_late = |lease: &Lease| lease.limit.is_some_and(|(at, _)| at <= now);
        let ids: Vec<Id> = self.all.iter().filter(|(_, lease)| is_late(lease)).map(|(id, _)| id).collect();
        for id in ids {
            self.limit(id, now);
        }
        let is_due = |lease: &Lease| lease.next.is_some_and(|next| next <= now);
        let ids: Vec<Id> = self.all.iter().filter(|(_, lease)| is_due(lease)).map(|(id, _)| id).collect();
        for id in ids {
            self.advance_one(id, poller, now);
        }
    }

    /// Limits the address on the link, which the interface's plugin puts there after ADD of this one.
    fn limit(&mut self, id: Id, now: Duration) {
        let Some(lease) = self.all.get_mut(id) else { return };
        let Some((_, tries)) = lease.limit.take() else { return };
        let record = &lease.record;
        let Some(end) = record.end().filter(|end| record.state == State::Bound && *end > now) else { return };
        let Ok(place) = link::place(&self.args.reached(&record.netns), record) else { return };
        let left = end - now;
        match link::limit(&place, record, left, record.preferred_left(now).unwrap_or(left)) {
            Ok(true) => {}
            Ok(false) => lease.limit = tries.checked_sub(1).map(|tries| (now + PAUSE, tries)),
            Err(error) => log(&format_args!("{}: {error:#}", record.owner())),
        }
    }

    fn advance_one(&mut self, id: Id, poller: &Poller, now: Duration) {
        let Some(lease) = self.all.get_mut(id) else { return };
        if lease.unwritten {
            self.write(id, now);
            return;
        }
        let step = due(&lease.record, now);
        let (purpose, until) = match step {
            Step::Wait(until) => {
                (lease.flight, lease.next) = (None, until);
                return;
            }
            Step::Lose => return self.lose(id, "its time is over", now),
            Step::Ask(purpose, until) => (purpose, until),
        };
        let fits = lease.flight.as_ref().is_some_and(|flight| flight.exchange.is_for(purpose));
        if !fits && !self.open(id, purpose, poller, now) {
            return;
        }
        self.transmit(id, until, now);
    }

    /// Opens the socket of a new exchange.
    fn open(&mut self, id: Id, purpose: Purpose, poller: &Poller, now: Duration) -> bool {
        let crowded = self.flights() >= FLIGHTS;
        let longest = self.longest;
        let Some(lease) = self.all.get_mut(id) else { return false };
        lease.flight = None;
        if crowded {
            lease.next = Some(now + MOMENT);
            return false;
        }
        let record = &lease.record;
        let path = self.args.reached(&record.netns);
        let longest = if purpose == Purpose::Select { longest.min(SEARCH) } else { longest };
        let opened = link::place(&path, record).and_then(|place| {
            let exchange = Exchange::about(&place, &record.terms, purpose, Pace { longest }, now);
            exchange.map_err(Missing::Kernel)
        });
        let exchange = match opened {
            Ok(opened) => opened,
            Err(missing) if missing.is_gone() => {
                // The container is gone. Its record stays for DEL.
                let name = record.name();
                self.forget(&name);
                return false;
            }
            Err(missing) => {
                let why = missing.into_cni_error().msg;
                // A link may have no address of its own for long.
                if lease.hindrance.as_ref() != Some(&why) {
                    log(&format_args!("{}: {why}", record.owner()));
                }
                (lease.hindrance, lease.next) = (Some(why), Some(now + PAUSE));
                return false;
            }
        };
        lease.hindrance = None;
        if poller.watch(&exchange, Source::Flight, id).is_err() {
            lease.next = Some(now + PAUSE);
            return false;
        }
        lease.flight = Some(Flight { exchange, junk: 0 });
        true
    }

    /// Sends the next message, if it is due and the lease still goes on.
    fn transmit(&mut self, id: Id, until: Option<Duration>, now: Duration) {
        let Some(lease) = self.all.get_mut(id) else { return };
        let Some(flight) = &mut lease.flight else { return };
        if now >= flight.exchange.due() {
            let name = lease.record.name();
            // DEL marks or removes the record before it releases the address.
            let held = self.store.read(&name);
            let goes_on =
                |held: &Record| held.state == lease.record.state && held.namespace == lease.record.namespace;
            if !matches!(&held, Ok(Some(held)) if goes_on(held)) {
                self.read(&name, now);
                return;
            }
            if let Err(error) = flight.exchange.send(now) {
                log(&format_args!("{}: send: {error}", lease.record.owner()));
                (lease.flight, lease.next) = (None, Some(now + PAUSE));
                return;
            }
        }
        let next = flight.exchange.due();
        lease.next = Some(until.map_or(next, |until| next.min(until)));
    }

    /// Reads frames of an exchange.
    pub fn receive(&mut self, id: Id, now: Duration) {
        for _ in 0..FRAMES {
            let Some(lease) = self.all.get_mut(id) else { return };
            let Some(flight) = &mut lease.flight else { return };
            match flight.exchange.receive(now) {
                Ok(Received::Nothing) => return,
                Ok(Received::Unrelated) if flight.junk < JUNK => flight.junk += 1,
                Ok(Received::Unrelated) | Err(_) => {
                    (lease.flight, lease.next) = (None, Some(now + PAUSE));
                    return;
                }
                Ok(Received::Event(Event::Offered(offer))) => {
                    // DEL of a lease that is found again releases this address.
                    lease.record.terms = offer.following(&lease.record.terms);
                    lease.next = Some(flight.exchange.due());
                    self.write(id, now);
                    return;
                }
                Ok(Received::Event(Event::Granted(terms, since))) => {
                    return self.granted(id, *terms, since, now);
                }
                Ok(Received::Event(Event::Refused(text))) => return self.lose(id, &text, now),
            }
        }
    }

    fn granted(&mut self, id: Id, terms: Terms, since: Duration, now: Duration) {
        let Some(lease) = self.all.get_mut(id) else { return };
        lease.flight = None;
        let before = lease.record.clone();
        lease.record.terms = terms.following(&before.terms);
        lease.record.state = State::Bound;
        lease.record.since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        (lease.next, lease.limit) = (Some(now), Some((now, LIMITS)));
        let record = lease.record.clone();
        if !self.write(id, now) {
            return;
        }
        let (old, new) = (before.terms.net(), record.terms.net());
        let prefix = |of: &Record| of.terms.delegated().map(|prefix| prefix.to_string());
        if let Some(prefix) = prefix(&record).filter(|new| prefix(&before).as_ref() != Some(new)) {
            log(&format_args!("{}: the prefix {prefix} is delegated", record.owner()));
        }
        let changed = old != new;
        if before.state == State::Bound && !changed {
            return;
        }
        let address = |net: Option<ipnetwork::IpNetwork>| net.map(|net| net.to_string()).unwrap_or_default();
        let applied = link::place(&self.args.reached(&record.netns), &record)
            .map_err(|missing| missing.into_cni_error().msg)
            .and_then(|place| {
                let put = link::put_on(&place, &record);
                let taken = if changed { link::take_off(&place, &before) } else { Ok(()) };
                put.and(taken).map_err(|error| format!("{error:#}"))
            });
        let owner = record.owner();
        match (before.state, applied) {
            (_, Err(error)) => {
                log(&format_args!("{owner}: {} cannot be put on the link: {error}", address(new)))
            }
            (State::Bound, Ok(())) => {
                log(&format_args!("{owner}: the address changed from {} to {}", address(old), address(new)));
            }
            (_, Ok(())) => log(&format_args!("{owner}: the address is {} again", address(new))),
        }
    }

    /// Stops using an address: it is taken off the link.
    fn lose(&mut self, id: Id, why: &str, now: Duration) {
        let Some(lease) = self.all.get_mut(id) else { return };
        lease.flight = None;
        let record = &mut lease.record;
        let owner = record.owner();
        let taken = link::place(&self.args.reached(&record.netns), record);
        match taken.map(|place| link::take_off(&place, record)) {
            Ok(Ok(())) => {
                log(&format_args!("{owner}: {} was taken off the link: {why}", record.address()));
            }
            Ok(Err(error)) => {
                log(&format_args!("{owner}: {error:#}"));
                lease.next = Some(now + PAUSE);
                return;
            }
            Err(missing) if missing.is_gone() => {
                let name = record.name();
                return self.forget(&name);
            }
            Err(missing) => {
                log(&format_args!("{owner}: {}", missing.into_cni_error().msg));
                lease.next = Some(now + PAUSE);
                return;
            }
        }
        record.state = State::Lost;
        lease.next = Some(now);
        self.write(id, now);
    }

    /// Writes the record of a lease; false if the lease does not go on, or not yet.
    fn write(&mut self, id: Id, now: Duration) -> bool {
        let Some(lease) = self.all.get_mut(id) else { return false };
        match self.store.update(&lease.record) {
            Ok(true) => {
                lease.unwritten = false;
                true
            }
            Ok(false) => {
                let name = lease.record.name();
                self.read(&name, now);
                false
            }
            Err(error) => {
                log(&format_args!("{}: {error:#}", lease.record.owner()));
                (lease.unwritten, lease.next) = (true, Some(now + MOMENT));
                true
            }
        }
    }
}
