//! Tells the containers on a bridge that an address has another MAC address now: a gratuitous ARP
//! (RFC 5227) or an unsolicited neighbour advertisement (RFC 4861, section 7.2.6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::Mac;
use sys::frame::Sender;

/// linux/if_ether.h.
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
/// RFC 826: hardware Ethernet (1), protocol IPv4 (0x0800), lengths 6 and 4; a request.
const ARP_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
/// IPv6's next header: ICMPv6.
const ICMPV6: u8 = 58;
/// The only hop limit that neighbour discovery accepts.
const HOP_LIMIT: u8 = 255;
/// ICMPv6 type of an advertisement, and its flag "override".
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
/// Option target link-layer address, of one unit of eight bytes.
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
/// All nodes of the link, and the Ethernet group of it.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Announces an address by the bridge with this index.
///
/// # Errors
/// The bridge is down or gone.
pub(super) fn announce(sender: &Sender, bridge: u32, ip: IpAddr, mac: Mac) -> io::Result<()> {
    let frame = match ip {
        IpAddr::V4(ip) => gratuitous(ip, mac),
        IpAddr::V6(ip) => advertisement(ip, mac),
    };
    sender.send(bridge, &frame)
}

/// The frame of a gratuitous ARP.
fn gratuitous(ip: Ipv4Addr, mac: Mac) -> Vec<u8> {
    [
        &Mac::BROADCAST.0[..],
        &mac.0,
        &ETH_P_ARP.to_be_bytes(),
        &ARP_REQUEST,
        &mac.0,
        &ip.octets(),
        &[0; 6],
        &ip.octets(),
    ]
    .concat()
}

/// The frame of an unsolicited advertisement.
fn advertisement(ip: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let message = [&[OVERRIDE, 0, 0, 0][..], &ip.octets(), &TARGET_LINK_LAYER_ADDRESS, &mac.0].concat();
    let length = u16::try_from(message.len() + 4).unwrap_or(u16::MAX);
    let addresses = [ip.octets(), ALL_NODES.octets()].concat();
    let pseudo = [&addresses[..], &u32::from(length).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let checksum = checksum(&[&pseudo, &[ADVERTISEMENT, 0, 0, 0], &message]);
    [
        &ALL_NODES_MAC[..],
        &mac.0,
        &ETH_P_IPV6.to_be_bytes(),
        // Version 6.
        &[0x60, 0, 0, 0],
        &length.to_be_bytes(),
        &[ICMPV6, HOP_LIMIT],
        &addresses,
        &[ADVERTISEMENT, 0],
        &checksum.to_be_bytes(),
        &message,
    ]
    .concat()
}

/// The Internet checksum (RFC 1071) of parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum = words.fold(0u32, |sum, word| match word {
        [high, low] => sum + u32::from(u16::from_be_bytes([*high, *low])),
        _ => sum,
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}
