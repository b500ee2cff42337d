//! The exchange of a client with servers (RFC 2131, section 4.4): what to send next, and what a
//! frame means. It does no I/O and reads no clock: times are since boot.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use netlink::Mac;

use crate::ask::{Ask, Fields};
use crate::frame::{self, End};
use crate::grant::Grant;
use crate::message::{Kind, Message, option};

/// The pause before the second message; pauses double.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Requests for an offered address before servers are looked for again.
const REQUESTS: u32 = 4;
/// The longest text of a server that is reported.
const TEXT_MAX: usize = 200;

/// Limits of pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The longest pause between two messages.
    pub longest: Duration,
}

/// What the client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// An offer; of this address, if possible.
    Offer(Option<Ipv4Addr>),
    /// The acknowledgement of an offer.
    Acknowledgement(Box<Grant>),
    /// More time, from the server of the grant.
    Renewal(Box<Grant>),
    /// More time, from any server.
    Rebinding(Box<Grant>),
}

/// What a message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<G = Grant> {
    /// A server offers an address. The request for it is due, at once or soon.
    Offered(Box<G>),
    /// A server grants an address: for its time from then on.
    Granted(Box<G>, Duration),
    /// The server refused the address that is in use.
    Refused(String),
}

impl<G> Event<G> {
    /// The same about something made of the grant.
    pub fn map<T>(self, make: impl FnOnce(G) -> T) -> Event<T> {
        match self {
            Self::Offered(grant) => Event::Offered(Box::new(make(*grant))),
            Self::Granted(grant, since) => Event::Granted(Box::new(make(*grant)), since),
            Self::Refused(text) => Event::Refused(text),
        }
    }
}

/// An exchange in progress.
#[derive(Clone, Debug)]
pub struct Client {
    ask: Ask,
    mac: Mac,
    pace: Pace,
    phase: Phase,
    xid: u32,
    began: Duration,
    /// Messages sent in this phase.
    sent: u32,
    last_sent: Duration,
    due: Duration,
    /// The last answer that could not be used, for errors.
    complaint: Option<String>,
}

impl Client {
    fn new(ask: Ask, mac: Mac, pace: Pace, phase: Phase, now: Duration) -> Self {
        Self {
            ask,
            mac,
            pace,
            phase,
            xid: number(),
            began: now,
            sent: 0,
            last_sent: now,
            due: now,
            complaint: None,
        }
    }

    /// Looks for servers, and prefers an address.
    pub fn select(ask: Ask, mac: Mac, pace: Pace, address: Option<Ipv4Addr>, now: Duration) -> Self {
        Self::new(ask, mac, pace, Phase::Offer(address), now)
    }

    /// Asks the server of a grant for more time.
    pub fn renew(ask: Ask, mac: Mac, pace: Pace, grant: Grant, now: Duration) -> Self {
        Self::new(ask, mac, pace, Phase::Renewal(Box::new(grant)), now)
    }

    /// Asks every server for more time.
    pub fn rebind(ask: Ask, mac: Mac, pace: Pace, grant: Grant, now: Duration) -> Self {
        Self::new(ask, mac, pace, Phase::Rebinding(Box::new(grant)), now)
    }

    /// The client that asks.
    pub fn ask(&self) -> &Ask {
        &self.ask
    }

    /// When the next message is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// The last answer that could not be used.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Whether it asks the server of its grant only.
    pub fn is_renewal(&self) -> bool {
        matches!(self.phase, Phase::Renewal(_))
    }

    /// Whether it asks for an address that it does not have.
    pub fn has_no_address(&self) -> bool {
        matches!(self.phase, Phase::Offer(_) | Phase::Acknowledgement(_))
    }

    /// The next message, as a frame.
    pub fn transmit(&mut self, now: Duration) -> Vec<u8> {
        if matches!(self.phase, Phase::Acknowledgement(_)) && self.sent >= REQUESTS {
            self.complaint = Some("the server that made an offer did not acknowledge it".into());
            self.restart(now);
        }
        let none = Fields { xid: self.xid, secs: self.seconds(now), ..Fields::default() };
        let nobody = End { mac: self.mac, ip: Ipv4Addr::UNSPECIFIED };
        let (kind, fields, from, to) = match &self.phase {
            Phase::Offer(address) => {
                (Kind::Discover, Fields { requested: *address, ..none }, nobody, End::EVERYBODY)
            }
            Phase::Acknowledgement(offer) => {
                let fields = Fields { requested: Some(offer.address), server: Some(offer.server), ..none };
                (Kind::Request, fields, nobody, End::EVERYBODY)
            }
            Phase::Renewal(grant) => (
                Kind::Request,
                Fields { ciaddr: Some(grant.address), ..none },
                End { ip: grant.address, ..nobody },
                grant.server_end(),
            ),
            Phase::Rebinding(grant) => (
                Kind::Request,
                Fields { ciaddr: Some(grant.address), ..none },
                End { ip: grant.address, ..nobody },
                End::EVERYBODY,
            ),
        };
        let message = self.ask.message(kind, self.mac, &fields);
        self.last_sent = now;
        self.due = now + self.pause();
        self.sent = self.sent.saturating_add(1);
        frame::encode(from, to, &message)
    }

    fn seconds(&self, now: Duration) -> u16 {
        u16::try_from(now.saturating_sub(self.began).as_secs()).unwrap_or(u16::MAX)
    }

    /// The pause after the next message: it doubles.
    fn pause(&self) -> Duration {
        varied(FIRST_PAUSE.saturating_mul(1 << self.sent.min(16)).min(self.pace.longest))
    }

    fn restart(&mut self, now: Duration) {
        self.phase = Phase::Offer(None);
        (self.xid, self.sent, self.due) = (number(), 0, now);
    }

    /// Reads a frame, which may be anybody's.
    pub fn receive(&mut self, frame: &[u8], now: Duration) -> Option<Event> {
        let (from, bytes) = frame::decode(frame)?;
        let message = Message::from_bytes(bytes)?;
        if message.xid != self.xid || message.chaddr != self.mac || self.sent == 0 {
            return None;
        }
        match message.kind {
            Kind::Offer if matches!(self.phase, Phase::Offer(_)) => self.offer(&message, from, now),
            Kind::Ack if !matches!(self.phase, Phase::Offer(_)) => self.acknowledgement(&message, from),
            Kind::Nak => self.refusal(&message, now),
            _ => None,
        }
    }

    fn offer(&mut self, message: &Message, from: End, now: Duration) -> Option<Event> {
        match Grant::of(message, from) {
            Ok(offer) => {
                self.phase = Phase::Acknowledgement(Box::new(offer.clone()));
                (self.sent, self.due) = (0, now);
                Some(Event::Offered(Box::new(offer)))
            }
            Err(error) => {
                self.complaint = Some(format!("the offer of {}: {error}", from.ip));
                None
            }
        }
    }

    fn acknowledgement(&mut self, message: &Message, from: End) -> Option<Event> {
        match (Grant::of(message, from), &self.phase) {
            // A server that did not make the offer cannot acknowledge it.
            (Ok(grant), Phase::Acknowledgement(offer)) if grant.server != offer.server => None,
            (Ok(grant), _) => Some(Event::Granted(Box::new(grant), self.last_sent)),
            (Err(error), _) => {
                self.complaint = Some(format!("the acknowledgement of {}: {error}", from.ip));
                None
            }
        }
    }

    fn refusal(&mut self, message: &Message, now: Duration) -> Option<Event> {
        let server = message.option(option::SERVER).and_then(option::address)?;
        let text = message.option(option::MESSAGE).unwrap_or_default();
        let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
        let text: String = text.chars().take(TEXT_MAX).collect();
        let text = format!("{server} refused{}{text}", if text.is_empty() { "" } else { ": " });
        match &self.phase {
            Phase::Offer(_) => None,
            Phase::Acknowledgement(offer) if offer.server == server => {
                self.complaint = Some(text);
                self.restart(now + FIRST_PAUSE);
                None
            }
            Phase::Renewal(grant) if grant.server == server => Some(Event::Refused(text)),
            Phase::Rebinding(_) => Some(Event::Refused(text)),
            Phase::Acknowledgement(_) | Phase::Renewal(_) => None,
        }
    }
}

/// A pause that varies by a quarter, so that clients that began together do not stay in step.
pub fn varied(pause: Duration) -> Duration {
    let thousandths = u32::try_from(750 + u64::from(number()) % 512).unwrap_or(1000);
    pause.saturating_mul(thousandths) / 1000
}

/// A number that others cannot guess, so that only who sees the client's messages can answer them.
fn number() -> u32 {
    sys::random::bytes().map_or(0, u32::from_ne_bytes)
}
