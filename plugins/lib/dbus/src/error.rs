//! Errors of calls.

use std::fmt;
use std::io;

/// `Result` with this crate's error, unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The most characters of another program's text in an error.
const SHOWN_MAX: usize = 300;

/// A call that failed.
#[derive(Debug)]
pub enum Error {
    /// A system call failed.
    Io {
        /// What was tried.
        op: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// No complete answer came in time.
    Silent {
        /// Who did not answer.
        whom: String,
        /// The time limit in milliseconds.
        limit_ms: u128,
    },
    /// The bus does not accept this user.
    Refused {
        /// Its line.
        line: String,
    },
    /// What came is not of the protocol.
    Malformed(Fault),
    /// The other program answered with an error.
    Failed {
        /// The error's name.
        name: String,
        /// Its text.
        text: String,
    },
}

/// A fault in bytes from the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They end within a value.
    Short,
    /// Longer than any answer to a call of ours.
    Long,
    /// A string is not UTF-8, or has no end, or contains a zero byte.
    Text,
    /// A header that the specification does not have.
    Header,
    /// A boolean that is neither 0 nor 1.
    Boolean,
    /// A line of authentication without an end.
    Line,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "a message ends too early",
            Self::Long => "a message is too long",
            Self::Text => "a string is invalid",
            Self::Header => "a header is invalid",
            Self::Boolean => "a boolean is invalid",
            Self::Line => "a line of authentication does not end",
        })
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Malformed(fault)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { op, source } => write!(f, "{op} the system bus: {source}"),
            Self::Silent { whom, limit_ms } => write!(f, "{whom} did not answer within {limit_ms} ms"),
            Self::Refused { line } => write!(f, "the system bus refused this user: {:?}", shown(line)),
            Self::Malformed(fault) => write!(f, "the system bus does not speak D-Bus: {fault}"),
            Self::Failed { name, text } => write!(f, "{}: {}", shown(name), shown(text)),
        }
    }
}

/// Another program's text, in one line of bounded length.
fn shown(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(SHOWN_MAX).collect()
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
