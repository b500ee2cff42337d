//! The daemon's socket: systemd's, or its own in place of a dead daemon's.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, getsockopt, socket, sockopt};
use sys::file::{self, Hold};
use sys::{Error, Result};

use super::args::Args;
use crate::record::Store;

/// The number of the first descriptor of systemd (sd_listen_fds(3)).
const FIRST: i32 = 3;
/// A socket's directory and the socket.
const DIR_MODE: u32 = 0o700;
const SOCKET_MODE: u32 = 0o600;
/// How long another daemon may take to exit.
const PATIENCE: Duration = Duration::from_secs(2);

/// The listening socket.
pub struct Listening {
    /// The socket.
    pub listener: UnixListener,
    /// Its path, if this process made it.
    pub own: Option<PathBuf>,
    /// Held while this daemon runs.
    _lock: Option<File>,
}

impl Listening {
    /// Takes systemd's socket, or makes one.
    ///
    /// # Errors
    /// Another daemon runs, or the kernel refused.
    pub fn open(args: &Args, store: &Store) -> Result<Self> {
        let lock = lock(args, store)?;
        if let Some(listener) = passed()? {
            write_pid(args)?;
            return Ok(Self { listener, own: None, _lock: Some(lock) });
        }
        let path = args.reached(&args.socket);
        let fail = |cause: io::Error| Error::new("listen at", path.display().to_string(), cause);
        if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
            fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(fail)?;
        }
        if in_use(&path) {
            let cause = io::Error::new(io::ErrorKind::AddrInUse, "another process listens there");
            return Err(fail(cause));
        }
        // A dead daemon's.
        file::remove(&path)?;
        // Whoever reaches the socket finds the file, too.
        write_pid(args)?;
        // The mode before anybody can connect.
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o777 & !SOCKET_MODE));
        let listener = UnixListener::bind(&path);
        nix::sys::stat::umask(mask);
        let listener = listener.map_err(fail)?;
        fs::set_permissions(&path, Permissions::from_mode(SOCKET_MODE)).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        Ok(Self { listener, own: Some(path), _lock: Some(lock) })
    }

    /// Stops listening.
    pub fn close(&self) {
        if let Some(path) = &self.own {
            // A socket that nobody listens at is replaced by the next daemon.
            let _ = file::remove(path);
        }
    }
}

/// One daemon for a socket and its leases.
fn lock(args: &Args, store: &Store) -> Result<File> {
    // A path as one name, so that two paths never share a lock.
    let name = args.socket.display().to_string().replace('%', "%25").replace('/', "%2f");
    let path = store.dir().join(format!(".daemon{name}"));
    let lock = file::open_lock(&path)?;
    // One that makes room for this one needs a moment.
    file::lock_bounded(&lock, &path, Hold::Alone, PATIENCE)?;
    Ok(lock)
}

/// Whether a process listens at a path. A connection that would have to wait is one.
fn in_use(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let attempt = || -> nix::Result<()> {
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(path)?)
    };
    matches!(attempt(), Ok(()) | Err(nix::errno::Errno::EAGAIN))
}

fn write_pid(args: &Args) -> Result<()> {
    let Some(path) = &args.pid_file else { return Ok(()) };
    let text = format!("{}\n", std::process::id());
    file::replace_whole(path, text.as_bytes(), 0o644, file::Sync::Later)
}

/// The socket that systemd passes, if it does.
fn passed() -> Result<Option<UnixListener>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    let fail = |cause: io::Error| Error::new("take over", "the socket of systemd", cause);
    let invalid = |why: &str| fail(io::Error::new(io::ErrorKind::InvalidInput, why));
    match number("LISTEN_FDS") {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(_) => return Err(invalid("too many sockets: one is expected")),
    }
    let socket: OwnedFd = sys::process::inherited_descriptor(FIRST)?;
    let kind = getsockopt(&socket, sockopt::SockType).map_err(|errno| fail(errno.into()))?;
    if kind != SockType::Stream {
        return Err(invalid("it is not a stream socket (ListenStream=)"));
    }
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true).map_err(fail)?;
    Ok(Some(listener))
}
