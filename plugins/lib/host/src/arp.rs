//! Asks on a link who has an address: ARP probes and announcements (RFC 5227) by a packet socket.
//!
//! Closing the socket, or exiting with it open, waits for an RCU grace period (8 to 10 ms), so it
//! is used only on request.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use netlink::Mac;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use sys::{frame, wait};

/// linux/if_ether.h.
const ETH_P_ARP: u16 = 0x0806;
/// Length of an Ethernet header: destination, source, type.
const ETHERNET: usize = 14;
/// RFC 826: hardware Ethernet (1), protocol IPv4 (0x0800), lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Operation of a request (RFC 826).
const REQUEST: u16 = 1;
/// Frames are padded to 60 bytes; nothing after the 28 bytes of ARP is read.
const FRAME: usize = 64;

/// The contents of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    operation: u16,
    sender_mac: Mac,
    sender: Ipv4Addr,
    target: Ipv4Addr,
}

/// Receives and sends the ARP packets of one link.
pub struct ArpSocket {
    socket: OwnedFd,
    /// The link's Ethernet address.
    mac: Mac,
}

impl ArpSocket {
    /// Opens it for the link `index` of the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// The caller lacks CAP_NET_RAW, or there is no such link.
    pub fn open(index: u32, mac: Mac) -> io::Result<Self> {
        Ok(Self { socket: frame::open(index, ETH_P_ARP)?, mac })
    }

    /// Asks who has an address, without claiming it (RFC 5227, section 1.1: ARP probe).
    ///
    /// # Errors
    /// The link is down or gone.
    pub fn probe(&self, address: Ipv4Addr) -> io::Result<()> {
        self.send(Ipv4Addr::UNSPECIFIED, address)
    }

    /// Claims an address (RFC 5227, section 1.1: ARP announcement).
    ///
    /// # Errors
    /// The link is down or gone.
    pub fn announce(&self, address: Ipv4Addr) -> io::Result<()> {
        self.send(address, address)
    }

    fn send(&self, sender: Ipv4Addr, target: Ipv4Addr) -> io::Result<()> {
        let packet = Packet { operation: REQUEST, sender_mac: self.mac, sender, target };
        send(self.socket.as_raw_fd(), &packet.broadcast(), MsgFlags::empty())?;
        Ok(())
    }

    /// Listens until another host claims one of the addresses or probes for it; `None` if none does
    /// before the deadline.
    ///
    /// # Errors
    /// The link is down or gone.
    pub fn wait_for_holder(
        &self,
        addresses: &[Ipv4Addr],
        deadline: Instant,
    ) -> io::Result<Option<(Ipv4Addr, Mac)>> {
        let mut frame = [0; FRAME];
        loop {
            // Also if the packets of others never stop.
            if !wait::readable(&self.socket, deadline)? || Instant::now() > deadline {
                return Ok(None);
            }
            let length = match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let packet = frame.get(..length).and_then(Packet::read);
            if let Some(claim) = packet.and_then(|packet| packet.claim(self.mac, addresses)) {
                return Ok(Some(claim));
            }
        }
    }
}

impl Packet {
    /// The packet as a broadcast frame.
    fn broadcast(&self) -> Vec<u8> {
        [
            &Mac::BROADCAST.0[..],
            &self.sender_mac.0,
            &ETH_P_ARP.to_be_bytes(),
            &ETHERNET_IPV4,
            &self.operation.to_be_bytes(),
            &self.sender_mac.0,
            &self.sender.octets(),
            // The target's hardware address is unknown.
            &[0; 6],
            &self.target.octets(),
        ]
        .concat()
    }

    /// Parses a frame; `None` if it is not ARP for IPv4 on Ethernet.
    fn read(frame: &[u8]) -> Option<Self> {
        let (kind, rest) = frame.get(ETHERNET..)?.split_first_chunk()?;
        let (operation, rest) = rest.split_first_chunk()?;
        let (sender_mac, rest) = rest.split_first_chunk()?;
        let (sender, rest) = rest.split_first_chunk::<4>()?;
        let (_, rest) = rest.split_first_chunk::<6>()?;
        let target = rest.first_chunk::<4>()?;
        (*kind == ETHERNET_IPV4).then(|| Self {
            operation: u16::from_be_bytes(*operation),
            sender_mac: Mac(*sender_mac),
            sender: Ipv4Addr::from(*sender),
            target: Ipv4Addr::from(*target),
        })
    }

    /// The address that the packet conflicts with, and the sender's MAC address (RFC 5227, section
    /// 2.1.1). Any packet from the address conflicts, and any probe for it, unless it is from
    /// `own`.
    fn claim(&self, own: Mac, addresses: &[Ipv4Addr]) -> Option<(Ipv4Addr, Mac)> {
        let probes = self.operation == REQUEST && self.sender.is_unspecified();
        let address = if probes { self.target } else { self.sender };
        (self.sender_mac != own && addresses.contains(&address)).then_some((address, self.sender_mac))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const OURS: Mac = Mac([0x02, 0x00, 0x5e, 0x10, 0x00, 0x01]);
    const THEIRS: Mac = Mac([0x02, 0x00, 0x5e, 0x10, 0x00, 0x99]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
    const REPLY: u16 = 2;

    fn packet(operation: u16, sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Packet {
        Packet { operation, sender_mac, sender, target }
    }

    #[test]
    fn a_probe_asks_everybody_and_claims_nothing() {
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 0x08,
            0x06, // Ethernet
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, // request
            0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 0, 0, 0, 0, // sender
            0, 0, 0, 0, 0, 0, 10, 1, 2, 3, // target
        ];
        assert_eq!(packet(REQUEST, OURS, Ipv4Addr::UNSPECIFIED, ADDRESS).broadcast(), expected);
    }

    /// RFC 5227, section 2.1.1.
    #[test]
    fn who_has_an_address_or_wants_it_is_in_the_way() {
        let none = Ipv4Addr::UNSPECIFIED;
        let other = Ipv4Addr::new(10, 1, 2, 4);
        for (packet, in_the_way) in [
            (packet(REPLY, THEIRS, ADDRESS, none), true),
            (packet(REQUEST, THEIRS, ADDRESS, other), true),
            (packet(REQUEST, THEIRS, ADDRESS, ADDRESS), true),
            (packet(REQUEST, THEIRS, none, ADDRESS), true),
            // A host with another address asks for it.
            (packet(REQUEST, THEIRS, other, ADDRESS), false),
            (packet(REPLY, THEIRS, other, ADDRESS), false),
            (packet(REQUEST, THEIRS, none, other), false),
            // Our own packets, reflected by a switch.
            (packet(REQUEST, OURS, none, ADDRESS), false),
            (packet(REQUEST, OURS, ADDRESS, ADDRESS), false),
        ] {
            let claim = packet.claim(OURS, &[ADDRESS]);
            assert_eq!(claim, in_the_way.then_some((ADDRESS, THEIRS)), "{packet:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read(operation: u16, mac: [u8; 6], sender: [u8; 4], target: [u8; 4], pad in 0usize..20) {
            let sent = packet(operation, Mac(mac), sender.into(), target.into());
            let mut frame = sent.broadcast();
            frame.resize(frame.len() + pad, 0);
            prop_assert_eq!(Packet::read(&frame), Some(sent));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..80)) {
            let _ = Packet::read(&bytes);
        }
    }
}
