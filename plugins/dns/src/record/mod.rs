//! The records: one file for each network and each attachment, written atomically.
//!
//! ```text
//! <root>/<network namespace>/          0700
//!   lock                               held by a plugin while it changes records; never removed
//!   responder.lock                     held by the responder for its life
//!   control.sock                       see [`crate::control`]
//!   net/                               02750 and 0640 for files, group [`RESPONDER`]
//!   net/<network>/network.json         [`Network`]
//!   net/<network>/att/<id>@<if>.json   [`Attachment`]; `=<ip>@dnsname.json`: see [`dnsname_key`]
//!   net/<network>/remote/<host>.json   containers on other hosts: see [`crate::remote`]
//! ```
//!
//! Attachments are added, replaced and removed one by one, each by one atomic operation in a
//! directory. No file is changed in place, so no update is lost and none is seen half written.
//! Names of containers do not appear in paths.

mod access;
mod attachment;
mod file;
mod name;
mod network;
mod prefix;
mod remote;
mod state_dir;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use sys::file::Newer;

pub use access::RESPONDER;
pub use attachment::{Attachment, DNSNAME_PREFIX, Key, Namespace, dnsname_key};
pub use file::{NETWORK_FILE, NetworkRecords, Unreadable};
pub use name::encoded;
pub use network::{ANSWERS_KEPT, CrossNetwork, Mode, Network};
pub use remote::{REMOTE_FILE_MAX, RemoteFile, Stamp, Usable, read_remote};
pub use state_dir::{RESPONDER_LOCK, StateDir};

/// The version of the records that this release writes and reads.
pub const VERSION: u32 = 1;
/// The longest file that is read, in bytes.
pub const FILE_MAX: usize = 64 << 10;
/// The most attachments of one network.
pub const ATTACHMENTS_MAX: usize = 4096;

/// Why a record cannot be read.
#[derive(Debug)]
pub enum Error {
    /// The kernel refused.
    Kernel(sys::Error),
    /// The content is invalid.
    Malformed(String),
    /// A newer release wrote it, in a version that this release does not know.
    Newer(Newer),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => error.fmt(f),
            Self::Malformed(why) => write!(f, "malformed: {why}"),
            Self::Newer(newer) => newer.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kernel(error) => error.source(),
            _ => None,
        }
    }
}

impl From<sys::Error> for Error {
    fn from(error: sys::Error) -> Self {
        Self::Kernel(error)
    }
}
