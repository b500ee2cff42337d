//! Reasons why an awaited state was not reached.

use std::fmt;

use ipnetwork::IpNetwork;
use sys::Error;

use crate::Mac;

/// The state of a link or an address at the end of a wait for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// The bridge port did not forward before the deadline.
    PortState {
        /// The port's interface.
        link: String,
        /// The last state: an operational state, or a bridge port state when the link itself was
        /// up.
        state: String,
    },
    /// Another node has this address: duplicate address detection failed (RFC 4862, section 5.4.5),
    /// or it answered (RFC 5227, section 2.1.1).
    DuplicateAddress {
        /// The interface.
        link: String,
        /// The address.
        address: IpNetwork,
        /// The other node's Ethernet address, if it is known.
        holder: Option<Mac>,
    },
    /// The address was still tentative at the deadline.
    TentativeAddress {
        /// The interface.
        link: String,
        /// The address.
        address: IpNetwork,
    },
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortState { link, state } => {
                write!(f, "bridge port in error state: {state} ({link})")
            }
            Self::DuplicateAddress { link, address, holder } => {
                write!(f, "address {address} on {link}: duplicate address detected: ")?;
                match holder {
                    Some(mac) => write!(f, "{mac} has it"),
                    None => f.write_str("another node on the link has it"),
                }
            }
            Self::TentativeAddress { link, address } => {
                write!(f, "address {address} on {link} is still tentative")
            }
        }
    }
}

impl std::error::Error for NotReady {}

impl From<NotReady> for Error {
    fn from(reason: NotReady) -> Self {
        Self::Other(Box::new(reason))
    }
}
