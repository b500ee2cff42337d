//! A packet socket on one link: whole Ethernet frames, in and out (packet(7)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::calls;

/// `ETH_P_ALL` of linux/if_ether.h: frames of every protocol, also those that leave.
pub const EVERY_PROTOCOL: u16 = 3;

/// Opens one for the link `index` of the network namespace that the calling thread is in. It hears frames of that
/// protocol (`ETH_P_*`, linux/if_ether.h) and of no other link.
///
/// # Errors
/// The caller lacks CAP_NET_RAW, or there is no such link.
pub fn open(index: u32, protocol: u16) -> io::Result<OwnedFd> {
    let index = i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // Without a protocol it hears nothing until it is bound to its link.
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    calls::bind_packet(socket.as_fd(), protocol, index)?;
    Ok(socket)
}
