//! Network namespaces.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{fmt, io};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, statfs};

use crate::{Error, calls};

/// An open network namespace, which it keeps alive.
#[derive(Debug)]
pub struct NetNs {
    file: File,
}

/// Why a path could not be opened as a network namespace (C-113).
#[derive(Debug)]
pub enum NetNsError {
    /// Nothing is at the path: the container is gone.
    Gone {
        /// The path as given.
        path: PathBuf,
    },
    /// The path leads to something else.
    NotANetNs {
        /// The path as given.
        path: PathBuf,
        /// The type of the file system it is on (`statfs` `f_type`).
        magic: u64,
    },
    /// The path cannot be examined.
    Io {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NetNs {
    /// Opens `path`, which is a bind mount of a namespace or `/proc/<pid>/ns/net`. Never blocks,
    /// whatever the path names.
    ///
    /// # Errors
    /// See [`NetNsError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetNsError> {
        let path = path.as_ref();
        let io = |source: io::Error| match source.raw_os_error() {
            // ESRCH: the process ended between lookup and open. The others: no file can have such a
            // path.
            Some(libc::ENOENT | libc::ESRCH | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP) => {
                NetNsError::Gone { path: path.to_owned() }
            }
            _ => NetNsError::Io { path: path.to_owned(), source },
        };
        let magic = statfs(path).map_err(|errno| io(errno.into()))?.filesystem_type();
        let not_one =
            || NetNsError::NotANetNs { path: path.to_owned(), magic: u64::try_from(magic.0).unwrap_or(0) };
        // The type is the C library's: signed in glibc, unsigned in musl.
        if magic != FsType(libc::NSFS_MAGIC as _) && magic != PROC_SUPER_MAGIC {
            return Err(not_one());
        }
        // If the path has become a FIFO or a device meanwhile, O_NONBLOCK keeps the open from
        // blocking.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io)?;
        // The filesystem type is not enough: /proc holds ordinary files, and nsfs other kinds of
        // namespaces.
        match calls::namespace_type(file.as_fd()) {
            Ok(libc::CLONE_NEWNET) => Ok(Self { file }),
            Ok(_) => Err(not_one()),
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Err(not_one()),
            Err(error) => Err(io(error)),
        }
    }

    /// Opens the namespace at `path`; `None` when the path is empty or no longer leads to a
    /// namespace. The container's objects went with its namespace, and whatever is at the path now
    /// is not the container's.
    ///
    /// # Errors
    /// [`NetNsError::Io`].
    pub fn open_if_there(path: &str) -> Result<Option<Self>, NetNsError> {
        if path.is_empty() {
            return Ok(None);
        }
        match Self::open(path) {
            Ok(netns) => Ok(Some(netns)),
            Err(NetNsError::Gone { .. } | NetNsError::NotANetNs { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> crate::Result<Self> {
        // Not /proc/self, which is the process's first thread.
        const PATH: &str = "/proc/thread-self/ns/net";
        File::open(PATH).map(|file| Self { file }).map_err(|error| Error::new("open", PATH, error))
    }

    /// The namespace of a socket, which is the creating thread's at that time.
    pub fn of_socket(socket: BorrowedFd<'_>) -> crate::Result<Self> {
        calls::socket_namespace(socket)
            .map(|fd| Self { file: fd.into() })
            .map_err(|error| Error::new("get network namespace of", "a netlink socket", error))
    }

    /// A name for a socket's namespace, for state kept about it. It is unique on this machine until
    /// the next boot or, before Linux 5.14, for as long as the namespace lives.
    ///
    /// # Errors
    /// The kernel is older than Linux 5.14, and `/proc` is not mounted.
    pub fn name_of_socket(socket: BorrowedFd<'_>) -> crate::Result<String> {
        if let Ok(cookie) = calls::netns_cookie(socket) {
            return Ok(cookie.to_string());
        }
        Ok(format!("inode-{}", Self::current()?.inode()?))
    }

    /// The namespace's inode number. It is reused once the namespace is gone; see
    /// [`Self::cookie_of_socket`].
    ///
    /// # Errors
    /// `fstat` failed.
    pub fn inode(&self) -> crate::Result<u64> {
        let inode = self.file.metadata().map(|meta| meta.ino());
        inode.map_err(|error| Error::new("look at", "network namespace", error))
    }

    /// The cookie of a socket's namespace, which is not reused before the next boot; `None` before
    /// Linux 5.14.
    pub fn cookie_of_socket(socket: BorrowedFd<'_>) -> Option<u64> {
        calls::netns_cookie(socket).ok()
    }

    /// Device and inode number, which are the namespace's own as long as it lives.
    ///
    /// # Errors
    /// `fstat` failed.
    pub fn identity(&self) -> crate::Result<(u64, u64)> {
        let identity = self.file.metadata().map(|meta| (meta.dev(), meta.ino()));
        identity.map_err(|error| Error::new("look at", "network namespace", error))
    }

    /// Whether both are the same namespace.
    ///
    /// # Errors
    /// `fstat` failed.
    pub fn same_as(&self, other: &Self) -> crate::Result<bool> {
        Ok(self.identity()? == other.identity()?)
    }

    /// Runs `f` with this thread inside the namespace and returns to the previous one, even when
    /// `f` panics. A thread that cannot return would do harm in the wrong namespace: the process
    /// aborts.
    ///
    /// # Errors
    /// The thread cannot enter the namespace; `f` was not called.
    pub fn enter<T>(&self, f: impl FnOnce() -> T) -> crate::Result<T> {
        let home = Self::current()?;
        setns(self, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::new("enter", "network namespace (needs CAP_SYS_ADMIN)", errno))?;
        // Only from here on is there a way back.
        let home = Home(home);
        let value = f();
        drop(home);
        Ok(value)
    }
}

/// Returns the thread to its namespace when dropped.
struct Home(NetNs);

/// The way back can only fail for lack of memory, which may be temporary.
const ATTEMPTS_HOME: usize = 5;

impl Drop for Home {
    fn drop(&mut self) {
        if (0..ATTEMPTS_HOME).all(|_| setns(&self.0, CloneFlags::CLONE_NEWNET).is_err()) {
            std::process::abort();
        }
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
            Self::Gone { path } => write!(f, "failed to open netns {path:?}: no such file or directory"),
            Self::NotANetNs { path, magic } => {
                write!(f, "failed to open netns {path:?}: unknown FS magic on {path:?}: {magic:x}")
            }
            Self::Io { path, .. } => write!(f, "failed to open netns {path:?}"),
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::privilege::limit_capabilities;

    /// A security module refuses it too, to root with all capabilities.
    #[test]
    fn a_namespace_that_must_not_be_entered_is_an_error() {
        let refused = || {
            limit_capabilities(&[]).unwrap();
            NetNs::current().unwrap().enter(|| unreachable!("it was entered"))
        };
        let error = std::thread::spawn(refused).join().unwrap().unwrap_err();
        assert!(error.to_string().contains("needs CAP_SYS_ADMIN"), "{error}");
    }
}
