//! Reverse names: `4.3.2.1.in-addr.arpa` (RFC 1035, section 3.5), and the same for IPv6 (RFC
//! 3596, section 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that a reverse name stands for: one address, or those of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reverse {
    /// The address, or the first of the prefix.
    pub(super) address: IpAddr,
    /// The prefix length.
    pub(super) bits: u8,
    /// Whether there are labels below those of a whole address.
    pub(super) below: bool,
}

impl Reverse {
    /// Parses a name in lower case.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        if let Some(head) = text.strip_suffix(b".in-addr.arpa") {
            let mut octets = [0; 4];
            let (count, below) = fill(head, &mut octets, decimal)?;
            return Some(Self { address: Ipv4Addr::from(octets).into(), bits: count * 8, below });
        }
        let head = text.strip_suffix(b".ip6.arpa")?;
        let mut nibbles = [0; 32];
        let (count, below) = fill(head, &mut nibbles, nibble)?;
        let address = nibbles.iter().fold(0u128, |address, nibble| address << 4 | u128::from(*nibble));
        Some(Self { address: Ipv6Addr::from(address).into(), bits: count * 4, below })
    }
}

/// Parses the labels from the last to the first; returns their number, and whether there are
/// more.
fn fill(head: &[u8], digits: &mut [u8], read: impl Fn(&[u8]) -> Option<u8>) -> Option<(u8, bool)> {
    let mut count = 0;
    let mut labels = head.rsplit(|byte| *byte == b'.');
    for (digit, label) in digits.iter_mut().zip(&mut labels) {
        *digit = read(label)?;
        count += 1;
    }
    Some((count, labels.next().is_some()))
}

fn decimal(label: &[u8]) -> Option<u8> {
    let plain = label == b"0" || label.first().is_some_and(|first| (b'1'..=b'9').contains(first));
    if plain { std::str::from_utf8(label).ok()?.parse().ok() } else { None }
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit] => char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok()),
        _ => None,
    }
}
