//! The plugin side of the control socket.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{error, fmt};

use daemon::packet::{self, CallError, Server};
use daemon::process::Process;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, connect, getsockopt, recv, socket as new_socket, sockopt,
};

use super::{ControlRequest, ControlResponse, PACKET_MAX};
use crate::record::{RESPONDER, RESPONDER_LOCK, StateDir};

/// How long the responder may take. It responds within a millisecond; runtimes give up on a
/// plugin after about ten seconds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often to check meanwhile whether it is stopped.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no response.
#[derive(Debug)]
pub enum Error {
    /// There is no responder: no socket, or nobody listens.
    Absent,
    /// The connection was closed before the response.
    Gone,
    /// There was no response in time; the process, as far as it is visible.
    Silent(Option<Process>),
    /// The response cannot be parsed.
    Malformed(serde_json::Error),
    /// The kernel refused.
    Kernel(sys::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no responder"),
            Self::Gone => f.write_str("the responder went away before it answered"),
            Self::Silent(Some(process)) if process.is_stopped() => {
                write!(f, "the responder ({process}) does not answer: continue it (kill -CONT) or kill it")
            }
            Self::Silent(process) => {
                f.write_str("the responder")?;
                if let Some(process) = process {
                    write!(f, " ({process})")?;
                }
                write!(f, " did not answer within {} s", TIMEOUT.as_secs())
            }
            Self::Malformed(_) => f.write_str("the responder's answer cannot be read"),
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            Self::Kernel(error) => error.source(),
            _ => None,
        }
    }
}

/// Opens a socket that is not connected yet.
///
/// # Errors
/// The kernel refused.
pub fn socket() -> sys::Result<OwnedFd> {
    packet::socket(POLL_INTERVAL)
}

/// Connects to the responder that listens at `path`, and sends a request with descriptors.
///
/// # Errors
/// See [`Error`]. A failure of the responder is in the response.
pub fn call(
    socket: &OwnedFd,
    path: &Path,
    request: &ControlRequest,
    descriptors: &[BorrowedFd<'_>],
) -> Result<ControlResponse, Error> {
    let until = Instant::now() + TIMEOUT;
    let lock = path.with_file_name(RESPONDER_LOCK);
    let responder = responder(path, &lock);
    responder.connect(socket, until)?;
    let mut answer = [0; PACKET_MAX];
    let length = responder.exchange(socket, until, &request.to_packet(), descriptors, &mut answer)?;
    ControlResponse::from_packet(answer.get(..length).unwrap_or_default()).map_err(Error::Malformed)
}

/// Connects to the responder that listens at `path`.
///
/// # Errors
/// See [`Error`].
pub fn connect_to(socket: &OwnedFd, path: &Path) -> Result<(), Error> {
    let lock = path.with_file_name(RESPONDER_LOCK);
    Ok(responder(path, &lock).connect(socket, Instant::now() + TIMEOUT)?)
}

fn responder<'a>(socket: &'a Path, lock: &'a Path) -> Server<'a> {
    Server { what: "responder", socket, lock, name: super::PROCESS_NAME }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Absent => Self::Absent,
            CallError::Gone => Self::Gone,
            CallError::Silent(process) => Self::Silent(process),
            CallError::Kernel(error) => Self::Kernel(error),
        }
    }
}

/// Connects to a responder that lost its state directory, if there is one: its user is ours, root,
/// or the responder's own. Never waits.
#[must_use]
pub fn connect_fallback(state_dir: &StateDir) -> Option<OwnedFd> {
    let own = |uid| uid == 0 || uid == RESPONDER || uid == nix::unistd::geteuid().as_raw();
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = new_socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).ok()?;
    connect(socket.as_raw_fd(), &super::fallback_address(state_dir).ok()?).ok()?;
    let peer = getsockopt(&socket, sockopt::PeerCredentials).ok()?;
    (own(peer.uid()) && has_our_files(peer.pid())).then_some(socket)
}

/// Whether the process has our mount namespace or that of init. A container in the host's
/// network namespace may run as any user, but has another.
fn has_our_files(pid: i32) -> bool {
    let files = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let its = files(&pid.to_string());
    its.is_some() && (its == files("self") || its == files("1"))
}

/// Sends a request with descriptors over a connection.
///
/// # Errors
/// See [`Error`]. A failure of the responder is in the response.
pub fn call_connected(
    socket: &OwnedFd,
    request: &ControlRequest,
    descriptors: &[BorrowedFd<'_>],
) -> Result<ControlResponse, Error> {
    let until = Instant::now() + TIMEOUT;
    let kernel = |errno| Error::Kernel(sys::Error::new("ask", "the responder", errno));
    packet::send(socket, &request.to_packet(), descriptors).map_err(kernel)?;
    let mut answer = [0; PACKET_MAX];
    loop {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut waiting, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) => return Err(Error::Silent(None)),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(kernel(errno)),
            Ok(_) => {}
        }
        match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(kernel(errno)),
            Ok(0) => return Err(Error::Gone),
            Ok(length) => {
                return ControlResponse::from_packet(answer.get(..length).unwrap_or_default())
                    .map_err(Error::Malformed);
            }
        }
    }
}
