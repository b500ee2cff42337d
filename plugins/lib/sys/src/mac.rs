//! Ethernet addresses.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An Ethernet (EUI-48) address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The text is not an Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseMacError(String);

impl Mac {
    /// All ones: the broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// A locally administered unicast address from the kernel's random generator.
    ///
    /// # Errors
    /// `getrandom` failed.
    pub fn random() -> crate::Result<Self> {
        let bytes = crate::random::bytes()
            .map_err(|error| crate::Error::new("generate", "an Ethernet address", error))?;
        Ok(Self::locally_administered(bytes))
    }

    /// A locally administered unicast address from these six bytes (of a hash, if a restarted
    /// process must choose the same address).
    pub fn locally_administered(bytes: [u8; 6]) -> Self {
        let [first, rest @ ..] = bytes;
        // IEEE 802, section 8.2: in the first byte, bit 0 is set for groups, bit 1 for local
        // administration.
        let first = first & !0b01 | 0b10;
        let [b, c, d, e, f] = rest;
        Self([first, b, c, d, e, f])
    }

    /// This address with the first byte fe, for a bridge port. A bridge without a MAC address of
    /// its own takes the lowest of its ports' (br_stp_recalculate_bridge_id,
    /// net/bridge/br_stp_if.c); this one is never lower than another port's.
    #[must_use]
    pub fn of_port(self) -> Self {
        let [_, rest @ ..] = self.0;
        let [b, c, d, e, f] = rest;
        Self([0xfe, b, c, d, e, f])
    }

    /// The locally administered unicast address made from a hash.
    pub fn of_hash(hash: u64) -> Self {
        let [_, _, bytes @ ..] = hash.to_be_bytes();
        Self::locally_administered(bytes)
    }

    /// The link-local IPv6 address made from this one (RFC 4291, appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let half = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(half))
    }

    /// Whether it is all zeros, which means no address.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 6]
    }

    /// Whether it is a group address, broadcast included: no interface can have it.
    pub fn is_multicast(&self) -> bool {
        let [first, ..] = self.0;
        first & 1 != 0
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    /// Parses the three forms that Go's `net.ParseMAC` accepts: `02:00:5e:10:00:01`,
    /// `02-00-5e-10-00-01`, `0200.5e10.0001`; upper or lower case, without omitted digits.
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        parse(text).map(Self).ok_or_else(|| ParseMacError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<[u8; 6]> {
    // The position of the separators determines the form; every other character must be a digit.
    let (separator, group) = match (text.as_bytes().get(2)?, text.as_bytes().get(4)?) {
        (b':', _) => (':', 2),
        (b'-', _) => ('-', 2),
        (_, b'.') => ('.', 4),
        _ => return None,
    };
    let mut digits = [0; 12];
    let mut rest = digits.iter_mut();
    for part in text.split(separator) {
        if part.len() != group {
            return None;
        }
        for character in part.chars() {
            *rest.next()? = u8::try_from(character.to_digit(16)?).ok()?;
        }
    }
    if rest.next().is_some() {
        return None;
    }
    let mut octets = [0; 6];
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        *octet = pair.iter().fold(0, |octet, digit| octet << 4 | digit);
    }
    Some(octets)
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid MAC address \"{}\"", self.0.escape_debug())
    }
}

impl std::error::Error for ParseMacError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_formatted_address_is_parsed(octets: [u8; 6]) {
            let mac = Mac(octets);
            let text = mac.to_string();
            prop_assert_eq!(text.parse(), Ok(mac));
            prop_assert_eq!(text.replace(':', "-").to_uppercase().parse(), Ok(mac));
            let dotted: Vec<_> = text.replace(':', "").as_bytes().chunks(4).map(|c| String::from_utf8_lossy(c).into_owned()).collect();
            prop_assert_eq!(dotted.join(".").parse(), Ok(mac));
        }

        #[test]
        fn any_text_is_parsed_without_panic(text: String) {
            let _ = text.parse::<Mac>();
        }

        #[test]
        fn a_generated_address_is_local_and_unicast(octets: [u8; 6]) {
            let mac = Mac::locally_administered(octets);
            prop_assert_eq!(mac.0[0] & 0b11, 0b10);
            prop_assert!(!mac.is_multicast() && !mac.is_zero());
        }
    }

    #[test]
    fn texts_that_go_refuses_are_refused() {
        for text in [
            "",
            "02",
            "02:00:5e:10:00",
            "02:00:5e:10:00:01:02",
            "02:00:5e:10:00:0g",
            "02:00-5e:10:00:01",
            "2:0:5e:10:0:1",
            "02005e100001",
            "0200.5e10",
            "0200.5e10.00011",
            "02:00:5e:10:00:01 ",
            "+2:00:5e:10:00:01",
            "02:00:5e:10:00:01\n",
            "ü2:00:5e:10:00:01",
            "0:00:00:00:00:000",
            // Go accepts eight and twenty bytes, which are not Ethernet addresses.
            "02:00:5e:10:00:00:00:01",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn two_random_addresses_differ() {
        assert_ne!(Mac::random().unwrap(), Mac::random().unwrap());
    }
}
