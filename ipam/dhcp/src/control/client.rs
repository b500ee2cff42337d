//! The plugin's side of the daemon's socket.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{error, fmt};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::{ControlRequest, ControlResponse, LINE_MAX, REFERENCE_RESPONSE, line};

/// How long the daemon may take. It responds within milliseconds, and runtimes give up on a plugin
/// after about ten seconds at the earliest.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no response.
#[derive(Debug)]
pub enum CallError {
    /// There is no daemon: no socket, or nobody listens.
    Absent,
    /// The connection was closed before the response.
    Gone,
    /// The reference's daemon listens.
    Reference,
    /// It is another user's.
    OtherUser(u32),
    /// There was no response in time.
    Silent,
    /// The response cannot be read.
    Malformed,
    /// The kernel refused.
    Kernel(io::Error),
}

/// A failed call of the daemon at a path.
#[derive(Debug)]
pub struct Failed {
    /// The path of its socket.
    pub path: PathBuf,
    /// Why.
    pub cause: CallError,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.cause {
            CallError::Absent => write!(f, "error dialing DHCP daemon: nobody listens at {path}"),
            CallError::Gone => write!(f, "the DHCP daemon at {path} went away before it answered"),
            CallError::Reference => write!(
                f,
                "the DHCP daemon at {path} is that of the reference plugins, which speaks another protocol: \
                 stop it (systemctl disable --now cni-dhcp.socket cni-dhcp.service), or set ipam.daemonSocketPath"
            ),
            CallError::OtherUser(uid) => write!(f, "the process that listens at {path} is user {uid}'s"),
            CallError::Silent => {
                write!(f, "the DHCP daemon at {path} did not answer within {} s", TIMEOUT.as_secs())
            }
            CallError::Malformed => write!(f, "what listens at {path} is no DHCP daemon of Moor"),
            CallError::Kernel(_) => write!(f, "error dialing DHCP daemon: {path}"),
        }
    }
}

impl error::Error for Failed {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.cause {
            CallError::Kernel(error) => Some(error),
            _ => None,
        }
    }
}

impl Failed {
    /// Whether a daemon may be started there.
    pub fn is_absent(&self) -> bool {
        matches!(self.cause, CallError::Absent | CallError::Gone)
    }
}

/// Sends a request to the daemon at a path, and reads the response.
///
/// # Errors
/// See [`CallError`]. A failure of the daemon is in the response.
pub fn call(path: &Path, request: &ControlRequest) -> Result<ControlResponse, Failed> {
    exchange(path, request).map_err(|cause| Failed { path: path.to_owned(), cause })
}

fn exchange(path: &Path, request: &ControlRequest) -> Result<ControlResponse, CallError> {
    let deadline = Instant::now() + TIMEOUT;
    let mut stream = connected(path)?;
    stream.write_all(&line(request)).map_err(failed)?;
    let mut answer = Vec::new();
    loop {
        let mut piece = [0; 1024];
        let length = uninterrupted(|| stream.read(&mut piece)).map_err(failed)?;
        answer.extend_from_slice(piece.get(..length).unwrap_or_default());
        if answer.starts_with(REFERENCE_RESPONSE) {
            return Err(CallError::Reference);
        }
        if let Some(end) = answer.iter().position(|byte| *byte == b'\n') {
            let line = answer.get(..end).unwrap_or_default();
            return serde_json::from_slice(line).map_err(|_| CallError::Malformed);
        }
        if length == 0 {
            return Err(if answer.is_empty() { CallError::Gone } else { CallError::Malformed });
        }
        if answer.len() > LINE_MAX {
            return Err(CallError::Malformed);
        }
        if Instant::now() >= deadline {
            return Err(CallError::Silent);
        }
    }
}

/// A connection on which nothing waits for longer than [`TIMEOUT`], not even connect(2).
fn connected(path: &Path) -> Result<UnixStream, CallError> {
    let kernel = |errno: Errno| CallError::Kernel(errno.into());
    let socket =
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(kernel)?;
    let limit = TimeVal::new(TIMEOUT.as_secs().cast_signed(), 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit).map_err(kernel)?;
    setsockopt(&socket, sockopt::SendTimeout, &limit).map_err(kernel)?;
    let address = UnixAddr::new(path).map_err(kernel)?;
    let connected = uninterrupted(|| Ok(connect(socket.as_raw_fd(), &address)?));
    connected.map_err(failed)?;
    let peer = getsockopt(&socket, sockopt::PeerCredentials).map_err(kernel)?;
    if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
        return Err(CallError::OtherUser(peer.uid()));
    }
    Ok(socket.into())
}

/// Repeats a call that was interrupted: by the end of a close in the background, since a socket with
/// a time limit is not waited for again (signal(7)).
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn failed(error: io::Error) -> CallError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTDIR) => CallError::Absent,
        Some(Errno::EPIPE | Errno::ECONNRESET) => CallError::Gone,
        Some(Errno::EAGAIN) => CallError::Silent,
        _ => CallError::Kernel(error),
    }
}
