//! A packet socket on one link: whole Ethernet frames, in and out (packet(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

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

/// As [`open`], for IPv4 alone: receives only UDP datagrams to `port`, and no fragments.
///
/// # Errors
/// As for [`open`].
pub fn open_filtered(index: u32, protocol: u16, port: u32) -> io::Result<OwnedFd> {
    with_filter(index, protocol, &udp_to(port))
}

/// As [`open`], for IPv6 alone: receives only ICMPv6 messages of this type, without extension
/// headers.
///
/// # Errors
/// As for [`open`].
pub fn open_icmpv6(index: u32, protocol: u16, kind: u8) -> io::Result<OwnedFd> {
    with_filter(index, protocol, &icmpv6(kind))
}

/// A packet socket that sends by any link of its network namespace, and receives nothing. Closing a
/// socket waits for an RCU grace period, so a process of long life keeps one.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// Opens it in the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// The caller lacks CAP_NET_RAW, which sending does not need.
    pub fn open() -> io::Result<Self> {
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?))
    }

    /// Sends a whole frame by the link `index`.
    ///
    /// # Errors
    /// The link is down or gone.
    pub fn send(&self, index: u32, frame: &[u8]) -> io::Result<()> {
        let index = i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // Without a protocol nothing is received.
        calls::bind_packet(self.0.as_fd(), 0, index)?;
        send(self.0.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }
}

fn with_filter(index: u32, protocol: u16, filter: &[calls::FilterStep]) -> io::Result<OwnedFd> {
    let number = i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    calls::attach_filter(socket.as_fd(), filter)?;
    calls::bind_packet(socket.as_fd(), protocol, number)?;
    Ok(socket)
}

/// linux/bpf_common.h: loads of a half word and a byte at a place, and of a half word behind the
/// header; four times the lower half of a byte into the index; jumps; the return of a number.
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_BEHIND: u16 = 0x48;
const LOAD_HEADER_LENGTH: u16 = 0xb1;
const IF_EQUAL: u16 = 0x15;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
/// netinet/in.h: IPPROTO_UDP.
const PROTOCOL_UDP: u32 = 17;
const PROTOCOL_ICMPV6: u32 = 58;
/// Offset and "more fragments" of IPv4's fragment field.
const FRAGMENT: u32 = 0x3fff;

/// The filter for frames with a UDP datagram over IPv4 to a port.
fn udp_to(port: u32) -> [calls::FilterStep; 9] {
    [
        // The protocol, and the fragment field.
        (LOAD_BYTE, 0, 0, 23),
        (IF_EQUAL, 0, 6, PROTOCOL_UDP),
        (LOAD_HALF, 0, 0, 20),
        (IF_ANY_BIT, 4, 0, FRAGMENT),
        // The length of IPv4's header, and the port behind it.
        (LOAD_HEADER_LENGTH, 0, 0, 14),
        (LOAD_HALF_BEHIND, 0, 0, 16),
        (IF_EQUAL, 0, 1, port),
        (RETURN, 0, 0, u32::MAX),
        (RETURN, 0, 0, 0),
    ]
}

/// The filter for frames with an ICMPv6 message of a type.
fn icmpv6(kind: u8) -> [calls::FilterStep; 6] {
    [
        // The next header, and the type right behind IPv6's header.
        (LOAD_BYTE, 0, 0, 20),
        (IF_EQUAL, 0, 3, PROTOCOL_ICMPV6),
        (LOAD_BYTE, 0, 0, 54),
        (IF_EQUAL, 0, 1, u32::from(kind)),
        (RETURN, 0, 0, u32::MAX),
        (RETURN, 0, 0, 0),
    ]
}
