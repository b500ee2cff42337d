//! The responder's listening sockets.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use crate::record::StateDir;

/// Connections that wait in the kernel for accept(2).
const BACKLOG: i32 = 128;

/// Listens at a path, in place of the socket of a dead responder.
///
/// # Errors
/// The kernel refused.
pub fn at_path(path: &Path) -> sys::Result<OwnedFd> {
    let fail = |cause: io::Error| sys::Error::new("listen at", path.display().to_string(), cause);
    sys::file::remove(path)?;
    let socket = bound(&UnixAddr::new(path).map_err(|errno| fail(errno.into()))?).map_err(fail)?;
    // The directory is private; no connection succeeds before the socket listens.
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(fail)?;
    listening(socket).map_err(fail)
}

/// Listens at [`fallback_address`].
///
/// # Errors
/// The name is taken, or the kernel refused.
pub fn at_fallback(state_dir: &StateDir) -> io::Result<OwnedFd> {
    listening(bound(&fallback_address(state_dir)?)?)
}

fn bound(address: &UnixAddr) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(socket.as_raw_fd(), address)?;
    Ok(socket)
}

fn listening(socket: OwnedFd) -> io::Result<OwnedFd> {
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket)
}

/// The address of a responder that lost its state directory: an abstract name in the network
/// namespace (unix(7)). It contains the device of the filesystem, since other mount namespaces may
/// have a directory of the same path. Anybody may bind such a name or connect to it, so both ends
/// check the peer's credentials.
///
/// # Errors
/// The name is too long, or there is no filesystem.
pub fn fallback_address(state_dir: &StateDir) -> io::Result<UnixAddr> {
    let dirs = state_dir.dir().ancestors().skip(1);
    let device = dirs
        .filter(|dir| !dir.starts_with(sys::file::RUN_DIR))
        .find_map(|dir| Some(fs::metadata(dir).ok()?.dev()));
    let device = device.ok_or(io::ErrorKind::NotFound)?;
    let name = format!("moor-dns {device:x} {}", state_dir.dir().display());
    Ok(UnixAddr::new_abstract(name.as_bytes())?)
}
