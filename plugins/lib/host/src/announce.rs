//! Telling the link that an address lives here now: gratuitous ARP (RFC 5227, section 3) and unsolicited
//! Neighbour Advertisements (RFC 4861, section 7.2.6), so that nobody sends to the address's previous owner.
//!
//! These are for links that [`crate::netlink::Netlink::announce`] cannot serve: closing the packet socket (or exiting with
//! it) waits for an RCU grace period, 10 ms, several times the cost of all else that an attachment needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{Error, Mac, Result, sys};

/// linux/if_ether.h.
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
/// All nodes on the link (RFC 4291, section 2.7.1), and its Ethernet group (RFC 2464, section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
/// IANA protocol number.
const ICMPV6: u8 = 58;
/// Length of the advertisement: type to target (24), and the link-layer address option (8).
const ADVERTISEMENT: u16 = 32;

/// Announces every address at `mac`, out of the interface `index` of the network namespace that the calling thread
/// is in. One packet each; nothing is waited for.
///
/// # Errors
/// No packet socket (CAP_NET_RAW), or a packet could not be sent (ENETDOWN: the link is not up).
pub fn announce(index: u32, mac: Mac, addresses: &[IpAddr]) -> Result<()> {
    let label = || format!("{mac} on interface {index}");
    let fail = |error: std::io::Error| Error::new("announce", label(), error);
    let index = i32::try_from(index).map_err(|_| fail(std::io::ErrorKind::InvalidInput.into()))?;
    // Without a protocol the socket receives nothing.
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| fail(errno.into()))?;
    for address in addresses {
        let frame = match *address {
            IpAddr::V4(ip) => arp_announcement(mac, ip),
            IpAddr::V6(ip) => neighbour_advertisement(mac, ip),
        };
        sys::send_frame(&socket, index, &frame).map_err(fail)?;
    }
    Ok(())
}

/// An ARP announcement (RFC 5227, section 3): a broadcast request in which sender and target are `ip`.
fn arp_announcement(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    [
        &Mac::BROADCAST.0[..],
        &mac.0,
        &ETH_P_ARP.to_be_bytes(),
        // RFC 826: hardware Ethernet (1), protocol IPv4 (0x0800), lengths 6 and 4, operation request (1).
        &[0, 1, 8, 0, 6, 4, 0, 1],
        &mac.0,
        &ip.octets(),
        &[0; 6],
        &ip.octets(),
    ]
    .concat()
}

/// An unsolicited Neighbour Advertisement (RFC 4861, sections 4.4 and 7.2.6) from `ip` to all nodes, with the
/// override flag, so that what they have cached is replaced.
fn neighbour_advertisement(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let message = |checksum: u16| {
        [
            // Type 136, code 0, checksum, flags: override.
            &[136, 0][..],
            &checksum.to_be_bytes(),
            &[0x20, 0, 0, 0],
            &ip.octets(),
            // Option target link-layer address (2), of one unit of eight bytes.
            &[2, 1],
            &mac.0,
        ]
        .concat()
    };
    // RFC 8200, section 8.1: source, destination, length, next header; then the message with a checksum of zero.
    let pseudo =
        [&ip.octets()[..], &ALL_NODES.octets(), &u32::from(ADVERTISEMENT).to_be_bytes(), &[0, 0, 0, ICMPV6]];
    let checksum = internet_checksum(&[pseudo.concat(), message(0)].concat());
    [
        &ALL_NODES_MAC.0[..],
        &mac.0,
        &ETH_P_IPV6.to_be_bytes(),
        // Version 6, no class, no flow; payload length; next header; hop limit 255, which receivers insist on.
        &[0x60, 0, 0, 0],
        &ADVERTISEMENT.to_be_bytes(),
        &[ICMPV6, 255],
        &ip.octets(),
        &ALL_NODES.octets(),
        &message(checksum),
    ]
    .concat()
}

/// RFC 1071, over bytes in network order.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum = bytes.chunks(2).fold(0u32, |sum, pair| match *pair {
        [high, low] => sum + u32::from(u16::from_be_bytes([high, low])),
        [high] => sum + u32::from(u16::from_be_bytes([high, 0])),
        _ => sum,
    });
    // Two folds bring any sum of 16-bit words in a frame below 2^16.
    for _ in 0..2 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x02, 0x00, 0x5e, 0x10, 0x00, 0x01]);

    #[test]
    fn an_arp_announcement_asks_everybody_for_the_senders_own_address() {
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 0x08,
            0x06, // Ethernet
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, // request
            0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 10, 1, 2, 3, // sender
            0, 0, 0, 0, 0, 0, 10, 1, 2, 3, // target
        ];
        assert_eq!(arp_announcement(MAC, Ipv4Addr::new(10, 1, 2, 3)), expected);
    }

    #[test]
    fn a_neighbour_advertisement_overrides_what_all_nodes_have_cached() {
        let ip: Ipv6Addr = "fd00::2".parse().unwrap();
        // Checksum by hand. Words of the pseudo-header: fd00 + 0002 + ff02 + 0001 + 0020 + 003a = 1fc5f;
        // of the message: 8800 + 2000 + fd00 + 0002 + 0201 + 0200 + 5e10 + 0001 = 20714;
        // 1fc5f + 20714 = 40373, folded 0373 + 4 = 0377... and its complement.
        let expected = [
            0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 0x86,
            0xdd, // Ethernet
            0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, // IPv6
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, // from
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, // to
            0x88, 0x00, 0xfc, 0x88, 0x20, 0x00, 0x00, 0x00, // advertisement
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, // target
            0x02, 0x01, 0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, // at
        ];
        assert_eq!(neighbour_advertisement(MAC, ip), expected);
    }

    /// The example of RFC 1071, section 3.
    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        assert_eq!(internet_checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(internet_checksum(&[0xff; 1501]), !0xff00);
        assert_eq!(internet_checksum(&[]), 0xffff);
    }
}
