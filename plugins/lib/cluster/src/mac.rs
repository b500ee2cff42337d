//! Ethernet addresses of containers.

use std::net::IpAddr;

use sys::Mac;

/// What our derived addresses begin with: locally administered, unicast.
const PREFIX: [u8; 2] = [0x02, 0x6d];

/// Reads the one spelling that records have: as the kernel prints it.
pub fn parse(text: &str) -> Option<Mac> {
    text.parse::<Mac>().ok().filter(|mac| mac.to_string() == text)
}

/// The MAC of whoever has this first address: an address that moves to another host keeps its MAC,
/// so nobody's neighbour table is ever stale.
pub fn of_address(first: IpAddr) -> Mac {
    let [.., a, b, c, d] = match first {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let [x, y] = PREFIX;
    Mac([x, y, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_derived_from_the_low_bits_of_the_first_address() {
        for (ip, text) in [("10.9.0.66", "02:6d:0a:09:00:42"), ("fd00:9::1:42", "02:6d:00:01:00:42")] {
            let derived = of_address(ip.parse().unwrap());
            assert_eq!(derived.to_string(), text);
            assert_eq!(parse(text), Some(derived));
            assert!(!derived.is_multicast());
        }
    }

    #[test]
    fn a_mac_has_one_spelling() {
        for text in ["", "02:6D:0a:09:00:42", "02-6d-0a-09-00-42", "026d.0a09.0042"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
