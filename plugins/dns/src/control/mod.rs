//! The control socket: what plugins ask of the responder.
//!
//! SOCK_SEQPACKET at [`crate::record::Place::control`]; one question and one answer per connection or several after
//! each other, each one packet of JSON. The responder answers those of its own user and of root only (SO_PEERCRED),
//! and closes a connection that says anything else than a question.

pub mod client;
mod listen;
pub mod process;
#[cfg(test)]
mod tests;

pub use listen::{at_path, at_rear, rear};
pub use process::NAME as PROCESS_NAME;
use serde::{Deserialize, Serialize};

use crate::record::{Attachment, Key, Network};

/// What both sides understand. A side that hears of another number goes on as long as it understands the packet.
pub const PROTOCOL: u32 = 1;
/// The longest packet, in bytes.
pub const PACKET_MAX: usize = 4096;

/// A question: a packet, and in the case of [`Ask::Adopt`] two descriptors with it (SCM_RIGHTS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Who are you?
    Hello,
    /// Read again what is recorded of this network, or of one attachment of it. Answered when that is in force:
    /// sockets are bound, or closed; sockets of an attachment that is no more are closed.
    Sync {
        /// The network's name.
        network: String,
        /// The attachment; without one, all of the network.
        key: Option<Key>,
    },
    /// Here are the sockets of an attachment's own namespace: one of UDP, and one of TCP that listens. They take the
    /// place of its former ones. The attachment is recorded already; it is read again as by [`Ask::Sync`].
    Adopt {
        /// The network's name.
        network: String,
        /// The attachment.
        key: Key,
    },
    /// Become this executable, sockets and all: the one that a descriptor with the packet is of, which the path of needs
    /// not be open to the responder; without one, that at the path. Answered before it is done.
    Reexec {
        /// Its path.
        path: String,
    },
    /// Write all records into the file that comes with the packet, an [`Entry`] a line. Asked at [`rear`], after the
    /// records were removed as a whole.
    Records,
    /// Go on in the place whose descriptors come with the packet: the directory of the records and the plugins' lock, and
    /// of a place that was made anew the responder's lock, held, and the control socket.
    Settle,
}

/// A question as it is written: which, and of what. (serde can tell an enum's variants apart by itself, by means that take
/// 20 KB of an executable.)
#[derive(Serialize, Deserialize)]
struct Written {
    ask: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Key>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// [`PROTOCOL`] of the responder.
    pub protocol: u32,
    /// Its release ([`cni::RELEASE`]).
    pub build: String,
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// Why what was asked for could not be done: address, protocol and cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The records that it read are not there any more: [`Ask::Settle`] first. Nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
}

/// A record as [`Ask::Records`] has it: of a network, or of an attachment.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    /// A network, which comes before its attachments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// An attachment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
}

impl Ask {
    /// As a packet.
    pub fn to_packet(&self) -> Vec<u8> {
        let (ask, network, key, path) = match self {
            Self::Hello => ("hello", None, None, None),
            Self::Sync { network, key } => ("sync", Some(network), key.as_ref(), None),
            Self::Adopt { network, key } => ("adopt", Some(network), Some(key), None),
            Self::Reexec { path } => ("reexec", None, None, Some(path)),
            Self::Records => ("records", None, None, None),
            Self::Settle => ("settle", None, None, None),
        };
        let text = |text: Option<&String>| text.cloned();
        packet(&Written { ask: ask.to_owned(), network: text(network), key: key.cloned(), path: text(path) })
    }

    /// Of a packet; `None` when it is none.
    pub fn of_packet(packet: &[u8]) -> Option<Self> {
        let Written { ask, network, key, path } = serde_json::from_slice(packet).ok()?;
        Some(match ask.as_str() {
            "hello" => Self::Hello,
            "sync" => Self::Sync { network: network?, key },
            "adopt" => Self::Adopt { network: network?, key: key? },
            "reexec" => Self::Reexec { path: path? },
            "records" => Self::Records,
            "settle" => Self::Settle,
            _ => return None,
        })
    }
}

impl Answer {
    /// That of this executable.
    pub fn of_this(error: Option<String>) -> Self {
        Self {
            protocol: PROTOCOL,
            build: cni::RELEASE.into(),
            pid: std::process::id(),
            error,
            detached: false,
        }
    }

    /// That there are no records to go by.
    pub fn detached() -> Self {
        let why = "the records were removed, and are not written again yet".to_owned();
        Self { detached: true, ..Self::of_this(Some(why)) }
    }

    /// As a packet.
    pub fn to_packet(&self) -> Vec<u8> {
        packet(self)
    }

    /// Of a packet.
    ///
    /// # Errors
    /// It is none.
    pub fn of_packet(packet: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(packet)
    }
}

fn packet(message: &impl Serialize) -> Vec<u8> {
    // Strings and numbers always print.
    serde_json::to_vec(message).unwrap_or_default()
}
