//! Where a responder listens to plugins.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use crate::record::Place;

/// Connections that may wait in the kernel.
const BACKLOG: i32 = 128;

/// A socket that listens at the path, in the place of one that a dead responder left.
///
/// # Errors
/// The kernel refused.
pub fn at_path(path: &Path) -> sys::Result<OwnedFd> {
    let fail = |cause: io::Error| sys::Error::new("listen at", path.display().to_string(), cause);
    sys::file::remove(path)?;
    let socket = bound(&UnixAddr::new(path).map_err(|errno| fail(errno.into()))?).map_err(fail)?;
    // The directory keeps others out; nobody can connect before it listens.
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(fail)?;
    listening(socket).map_err(fail)
}

/// A socket that listens at [`rear`].
///
/// # Errors
/// Somebody has that name already, or the kernel refused.
pub fn at_rear(place: &Place) -> io::Result<OwnedFd> {
    listening(bound(&rear(place)?)?)
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

/// The address at which a responder is found whose place was removed: a name of the network namespace (unix(7), abstract),
/// which no file stands for. Places of the same path are told apart by the filesystem that they are on, which outlives them.
/// Anybody may take such a name first, or connect to it: both ends look who the other is.
///
/// # Errors
/// The name would be too long, or there is no filesystem.
pub fn rear(place: &Place) -> io::Result<UnixAddr> {
    let dirs = place.dir().ancestors().skip(1);
    let device = dirs
        .filter(|dir| !dir.starts_with(sys::file::RUN_DIR))
        .find_map(|dir| Some(fs::metadata(dir).ok()?.dev()));
    let device = device.ok_or(io::ErrorKind::NotFound)?;
    let name = format!("moor-dns {device:x} {}", place.dir().display());
    Ok(UnixAddr::new_abstract(name.as_bytes())?)
}
