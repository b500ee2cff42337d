//! The control socket: requests of plugins to the responder.
//!
//! A SOCK_SEQPACKET socket at [`crate::record::StateDir::control`]. Each request and each response
//! is one packet of JSON; a connection may carry several. The responder accepts its own user
//! and root only (SO_PEERCRED), and closes a connection that sends anything but requests.

pub mod client;
mod listen;
#[cfg(test)]
mod tests;

use std::ffi::CStr;

use cluster::local::RemoteNames;
pub use listen::{at_fallback, at_path, fallback_address};
use serde::{Deserialize, Serialize};

use crate::cache::Figures;
use crate::record::{Attachment, Key, Network};

/// The name of a responder as a process (comm, proc(5)).
pub const PROCESS_NAME: &CStr = c"moor-dns";
/// The protocol version. Each side accepts any version as long as it understands the packet.
pub const PROTOCOL: u32 = 1;
/// The longest packet, in bytes.
pub const PACKET_MAX: usize = 4096;

/// A request: a packet, and descriptors with it where stated (SCM_RIGHTS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// Does nothing; the response names version and process.
    Hello,
    /// Reads the records of a network, or of one attachment of it. The response comes when
    /// they are in force: sockets are bound, and those of removed attachments closed.
    Sync {
        /// The network's name.
        network: String,
        /// The attachment; all of the network if absent.
        key: Option<Key>,
    },
    /// Takes over sockets in an attachment's namespace: a UDP socket and a listening TCP
    /// socket come with the packet. They replace its previous ones. Reads the attachment's
    /// record as [`ControlRequest::Sync`] does.
    Adopt {
        /// The network's name.
        network: String,
        /// The attachment.
        key: Key,
    },
    /// Executes another version of this program, which inherits the sockets: the descriptor
    /// that comes with the packet, since the path may be closed to the responder; without
    /// one, the file at the path. The response comes first.
    Reexec {
        /// Its path.
        path: String,
    },
    /// Writes all records into the file that comes with the packet, one [`Entry`] per line.
    /// Sent to [`fallback_address`] after the records were removed.
    Records,
    /// The response has the figures of a network's kept answers.
    Cache {
        /// The network's name.
        network: String,
    },
    /// Continues with the descriptors that come with the packet: the directory of the
    /// records and the plugins' lock; for a state directory created anew, also the
    /// responder's lock, held, and the control socket.
    Settle,
}

/// A request as JSON. (serde can derive this for an enum, at the cost of 20 KB of code.)
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

/// A response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlResponse {
    /// The responder's [`PROTOCOL`].
    pub protocol: u32,
    /// Its release ([`cni::RELEASE`]).
    pub build: String,
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// Why the request failed: address, protocol and cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The records were removed: send [`ControlRequest::Settle`] first. Nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// To [`ControlRequest::Cache`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Figures>,
}

/// A line of [`ControlRequest::Records`]: the record of a network, of an attachment, or of another
/// host.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    /// A network, which comes before its attachments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// An attachment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// Another host, and its containers on the network that came last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<(String, RemoteNames)>,
}

impl ControlRequest {
    /// Serializes to a packet.
    pub fn to_packet(&self) -> Vec<u8> {
        let (ask, network, key, path) = match self {
            Self::Hello => ("hello", None, None, None),
            Self::Sync { network, key } => ("sync", Some(network), key.as_ref(), None),
            Self::Adopt { network, key } => ("adopt", Some(network), Some(key), None),
            Self::Reexec { path } => ("reexec", None, None, Some(path)),
            Self::Records => ("records", None, None, None),
            Self::Cache { network } => ("cache", Some(network), None, None),
            Self::Settle => ("settle", None, None, None),
        };
        let text = |text: Option<&String>| text.cloned();
        packet(&Written { ask: ask.to_owned(), network: text(network), key: key.cloned(), path: text(path) })
    }

    /// Parses a packet.
    pub fn from_packet(packet: &[u8]) -> Option<Self> {
        let Written { ask, network, key, path } = serde_json::from_slice(packet).ok()?;
        Some(match ask.as_str() {
            "hello" => Self::Hello,
            "sync" => Self::Sync { network: network?, key },
            "adopt" => Self::Adopt { network: network?, key: key? },
            "reexec" => Self::Reexec { path: path? },
            "records" => Self::Records,
            "cache" => Self::Cache { network: network? },
            "settle" => Self::Settle,
            _ => return None,
        })
    }
}

impl ControlResponse {
    /// The response of this process.
    pub fn new(error: Option<String>) -> Self {
        Self {
            protocol: PROTOCOL,
            build: cni::RELEASE.into(),
            pid: std::process::id(),
            error,
            detached: false,
            cache: None,
        }
    }

    /// The response while the records are removed.
    pub fn detached() -> Self {
        let why = "the records were removed, and are not written again yet".to_owned();
        Self { detached: true, ..Self::new(Some(why)) }
    }

    /// Serializes to a packet.
    pub fn to_packet(&self) -> Vec<u8> {
        packet(self)
    }

    /// Parses a packet.
    ///
    /// # Errors
    /// It is malformed.
    pub fn from_packet(packet: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(packet)
    }
}

fn packet(message: &impl Serialize) -> Vec<u8> {
    // Strings and numbers always serialize.
    serde_json::to_vec(message).unwrap_or_default()
}
