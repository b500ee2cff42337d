//! A packet socket on one link: whole Ethernet frames, in and out (packet(7)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::calls;

/// `ETH_P_ALL` of linux/if_ether.h: frames of every protocol, incoming and outgoing.
pub const EVERY_PROTOCOL: u16 = 3;

/// Opens a packet socket on the link `index` of the calling thread's network namespace. It receives
/// only frames of `protocol` (`ETH_P_*`, linux/if_ether.h) on that link.
///
/// # Errors
/// The caller lacks CAP_NET_RAW, or there is no such link.
pub fn open(index: u32, protocol: u16) -> io::Result<OwnedFd> {
    let index = i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // Without a protocol the socket receives nothing until it is bound to its link.
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    calls::bind_packet(socket.as_fd(), protocol, index)?;
    Ok(socket)
}
