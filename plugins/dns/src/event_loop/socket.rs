//! Internet sockets: non-blocking, and closed on exec.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt, socket,
    sockopt,
};

/// Size of a receive buffer, as far as the kernel allows it.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Connections that wait in the kernel for accept(2).
const BACKLOG: i32 = 128;

/// A socket that could not be bound.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    protocol: &'static str,
    cause: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, protocol, cause } = self;
        write!(f, "listen at {address} over {protocol}: {cause}")
    }
}

impl ListenError {
    /// Whether another socket is bound to the address.
    pub fn is_address_in_use(&self) -> bool {
        self.cause.kind() == io::ErrorKind::AddrInUse
    }
}

fn new_socket(address: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

fn bind_to(address: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let socket = new_socket(address, kind)?;
    // The address may still be tentative, and its link may be deleted and created again.
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    if address.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    if kind == SockType::Stream {
        // Connections in TIME_WAIT do not block the address.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    } else {
        // Above net.core.rmem_max where privileges allow it: a busy machine reads datagrams late.
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER))?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    if kind == SockType::Stream {
        listen(&socket, Backlog::new(BACKLOG)?)?;
    }
    Ok(socket)
}

/// Opens a UDP and a TCP socket at an address, which need not be assigned to a link yet.
///
/// # Errors
/// The kernel refused one of them.
pub fn listen_at(address: SocketAddr) -> Result<(UdpSocket, TcpListener), ListenError> {
    let fail = |protocol| move |cause: Errno| ListenError { address, protocol, cause: cause.into() };
    let udp = bind_to(address, SockType::Datagram).map_err(fail("UDP"))?;
    let tcp = bind_to(address, SockType::Stream).map_err(fail("TCP"))?;
    Ok((udp.into(), tcp.into()))
}

/// Opens a socket from an ephemeral port and connects it. A TCP connection may be in progress.
///
/// # Errors
/// The kernel refused, or has no route to the address.
pub fn connect_to(address: SocketAddr, tcp: bool) -> io::Result<OwnedFd> {
    let socket = new_socket(address, if tcp { SockType::Stream } else { SockType::Datagram })?;
    match connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether accept(2) failed for one connection only, so that the next call may succeed.
pub fn fails_one_connection_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}
