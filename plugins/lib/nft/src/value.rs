//! Keys and values, as registers and elements of sets and maps hold them.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::Mac;
use netlink::attr::Malformed;

use super::protocol::Protocol;
use super::uapi::{BYTEORDER_BIG, BYTEORDER_HOST, BYTEORDER_NONE};

/// NFT_DATA_VALUE_MAXLEN: all registers together.
const MAX: usize = 64;
/// Registers, and so the parts of a concatenation, are multiples of this.
pub(super) const REGISTER: usize = 4;

/// The type of a value. The kernel knows only lengths; the type is for people, who see it in `nft
/// list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// ipv4_addr.
    Ipv4,
    /// ipv6_addr.
    Ipv6,
    /// ether_addr.
    Ether,
    /// inet_proto: a transport protocol (IPPROTO_TCP, …).
    Proto,
    /// inet_service: a port.
    Port,
    /// mark, in host byte order.
    Mark,
    /// ifname, padded to 16 bytes.
    Ifname,
}

impl Type {
    /// Its number in nftables' datatype.h.
    pub(super) const fn id(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Ether => 9,
            Self::Proto => 12,
            Self::Port => 13,
            Self::Mark => 19,
            Self::Ifname => 41,
        }
    }

    /// Its length in bytes.
    pub(super) const fn length(self) -> usize {
        match self {
            Self::Ipv4 | Self::Mark => 4,
            Self::Ipv6 | Self::Ifname => 16,
            Self::Ether => 6,
            Self::Proto => 1,
            Self::Port => 2,
        }
    }

    const fn byte_order(self) -> u32 {
        match self {
            Self::Mark | Self::Ifname => BYTEORDER_HOST,
            _ => BYTEORDER_BIG,
        }
    }

    fn show(self, bytes: &[u8], to: &mut String) -> fmt::Result {
        match self {
            Self::Ipv4 => write!(to, "{}", Ipv4Addr::from(array::<4>(bytes))),
            Self::Ipv6 => write!(to, "{}", Ipv6Addr::from(array::<16>(bytes))),
            Self::Ether => write!(to, "{}", Mac(array(bytes))),
            Self::Proto => {
                let [number] = array(bytes);
                write!(to, "{}", Protocol(number))
            }
            Self::Port => write!(to, "{}", u16::from_be_bytes(array(bytes))),
            Self::Mark => write!(to, "{:#x}", u32::from_ne_bytes(array(bytes))),
            Self::Ifname => {
                let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
                write!(to, "{}", String::from_utf8_lossy(name).escape_debug())
            }
        }
    }
}

/// The first bytes, padded with zeros.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    array
}

/// The length of a value of these types, in a set and in registers: parts of a concatenation are
/// padded to four bytes.
pub(super) fn length(types: &[Type]) -> usize {
    match types {
        [single] => single.length(),
        parts => parts.iter().map(|part| part.length().next_multiple_of(REGISTER)).sum(),
    }
}

/// The number of a type or of a concatenation: six bits for each.
pub(super) fn type_id(types: &[Type]) -> u32 {
    types.iter().fold(0, |id, part| id << 6 | part.id())
}

/// The byte order for nft: without it, nft shows a mark of 1 as 16777216.
pub(super) fn byte_order(types: &[Type]) -> u32 {
    if let [single] = types { single.byte_order() } else { BYTEORDER_NONE }
}

/// A value as `nft` shows it: `10.1.2.3 . tcp . 80`.
pub(super) fn show(types: &[Type], mut bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, part) in types.iter().enumerate() {
        if index > 0 {
            text.push_str(" . ");
        }
        // Writing to a string does not fail.
        let _ = part.show(bytes, &mut text);
        bytes = bytes.get(part.length().next_multiple_of(REGISTER)..).unwrap_or_default();
    }
    text
}

/// A value, or a concatenation of values: `Value::new().addr(ip).proto(6).port(80)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    bytes: [u8; MAX],
    /// Without the padding of the last part.
    length: u8,
    parts: u8,
}

impl Default for Value {
    fn default() -> Self {
        Self::new()
    }
}

impl Value {
    /// Creates an empty value.
    pub const fn new() -> Self {
        Self { bytes: [0; MAX], length: 0, parts: 0 }
    }

    /// Appends an address, of 4 or 16 bytes.
    #[must_use]
    pub fn addr(self, ip: impl Into<IpAddr>) -> Self {
        match ip.into() {
            IpAddr::V4(ip) => self.push(&ip.octets()),
            IpAddr::V6(ip) => self.push(&ip.octets()),
        }
    }

    /// Appends a transport protocol.
    #[must_use]
    pub fn proto(self, proto: u8) -> Self {
        self.push(&[proto])
    }

    /// Appends a port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.push(&port.to_be_bytes())
    }

    /// Appends a mark, or any number in host byte order.
    #[must_use]
    pub fn mark(self, mark: u32) -> Self {
        self.push(&mark.to_ne_bytes())
    }

    /// Appends an Ethernet address.
    #[must_use]
    pub fn mac(self, mac: Mac) -> Self {
        self.push(&mac.0)
    }

    /// Appends an interface name of up to 15 bytes; longer names are cut off, as no interface can
    /// have them.
    #[must_use]
    pub fn ifname(self, name: &str) -> Self {
        let name = name.as_bytes();
        self.push(&array::<16>(name.get(..15).unwrap_or(name)))
    }

    /// Appends raw bytes.
    #[must_use]
    pub fn raw(self, bytes: &[u8]) -> Self {
        self.push(bytes)
    }

    fn push(mut self, part: &[u8]) -> Self {
        let start = usize::from(self.length).next_multiple_of(REGISTER);
        let room = start.checked_add(part.len()).and_then(|end| self.bytes.get_mut(start..end));
        // An overflow makes the value fit no type: using it is an error.
        let (length, parts) = match room {
            Some(room) => {
                room.copy_from_slice(part);
                (u8::try_from(start + part.len()).unwrap_or(u8::MAX), self.parts.saturating_add(1))
            }
            None => (u8::MAX, u8::MAX),
        };
        Self { length, parts, ..self }
    }

    /// The bytes; parts of a concatenation are padded to four.
    pub fn bytes(&self) -> &[u8] {
        let length = usize::from(self.length);
        let length = if self.parts > 1 { length.next_multiple_of(REGISTER) } else { length };
        self.bytes.get(..length).unwrap_or_default()
    }

    /// The bytes, if they fit these types.
    pub(super) fn of(&self, types: &[Type]) -> Result<&[u8], Malformed> {
        let bytes = self.bytes();
        if bytes.is_empty() || bytes.len() != length(types) {
            return Err(Malformed("a value does not have the type of its set"));
        }
        Ok(bytes)
    }

    /// Reads a value of these types from the kernel's bytes.
    pub(super) fn read(types: &[Type], bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() != length(types) {
            return Err(Malformed("an element does not have the type of its set"));
        }
        let mut value = Self::new();
        let mut rest = bytes;
        for part in types {
            value = value.push(rest.get(..part.length()).unwrap_or_default());
            rest = rest.get(part.length().next_multiple_of(REGISTER)..).unwrap_or_default();
        }
        Ok(value)
    }

    /// The next value in byte order; `None` after the last.
    pub(super) fn next(mut self) -> Option<Self> {
        let bytes = self.bytes.get_mut(..usize::from(self.length))?;
        for byte in bytes.iter_mut().rev() {
            let (sum, overflow) = byte.overflowing_add(1);
            *byte = sum;
            if !overflow {
                return Some(self);
            }
        }
        None
    }

    /// The previous value in byte order; `None` before the first.
    pub(super) fn previous(mut self) -> Option<Self> {
        let bytes = self.bytes.get_mut(..usize::from(self.length))?;
        for byte in bytes.iter_mut().rev() {
            let (difference, borrow) = byte.overflowing_sub(1);
            *byte = difference;
            if !borrow {
                return Some(self);
            }
        }
        None
    }

    /// The greatest value of the same length.
    pub(super) fn last_of_its_length(mut self) -> Self {
        if let Some(bytes) = self.bytes.get_mut(..usize::from(self.length)) {
            bytes.fill(0xff);
        }
        self
    }

    /// The address that a value is, or begins with, according to its types.
    pub fn first_addr(&self, types: &[Type]) -> Option<IpAddr> {
        match types.first()? {
            Type::Ipv4 => Some(Ipv4Addr::from(array::<4>(self.bytes())).into()),
            Type::Ipv6 => Some(Ipv6Addr::from(array::<16>(self.bytes())).into()),
            _ => None,
        }
    }

    /// Formats it as `nft` does.
    pub fn show(&self, types: &[Type]) -> String {
        show(types, self.bytes())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({:02x?})", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_concatenation_are_padded_and_a_single_value_is_not() {
        const KEY: &[Type] = &[Type::Proto, Type::Port];
        let value = Value::new().proto(6).port(80);
        assert_eq!(value.of(KEY).unwrap(), [6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(Value::new().port(80).of(&[Type::Port]).unwrap(), [0, 80]);
        assert!(Value::new().port(80).of(KEY).is_err());
        assert_eq!(Value::read(KEY, value.bytes()), Ok(value));
        assert_eq!(value.show(KEY), "tcp . 80");
    }

    /// nft's debug output for `inet_proto . inet_service` and `ipv4_addr . inet_service`.
    #[test]
    fn a_concatenations_type_is_six_bits_for_each_part() {
        assert_eq!(type_id(&[Type::Proto, Type::Port]), 0x30d);
        assert_eq!(type_id(&[Type::Ipv4, Type::Port]), 0x1cd);
    }

    #[test]
    fn the_last_value_has_no_successor() {
        let last = Value::new().addr(Ipv4Addr::BROADCAST);
        assert_eq!(last.next(), None);
        assert_eq!(last.previous().and_then(Value::next), Some(last));
        assert_eq!(Value::new().port(0xff).next(), Some(Value::new().port(0x100)));
    }

    #[test]
    fn an_overlong_value_fits_no_type() {
        let mut value = Value::new();
        for _ in 0..5 {
            value = value.addr(Ipv6Addr::LOCALHOST);
        }
        assert!(value.of(&[Type::Ipv6; 5]).is_err());
        assert!(Value::new().of(&[]).is_err());
    }
}
