//! The plugin side of a daemon's control socket: SOCK_SEQPACKET, one packet each way.

use std::ffi::CStr;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv,
    sendmsg, setsockopt, socket as new_socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::process::Process;

/// A daemon that listens.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// What it is, in messages.
    pub what: &'static str,
    /// The path of its socket.
    pub socket: &'a Path,
    /// Its lock file, which begins with its process id.
    pub lock: &'a Path,
    /// Its name as a process.
    pub name: &'static CStr,
}

/// Why there is no response.
#[derive(Debug)]
pub enum CallError {
    /// There is no daemon: no socket, or nobody listens.
    Absent,
    /// The connection was closed before the response.
    Gone,
    /// There was no response in time; the process, as far as it is visible.
    Silent(Option<Process>),
    /// The kernel refused.
    Kernel(sys::Error),
}

/// Opens a socket that is not connected yet. A call on it wakes up after each interval, to see
/// whether the daemon is stopped, or the time is over.
///
/// # Errors
/// The kernel refused.
pub fn socket(interval: Duration) -> sys::Result<OwnedFd> {
    let fail = |errno| sys::Error::new("open", "a control socket", errno);
    let socket =
        new_socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(fail)?;
    let micros = interval.subsec_micros().into();
    let interval = TimeVal::new(interval.as_secs().cast_signed(), micros);
    setsockopt(&socket, sockopt::ReceiveTimeout, &interval).map_err(fail)?;
    setsockopt(&socket, sockopt::SendTimeout, &interval).map_err(fail)?;
    Ok(socket)
}

/// Sends a packet with descriptors.
///
/// # Errors
/// The kernel refused, or the socket's interval is over.
pub fn send(socket: &OwnedFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let descriptors: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
}

/// The user that listens at the other end of a connection.
///
/// # Errors
/// The kernel refused.
pub fn peer_user(socket: &OwnedFd) -> nix::Result<u32> {
    Ok(getsockopt(socket, sockopt::PeerCredentials)?.uid())
}

impl Server<'_> {
    /// Connects a socket.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn connect(&self, socket: &OwnedFd, until: Instant) -> Result<(), CallError> {
        let address = UnixAddr::new(self.socket).map_err(|errno| self.failed(errno))?;
        self.repeat(until, || connect(socket.as_raw_fd(), &address)).map_err(|errno| self.failed(errno))
    }

    /// Sends a packet with descriptors over a connection, and returns the length of the response.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn exchange(
        &self,
        socket: &OwnedFd,
        until: Instant,
        packet: &[u8],
        descriptors: &[BorrowedFd<'_>],
        response: &mut [u8],
    ) -> Result<usize, CallError> {
        let fail = |errno| self.failed(errno);
        self.repeat(until, || send(socket, packet, descriptors)).map_err(fail)?;
        match self.repeat(until, || recv(socket.as_raw_fd(), response, MsgFlags::empty())).map_err(fail)? {
            0 => Err(CallError::Gone),
            length => Ok(length),
        }
    }

    /// Repeats a call that was interrupted, or whose interval is over. A stopped daemon ends it early.
    fn repeat<T>(&self, until: Instant, mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
        loop {
            match call() {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN)
                    if Instant::now() < until && !self.process().is_some_and(Process::is_stopped) => {}
                done => return done,
            }
        }
    }

    fn process(&self) -> Option<Process> {
        Process::of_lock(self.lock, self.name)
    }

    fn failed(&self, errno: Errno) -> CallError {
        match errno {
            Errno::ENOENT | Errno::ECONNREFUSED => CallError::Absent,
            Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => CallError::Gone,
            Errno::EAGAIN => CallError::Silent(self.process()),
            errno => {
                let object = format!("the {} at {}", self.what, self.socket.display());
                CallError::Kernel(sys::Error::new("ask", object, errno))
            }
        }
    }
}
