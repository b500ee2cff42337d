//! A client with its socket: an exchange in progress, of either family.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::client::{Client, Event, Pace};
use crate::terms::Terms;
use crate::v6;
use crate::wire::{DATA_MAX, Place, Port, Wire};

/// What an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An address; that of the terms, if possible.
    Select,
    /// More time of the server.
    Renew,
    /// More time of any server.
    Rebind,
}

/// What was received.
#[derive(Debug)]
pub enum Received {
    /// Nothing is left.
    Nothing,
    /// A message that means nothing to this client.
    Unrelated,
    /// Something that it waits for.
    Event(Event<Terms>),
}

/// An exchange.
#[derive(Debug)]
pub enum Exchange {
    /// Of DHCP, by frames: the link has no address yet.
    V4(Wire, Client),
    /// Of DHCPv6, from the link-local address.
    V6(Port, v6::Client),
}

impl Exchange {
    /// Opens the socket for an exchange about terms.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn about(
        place: &Place,
        terms: &Terms,
        purpose: Purpose,
        pace: Pace,
        now: Duration,
    ) -> sys::Result<Self> {
        match terms.clone() {
            Terms::V4 { ask, grant } => {
                let mac = place.mac()?;
                let client = match purpose {
                    Purpose::Select => Client::select(ask, mac, pace, Some(grant.address), now),
                    Purpose::Renew => Client::renew(ask, mac, pace, grant, now),
                    Purpose::Rebind => Client::rebind(ask, mac, pace, grant, now),
                };
                Ok(Self::V4(place.wire()?, client))
            }
            Terms::V6 { ask, grant } => {
                let client = match purpose {
                    Purpose::Select => v6::Client::select(ask, pace, Some(grant), now),
                    Purpose::Renew => v6::Client::renew(ask, pace, grant, now),
                    Purpose::Rebind => v6::Client::rebind(ask, pace, grant, now),
                };
                Ok(Self::V6(place.port()?, client))
            }
        }
    }

    /// When the next message is due.
    pub fn due(&self) -> Duration {
        match self {
            Self::V4(_, client) => client.due(),
            Self::V6(_, client) => client.due(),
        }
    }

    /// The last answer that could not be used.
    pub fn complaint(&self) -> Option<&str> {
        match self {
            Self::V4(_, client) => client.complaint(),
            Self::V6(_, client) => client.complaint(),
        }
    }

    /// Whether it is for this purpose.
    pub fn is_for(&self, purpose: Purpose) -> bool {
        let (renews, selects) = match self {
            Self::V4(_, client) => (client.is_renewal(), client.has_no_address()),
            Self::V6(_, client) => (client.is_renewal(), client.has_no_address()),
        };
        match purpose {
            Purpose::Select => selects,
            Purpose::Renew => renews,
            Purpose::Rebind => !renews && !selects,
        }
    }

    /// Sends the next message.
    ///
    /// # Errors
    /// The link is gone, or the kernel refused.
    pub fn send(&mut self, now: Duration) -> io::Result<()> {
        match self {
            Self::V4(wire, client) => wire.send(&client.transmit(now)),
            Self::V6(port, client) => port.send(&client.transmit(now)),
        }
    }

    /// Receives one message.
    ///
    /// # Errors
    /// The link is gone.
    pub fn receive(&mut self, now: Duration) -> io::Result<Received> {
        let mut data = [0; DATA_MAX];
        let length = match self {
            Self::V4(wire, _) => wire.receive(&mut data)?,
            Self::V6(port, _) => port.receive(&mut data)?,
        };
        let Some(length) = length else { return Ok(Received::Nothing) };
        let bytes = data.get(..length).unwrap_or_default();
        let event = match self {
            Self::V4(_, client) => {
                let ask = client.ask().clone();
                client.receive(bytes, now).map(|event| event.map(|grant| Terms::V4 { ask, grant }))
            }
            Self::V6(_, client) => {
                let ask = client.ask().clone();
                client.receive(bytes, now).map(|event| event.map(|grant| Terms::V6 { ask, grant }))
            }
        };
        Ok(event.map_or(Received::Unrelated, Received::Event))
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::V4(wire, _) => wire.as_fd(),
            Self::V6(port, _) => port.as_fd(),
        }
    }
}
