//! Addresses as text, as strictly as Go's `net.ParseIP` and `net.ParseCIDR` read them.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::text::quoted;

/// The text is not an address, or has no valid prefix length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseAddrError {
    wanted: &'static str,
    text: String,
}

impl fmt::Display for ParseAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: {}", self.wanted, self.text)
    }
}

impl std::error::Error for ParseAddrError {}

/// Reads an address without zone or prefix length. A v4-mapped IPv6 address is the IPv4 address,
/// since that is how it prints (C-055).
///
/// # Errors
/// The text is anything else; leading zeros in an IPv4 address are refused too.
pub fn parse_ip(text: &str) -> Result<IpAddr, ParseAddrError> {
    text.parse::<IpAddr>()
        .map(|ip| ip.to_canonical())
        .map_err(|_| ParseAddrError { wanted: "IP address", text: quoted(text) })
}

/// Reads `address/length`; host bits stay. A v4-mapped IPv6 address becomes the IPv4 address with
/// 96 bits less.
///
/// # Errors
/// A missing length, a netmask, a sign or a leading zero, a length that the family does not have,
/// and whatever [`parse_ip`] refuses.
pub fn parse_cidr(text: &str) -> Result<IpNetwork, ParseAddrError> {
    cidr(text).ok_or_else(|| ParseAddrError { wanted: "CIDR address", text: quoted(text) })
}

fn cidr(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let plain = match length.as_bytes() {
        [b'0'] => true,
        [first, rest @ ..] => (b'1'..=b'9').contains(first) && rest.iter().all(u8::is_ascii_digit),
        [] => false,
    };
    if !plain {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    match address.to_canonical() {
        // A mapped address with fewer than 96 bits would have a negative length in IPv4.
        mapped @ IpAddr::V4(_) if address.is_ipv6() => IpNetwork::new(mapped, length.checked_sub(96)?).ok(),
        address => IpNetwork::new(address, length).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_read_and_print_as_go_does() {
        for (text, printed) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("::1.2.3.4", "::102:304"),
            ("::", "::"),
        ] {
            assert_eq!(parse_ip(text).unwrap().to_string(), printed);
        }
        for text in
            ["", "10.0.0.01", "10.0.0", "10.0.0.256", " 10.0.0.1", "fe80::1%eth0", "1:2:3:4::5:6:7:8", "a/b"]
        {
            assert_eq!(parse_ip(text).unwrap_err().to_string(), format!("invalid IP address: {text}"));
        }
    }

    #[test]
    fn prefixes_keep_their_host_bits() {
        for (text, printed) in [
            ("10.1.2.3/24", "10.1.2.3/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.1/32", "10.0.0.1/32"),
            ("2001:db8::7/128", "2001:db8::7/128"),
            ("::ffff:10.0.0.1/120", "10.0.0.1/24"),
        ] {
            assert_eq!(parse_cidr(text).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn a_malformed_prefix_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/255.255.255.0",
            "10.0.0.1/024",
            "10.0.0.0/+8",
            "10.0.0.0/-8",
            "010.0.0.1/24",
            "10.0.0.1/33",
            "::1/129",
            "::1/256",
            "::1/ 64",
            "::ffff:10.0.0.1/64",
            "::ffff:10.0.0.1/129",
            "10.0.0.1/24/24",
        ] {
            assert_eq!(parse_cidr(text).unwrap_err().to_string(), format!("invalid CIDR address: {text}"));
        }
    }

    proptest! {
        /// C-055: what is printed reads back as the same.
        #[test]
        fn a_printed_prefix_reads_back(v4: bool, low: u32, bits: u128, length in 0u8..=128) {
            let net = if v4 {
                IpNetwork::new(IpAddr::V4(low.into()), length % 33).unwrap()
            } else {
                IpNetwork::new(IpAddr::V6((bits | 1 << 127).into()), length).unwrap()
            };
            prop_assert_eq!(parse_cidr(&net.to_string()).unwrap(), net);
        }

        #[test]
        fn parsing_never_panics(text in "[0-9a-f:./+]{0,24}") {
            let _ = (parse_ip(&text).is_ok(), parse_cidr(&text).is_ok());
        }
    }
}
