//! Messages as Ethernet frames: IPv4 and UDP between the ports of client and server.
//!
//! Checksums of received packets are not verified: a server on this machine leaves UDP's to a
//! device, and the packet reaches a packet socket before it.

use std::net::Ipv4Addr;

use netlink::Mac;

/// linux/if_ether.h.
pub const ETH_P_IP: u16 = 0x0800;
/// RFC 2131, section 4.1.
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Lengths of headers, without options of IPv4.
const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
/// netinet/in.h: IPPROTO_UDP.
const PROTOCOL_UDP: u8 = 17;
const TIME_TO_LIVE: u8 = 64;

/// Where a message comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its address.
    pub ip: Ipv4Addr,
}

impl End {
    /// Everybody on the link.
    pub const EVERYBODY: Self = Self { mac: Mac::BROADCAST, ip: Ipv4Addr::BROADCAST };
}

/// The frame of a client's message.
pub fn encode(from: End, to: End, message: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut ip = [0; IP];
    // Version 4, a header of 5 words.
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&length(IP + UDP + message.len()));
    (ip[8], ip[9]) = (TIME_TO_LIVE, PROTOCOL_UDP);
    ip[12..16].copy_from_slice(&from.ip.octets());
    ip[16..20].copy_from_slice(&to.ip.octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = [0; UDP];
    udp[0..2].copy_from_slice(&CLIENT_PORT.to_be_bytes());
    udp[2..4].copy_from_slice(&SERVER_PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&length(UDP + message.len()));
    // RFC 768: the sum is over a pseudo header too, and 0 means that there is none.
    let sum = checksum(&[&ip[12..20], &[0, PROTOCOL_UDP], &length(UDP + message.len()), &udp, message]);
    udp[6..8].copy_from_slice(&(if sum == 0 { u16::MAX } else { sum }).to_be_bytes());
    [&to.mac.0[..], &from.mac.0, &ETH_P_IP.to_be_bytes(), &ip, &udp, message].concat()
}

/// The sender and the message of a frame to a client's port; `None` if it is another frame.
pub fn decode(frame: &[u8]) -> Option<(End, &[u8])> {
    let (ethernet, packet) = frame.split_first_chunk::<ETHERNET>()?;
    let ip = packet.first_chunk::<IP>()?;
    let header = usize::from(ip[0] & 0xf) * 4;
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    if ethernet[12..] != ETH_P_IP.to_be_bytes()
        || ip[0] >> 4 != 4
        || header < IP
        || ip[9] != PROTOCOL_UDP
        || fragment != 0
    {
        return None;
    }
    let (udp, message) = packet.get(header..total)?.split_first_chunk::<UDP>()?;
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    if u16::from_be_bytes([udp[2], udp[3]]) != CLIENT_PORT {
        return None;
    }
    let from = End { mac: Mac(*ethernet[6..].first_chunk()?), ip: Ipv4Addr::from(*ip[12..].first_chunk()?) };
    Some((from, message.get(..length.checked_sub(UDP)?)?))
}

/// The Internet checksum of the parts, of which all but the last have an even length (RFC 1071).
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        let (words, rest) = part.as_chunks::<2>();
        sum += words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>();
        sum += rest.first().map_or(0, |last| u32::from(*last) << 8);
    }
    while sum > u32::from(u16::MAX) {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: End = End { mac: Mac([2, 0, 0, 0, 0, 1]), ip: Ipv4Addr::new(10, 1, 2, 3) };

    #[test]
    fn a_frame_has_valid_checksums() {
        let message = [7; 301];
        let frame = encode(CLIENT, End::EVERYBODY, &message);
        assert_eq!(checksum(&[&frame[ETHERNET..ETHERNET + IP]]), 0);
        let udp = &frame[ETHERNET + IP..];
        let length = u16::try_from(udp.len()).unwrap().to_be_bytes();
        let addresses = &frame[ETHERNET + 12..ETHERNET + IP];
        assert_eq!(checksum(&[addresses, &[0, PROTOCOL_UDP], &length, udp]), 0);
    }

    proptest! {
        #[test]
        fn what_a_server_sends_is_read(message in proptest::collection::vec(any::<u8>(), 0..600), pad in 0usize..40) {
            let mut frame = encode(CLIENT, End::EVERYBODY, &message);
            frame.resize(frame.len() + pad, 0);
            prop_assert_eq!(decode(&frame), None, "from a client");
            frame[ETHERNET + IP + 2..ETHERNET + IP + 4].copy_from_slice(&CLIENT_PORT.to_be_bytes());
            prop_assert_eq!(decode(&frame), Some((CLIENT, message.as_slice())));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
            let mut ip = encode(CLIENT, End::EVERYBODY, &bytes);
            ip[ETHERNET..].iter_mut().zip(&bytes).for_each(|(byte, odd)| *byte ^= odd);
            let _ = decode(&ip);
        }
    }
}
