//! What failed, on what, and what the kernel said.

use std::fmt;
use std::io;

/// `Result` with this crate's error, unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation that failed.
///
/// `{}` is one clause without the cause, which [`std::error::Error::source`] gives (so that a
/// caller who joins the chain does not repeat it); `{:#}` is the whole sentence.
#[derive(Debug)]
pub enum Error {
    /// A system call or a netlink request failed.
    Kernel {
        /// What was tried: `"create veth"`.
        op: &'static str,
        /// On what: an interface name, a route, a path.
        object: String,
        /// The kernel's own words (netlink extended acknowledgement), if it had any.
        message: Option<String>,
        /// The errno, or `InvalidData` for a malformed answer, `TimedOut` when none came.
        source: io::Error,
    },
    /// A larger step failed by this.
    Within {
        /// The step.
        step: String,
        /// Why it failed.
        source: Box<Error>,
    },
    /// The kernel did what it was asked, and a crate that builds on this one has a reason of its
    /// own to fail: [`Error::reason`] returns it.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An error without a word from the kernel but its errno. `op` is a verb phrase, `object` what
    /// it was done to.
    pub fn new(op: &'static str, object: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Kernel { op, object: object.into(), message: None, source: source.into() }
    }

    /// The same error as the cause of a larger step's failure.
    pub fn within(self, step: String) -> Self {
        Self::Within { step, source: Box::new(self) }
    }

    /// The reason of [`Error::Other`], if it is of this type.
    pub fn reason<T: std::error::Error + 'static>(&self) -> Option<&T> {
        match self {
            Self::Other(reason) => reason.downcast_ref(),
            _ => None,
        }
    }

    /// The errno, if one is at the bottom of this.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error(),
            Self::Within { source, .. } => source.errno(),
            Self::Other(_) => None,
        }
    }

    /// EEXIST: the thing is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// ENODEV, ENOENT, ESRCH, ENXIO or EADDRNOTAVAIL: the thing (or the link it is on) is not
    /// there.
    pub fn is_not_found(&self) -> bool {
        const ABSENT: [i32; 5] = [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::ENXIO, libc::EADDRNOTAVAIL];
        self.errno().is_some_and(|errno| ABSENT.contains(&errno))
    }

    /// EOPNOTSUPP or EAFNOSUPPORT: this kernel was built without it, or the device does not do it.
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
