//! The listening control socket.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

/// Connections that wait in the kernel for accept(2).
const BACKLOG: i32 = 128;

/// Listens at a path, in place of the socket of a dead agent.
///
/// # Errors
/// The kernel refused.
pub fn at_path(path: &Path) -> sys::Result<OwnedFd> {
    let fail = |cause: io::Error| sys::Error::new("listen at", path.display().to_string(), cause);
    sys::file::remove(path)?;
    let address = UnixAddr::new(path).map_err(|errno| fail(errno.into()))?;
    let open = || -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        bind(socket.as_raw_fd(), &address)?;
        // The directory is private; no connection succeeds before the socket listens.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listen(&socket, Backlog::new(BACKLOG)?)?;
        Ok(socket)
    };
    open().map_err(fail)
}
