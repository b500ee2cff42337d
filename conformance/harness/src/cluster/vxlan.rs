//! VXLAN packets (RFC 7348) on the underlay: read from a capture, and made by a stranger.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Behind a UDP header: flags, the id, and a reserved byte.
const HEADER: usize = 8;
/// The flag of a valid id.
const VALID: u8 = 0x08;
const UDP: u8 = 17;
const ETHERNET: usize = 14;

/// What is around a container's frame on the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer<'a> {
    /// The host that sent it, as it says.
    pub source: IpAddr,
    /// The host that it is for.
    pub target: IpAddr,
    /// The UDP port that it is for.
    pub port: u16,
    /// The id.
    pub vni: u32,
    /// The container's frame.
    pub inner: &'a [u8],
}

impl<'a> Outer<'a> {
    /// Reads a frame of the underlay; `None` for what is no VXLAN, and for fragments.
    pub fn of(frame: &'a [u8], port: u16) -> Option<Self> {
        let packet = frame.get(ETHERNET..)?;
        let (source, target, datagram) = match packet.first()? >> 4 {
            4 => {
                let length = usize::from(packet.first()? & 0xf) * 4;
                let is_fragment = packet.get(6)? & 0x3f != 0 || *packet.get(7)? != 0;
                (packet.get(9) == Some(&UDP) && !is_fragment).then_some(())?;
                let address = |at: usize| -> Option<IpAddr> {
                    let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
                    Some(Ipv4Addr::from(octets).into())
                };
                (address(12)?, address(16)?, packet.get(length..)?)
            }
            6 => {
                (packet.get(6) == Some(&UDP)).then_some(())?;
                let address = |at: usize| -> Option<IpAddr> {
                    let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                    Some(Ipv6Addr::from(octets).into())
                };
                (address(8)?, address(24)?, packet.get(40..)?)
            }
            _ => return None,
        };
        let to: [u8; 2] = datagram.get(2..4)?.try_into().ok()?;
        (u16::from_be_bytes(to) == port).then_some(())?;
        let header = datagram.get(8..8 + HEADER)?;
        let [VALID, _, _, _, a, b, c, _] = *header else { return None };
        let vni = u32::from_be_bytes([0, a, b, c]);
        Some(Self { source, target, port, vni, inner: datagram.get(8 + HEADER..)? })
    }
}

/// The payload of a UDP datagram that carries a frame.
pub fn encapsulated(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[VALID, 0, 0, 0, a, b, c, 0][..], frame].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    #[test]
    fn what_is_encapsulated_is_read_again() {
        for (one, two) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (source, target): (IpAddr, IpAddr) = (one.parse().unwrap(), two.parse().unwrap());
            let data = encapsulated(0x6d_0001, b"frame");
            let sent = frame::udp([2; 6], [4; 6], [(source, 1), (target, 4789)], &data);
            let read = Outer { source, target, port: 4789, vni: 0x6d_0001, inner: b"frame" };
            assert_eq!(Outer::of(&sent, 4789), Some(read));
            assert_eq!(Outer::of(&sent, 4790), None);
        }
    }

    #[test]
    fn nothing_else_is_vxlan() {
        assert_eq!(Outer::of(b"", 4789), None);
        let ends = [("192.0.2.1".parse().unwrap(), 1), ("192.0.2.2".parse().unwrap(), 4789)];
        assert_eq!(Outer::of(&frame::udp([2; 6], [4; 6], ends, b"short"), 4789), None);
        assert_eq!(Outer::of(&frame::tcp([2; 6], [4; 6], ends, frame::SYN), 4789), None);
        let mut fragment = frame::udp([2; 6], [4; 6], ends, &encapsulated(1, b"frame"));
        fragment[14 + 6] |= 0x20;
        assert_eq!(Outer::of(&fragment, 4789), None);
    }
}
