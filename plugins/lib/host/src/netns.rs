//! Network namespaces.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct NetNs {
    file: File,
}

/// Why a path could not be opened as a network namespace (C-113).
#[derive(Debug)]
pub enum NetNsError {
    /// There is nothing at the path: the container is gone.
    Gone {
        /// The path as given.
        path: PathBuf,
    },
    /// What is there is something else.
    NotANetNs {
        /// The path as given.
        path: PathBuf,
        /// The type of the file system it is on (`statfs` `f_type`).
        magic: u64,
    },
    /// It could not be looked at.
    Io {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NetNs {
    /// Opens `path`, which is a bind mount of a namespace or `/proc/<pid>/ns/net`. Never blocks, whatever the
    /// path leads to.
    ///
    /// # Errors
    /// See [`NetNsError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetNsError> {
        unimplemented!()
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> crate::Result<Self> {
        unimplemented!()
    }

    /// Whether both are one namespace.
    ///
    /// # Errors
    /// `fstat` failed.
    pub fn same_as(&self, other: &Self) -> crate::Result<bool> {
        unimplemented!()
    }

    /// Runs `f` with this thread inside the namespace, and comes back, also when `f` panics.
    /// A thread that cannot come back would do harm in the wrong namespace: the process is aborted.
    ///
    /// # Errors
    /// The namespace could not be entered; `f` was not called.
    pub fn enter<T>(&self, f: impl FnOnce() -> T) -> crate::Result<T> {
        unimplemented!()
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Display for NetNsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { path } => write!(f, "network namespace \"{}\" does not exist", path.display()),
            Self::NotANetNs { path, magic } => {
                write!(f, "unknown FS magic on \"{}\": {magic:x}", path.display())
            }
            Self::Io { path, .. } => write!(f, "open network namespace \"{}\"", path.display()),
        }
    }
}

impl std::error::Error for NetNsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
