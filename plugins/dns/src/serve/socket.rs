//! Sockets, as the responder wants them: not blocking, closed on exec.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt, socket,
    sockopt,
};

/// Bytes of questions that may wait in the kernel (before its own bookkeeping); it gives what it is allowed to.
const QUEUE: usize = 1 << 20;
/// Connections that may wait in the kernel.
const BACKLOG: i32 = 128;

/// An address that could not be bound.
#[derive(Debug)]
pub struct Unbound {
    address: SocketAddr,
    protocol: &'static str,
    cause: io::Error,
}

impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, protocol, cause } = self;
        write!(f, "listen at {address} over {protocol}: {cause}")?;
        if cause.kind() == io::ErrorKind::AddrInUse {
            f.write_str(
                ": another server has it; stop that, or bind it to other addresses, or set \"port\"",
            )?;
        }
        Ok(())
    }
}

fn open(address: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

fn open_at(address: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let socket = open(address, kind)?;
    // The address may be tentative still, and its link may go and come again.
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    if address.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    if kind == SockType::Stream {
        // Connections that are over for us and linger in the kernel are not in the way.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    } else {
        // More than the system allows anybody, as long as we may; a machine that is busy keeps questions waiting.
        setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &QUEUE))?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    if kind == SockType::Stream {
        listen(&socket, Backlog::new(BACKLOG)?)?;
    }
    Ok(socket)
}

/// Opens both sockets of an address; it need not be one of the host's yet.
///
/// # Errors
/// The kernel refused one.
pub fn listen_at(address: SocketAddr) -> Result<(UdpSocket, TcpListener), Unbound> {
    let fail = |protocol| move |cause: Errno| Unbound { address, protocol, cause: cause.into() };
    let udp = open_at(address, SockType::Datagram).map_err(fail("UDP"))?;
    let tcp = open_at(address, SockType::Stream).map_err(fail("TCP"))?;
    Ok((udp.into(), tcp.into()))
}

/// Opens a socket that talks to the address only, from a port of the kernel's choice. A connection of TCP is begun.
///
/// # Errors
/// The kernel refused, or knows no way there.
pub fn towards(address: SocketAddr, tcp: bool) -> io::Result<OwnedFd> {
    let socket = open(address, if tcp { SockType::Stream } else { SockType::Datagram })?;
    match connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a connection failed that was about to be taken in, and others may not (accept(2)).
pub fn is_the_callers(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}
