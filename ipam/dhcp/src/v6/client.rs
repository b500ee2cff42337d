//! The exchange of a client with servers (RFC 8415, section 18.2): what to send next, and what a
//! message means. It does no I/O and reads no clock: times are since boot.

use std::time::Duration;

use super::ask::Ask;
use super::grant::{Grant, Unusable, is_duid};
use super::message::{Kind, Message, option};
use crate::client::{Event, Pace, varied};

/// The pause before the second message; pauses double.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long further offers are waited for after the first. The RFC waits a second.
const COLLECT: Duration = Duration::from_millis(100);
/// The preference that is taken at once (RFC 8415, section 18.2.1).
const PREFERENCE_MAX: u8 = 255;
/// Requests for an offered address before servers are looked for again.
const REQUESTS: u32 = 4;

/// What the client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Offers; the best until now with its preference. `hint` is what it had before.
    Offers { hint: Option<Box<Grant>>, best: Option<(u8, Box<Grant>)> },
    /// The reply to the request for an offer, or for what the server has forgotten.
    Reply(Box<Grant>),
    /// More time, from the server of the grant.
    Renewal(Box<Grant>),
    /// More time, from any server.
    Rebinding(Box<Grant>),
}

/// An exchange in progress.
#[derive(Clone, Debug)]
pub struct Client {
    ask: Ask,
    pace: Pace,
    phase: Phase,
    /// Whether it began with an address that is in use, which a refusal ends.
    uses: bool,
    xid: [u8; 3],
    began: Duration,
    /// Messages sent in this phase.
    sent: u32,
    last_sent: Duration,
    due: Duration,
    /// The last answer that could not be used, for errors.
    complaint: Option<String>,
}

impl Client {
    fn new(ask: Ask, pace: Pace, phase: Phase, now: Duration) -> Self {
        let uses = !matches!(phase, Phase::Offers { .. });
        Self {
            ask,
            pace,
            phase,
            uses,
            xid: number(),
            began: now,
            sent: 0,
            last_sent: now,
            due: now,
            complaint: None,
        }
    }

    /// Looks for servers, and prefers what it had before.
    pub fn select(ask: Ask, pace: Pace, before: Option<Grant>, now: Duration) -> Self {
        Self::new(ask, pace, Phase::Offers { hint: before.map(Box::new), best: None }, now)
    }

    /// Asks the server of a grant for more time.
    pub fn renew(ask: Ask, pace: Pace, grant: Grant, now: Duration) -> Self {
        Self::new(ask, pace, Phase::Renewal(Box::new(grant)), now)
    }

    /// Asks every server for more time.
    pub fn rebind(ask: Ask, pace: Pace, grant: Grant, now: Duration) -> Self {
        Self::new(ask, pace, Phase::Rebinding(Box::new(grant)), now)
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
        self.uses && matches!(self.phase, Phase::Renewal(_) | Phase::Reply(_))
    }

    /// Whether it asks for an address that it does not have.
    pub fn has_no_address(&self) -> bool {
        !self.uses
    }

    /// The next message.
    pub fn transmit(&mut self, now: Duration) -> Vec<u8> {
        match &mut self.phase {
            Phase::Offers { best, .. } => {
                if let Some((_, best)) = best.take() {
                    self.enter(Phase::Reply(best), now);
                }
            }
            Phase::Reply(_) if self.sent >= REQUESTS => {
                self.complaint = Some("the server that made an offer did not reply to the request".into());
                self.restart(now);
            }
            _ => {}
        }
        let (kind, about) = match &self.phase {
            Phase::Offers { hint, .. } => (Kind::Solicit, hint.as_deref()),
            Phase::Reply(grant) => (Kind::Request, Some(&**grant)),
            Phase::Renewal(grant) => (Kind::Renew, Some(&**grant)),
            Phase::Rebinding(grant) => (Kind::Rebind, Some(&**grant)),
        };
        let hundredths = now.saturating_sub(self.began).as_millis() / 10;
        let elapsed = u16::try_from(hundredths).unwrap_or(u16::MAX);
        let message = self.ask.message(kind, self.xid, elapsed, about);
        self.last_sent = now;
        let pause = FIRST_PAUSE.saturating_mul(1 << self.sent.min(16)).min(self.pace.longest);
        self.due = now + varied(pause);
        self.sent = self.sent.saturating_add(1);
        message
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        self.phase = phase;
        (self.xid, self.began, self.sent, self.due) = (number(), now, 0, now);
    }

    fn restart(&mut self, now: Duration) {
        self.enter(Phase::Offers { hint: None, best: None }, now);
    }

    /// Reads a datagram, which may be anybody's.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) -> Option<Event<Grant>> {
        let message = Message::from_bytes(bytes)?;
        let is_to_us = message.options.get(option::CLIENT_ID) == Some(&self.ask.duid[..]);
        if message.xid != self.xid || !is_to_us || self.sent == 0 {
            return None;
        }
        let server = message.options.get(option::SERVER_ID).filter(|server| is_duid(server))?;
        let granted = Grant::of(&message, server, &self.ask);
        match (message.kind, &self.phase) {
            (Kind::Advertise, Phase::Offers { .. }) => match granted {
                Ok(offer) => self.offer(&message, offer, now),
                Err(error) => self.complain("an offer", &error),
            },
            (Kind::Reply, Phase::Reply(offer) | Phase::Renewal(offer)) if offer.server == server => {
                self.reply(granted, now)
            }
            (Kind::Reply, Phase::Rebinding(_)) => self.reply(granted, now),
            _ => None,
        }
    }

    fn complain(&mut self, what: &str, error: &Unusable) -> Option<Event<Grant>> {
        self.complaint = Some(format!("{what} of a DHCPv6 server: {error}"));
        None
    }

    /// Keeps the offer if it is the best.
    fn offer(&mut self, message: &Message, offer: Grant, now: Duration) -> Option<Event<Grant>> {
        let preference =
            message.options.get(option::PREFERENCE).and_then(<[u8]>::first).copied().unwrap_or(0);
        let Phase::Offers { best, .. } = &mut self.phase else { return None };
        match best {
            Some((known, _)) if *known >= preference => return None,
            Some(_) => {}
            None => self.due = now + COLLECT,
        }
        *best = Some((preference, Box::new(offer.clone())));
        if preference == PREFERENCE_MAX {
            self.due = now;
        }
        Some(Event::Offered(Box::new(offer)))
    }

    fn reply(&mut self, granted: Result<Grant, Unusable>, now: Duration) -> Option<Event<Grant>> {
        let error = match granted {
            Ok(grant) => return Some(Event::Granted(Box::new(grant), self.last_sent)),
            Err(error) => error,
        };
        self.complain("a reply", &error);
        match &self.phase {
            // The server has lost its leases. It can give the same address again.
            Phase::Renewal(grant) if error.is_no_binding() => {
                self.enter(Phase::Reply(grant.clone()), now);
                None
            }
            // Another server may still know it.
            Phase::Rebinding(_) if error.is_no_binding() => None,
            _ if !error.is_refusal() => None,
            _ if self.uses => Some(Event::Refused(format!("the server refused: {error}"))),
            _ => {
                self.restart(now + FIRST_PAUSE);
                None
            }
        }
    }
}

/// A number that others cannot guess.
pub fn number() -> [u8; 3] {
    sys::random::bytes().unwrap_or_default()
}
