//! Errors: the operation, its object, and the kernel's reason.

use std::fmt;
use std::io;

/// `Result` with this crate's error, unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation that failed.
///
/// `{}` prints one clause without the cause, which [`std::error::Error::source`] returns (so that a
/// caller who joins the chain does not repeat it); `{:#}` prints the whole sentence.
#[derive(Debug)]
pub enum Error {
    /// A system call or a netlink request failed.
    Kernel {
        /// What was tried: `"create veth"`.
        op: &'static str,
        /// On what: an interface name, a route, a path.
        object: String,
        /// The kernel's own message (netlink extended acknowledgement), if it sent one.
        message: Option<String>,
        /// The errno, or `InvalidData` for a malformed answer, `TimedOut` when none came.
        source: io::Error,
    },
    /// A larger step failed because of this error.
    Within {
        /// The step.
        step: String,
        /// Why it failed.
        source: Box<Error>,
    },
    /// The kernel call succeeded, but a crate built on this one has a reason of its own to fail:
    /// [`Error::reason`] returns it.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An error with an errno and no message from the kernel. `op` is a verb phrase, `object` what
    /// it was done to.
    pub fn new(op: &'static str, object: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Kernel { op, object: object.into(), message: None, source: source.into() }
    }

    /// Wraps the error as the cause of a larger step's failure.
    pub fn within(self, step: String) -> Self {
        Self::Within { step, source: Box::new(self) }
    }

    /// The reason inside [`Error::Other`] at the end of the chain, if it has this type.
    pub fn reason<T: std::error::Error + 'static>(&self) -> Option<&T> {
        match self {
            Self::Other(reason) => reason.downcast_ref(),
            Self::Within { source, .. } => source.reason(),
            Self::Kernel { .. } => None,
        }
    }

    /// The errno at the end of the chain, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error(),
            Self::Within { source, .. } => source.errno(),
            Self::Other(_) => None,
        }
    }

    /// EEXIST: the object already exists.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// ENODEV, ENOENT, ESRCH, ENXIO or EADDRNOTAVAIL: the object (or the link it is on) does not
    /// exist.
    pub fn is_not_found(&self) -> bool {
        const ABSENT: [i32; 5] = [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::ENXIO, libc::EADDRNOTAVAIL];
        self.errno().is_some_and(|errno| ABSENT.contains(&errno))
    }

    /// EOPNOTSUPP or EAFNOSUPPORT: the kernel was built without the feature, or the device lacks
    /// it.
    pub fn is_not_supported(&self) -> bool {
        matches!(self.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { op, object, message, source } => {
                write!(f, "{op} {object}")?;
                if let Some(message) = message {
                    write!(f, ": {message}")?;
                }
                if f.alternate() { write!(f, ": {source}") } else { Ok(()) }
            }
            Self::Within { step, source } => {
                f.write_str(step)?;
                if f.alternate() { write!(f, ": {source:#}") } else { Ok(()) }
            }
            Self::Other(reason) => write!(f, "{reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kernel { source, .. } => Some(source),
            Self::Within { source, .. } => Some(source.as_ref()),
            Self::Other(reason) => reason.source(),
        }
    }
}
