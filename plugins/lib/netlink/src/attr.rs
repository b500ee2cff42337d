//! Netlink attributes (linux/netlink.h, `struct nlattr`): one writer and one reader for all
//! families. Neither panics on any input: the writer records its first fault, the reader stops at
//! it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fmt, io};

use crate::Mac;

/// linux/netlink.h: the payload consists of attributes.
const NLA_F_NESTED: u16 = 1 << 15;
/// linux/netlink.h: the bits of the type without flags (NLA_TYPE_MASK).
const NLA_TYPE_MASK: u16 = 0x3fff;
/// Length of `struct nlattr`: a u16 length (header included, padding not) and a u16 type.
const HEADER: usize = 4;
/// NLA_ALIGNTO.
const ALIGN: usize = 4;

/// Bytes that violate the format, or values that cannot be represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(
    /// The violation.
    pub &'static str,
);

/// Appends attributes to a message.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    fault: Option<Malformed>,
}

/// An attribute that was read; its type has no flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Its type.
    pub kind: u16,
    /// Its content, without padding.
    pub payload: &'a [u8],
}

/// The attributes in a run of bytes. Iteration ends after a malformed one.
#[derive(Clone, Debug)]
pub struct Attrs<'a> {
    rest: &'a [u8],
}

impl Writer {
    /// Appends raw bytes, such as a family's fixed header, padded to four.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Appends an attribute with these bytes.
    pub fn bytes(&mut self, kind: u16, payload: &[u8]) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(payload);
        self.end(start);
    }

    /// Appends a byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// Appends a number in host byte order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Appends a number in host byte order.
    pub fn i32(&mut self, kind: u16, value: i32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Appends a big-endian number, as netfilter uses them.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends a string with a terminating NUL; a NUL inside is a fault.
    pub fn string(&mut self, kind: u16, value: &str) {
        if value.contains('\0') {
            self.fail("a string contains a NUL");
        }
        let start = self.begin(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.end(start);
    }

    /// Appends an address of 4 or 16 bytes.
    pub fn ip(&mut self, kind: u16, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.bytes(kind, &ip.octets()),
            IpAddr::V6(ip) => self.bytes(kind, &ip.octets()),
        }
    }

    /// Appends an attribute with the attributes that `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.begin(kind | NLA_F_NESTED);
        fill(self);
        self.end(start);
    }

    /// Returns everything that was written.
    ///
    /// # Errors
    /// The first fault.
    pub fn finish(self) -> Result<Vec<u8>, Malformed> {
        self.fault.map_or(Ok(self.bytes), Err)
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        match (u16::try_from(length), self.bytes.get_mut(start..start + 2)) {
            (Ok(length), Some(field)) => field.copy_from_slice(&length.to_ne_bytes()),
            _ => self.fail("an attribute is longer than 65535 bytes"),
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }

    /// Records a fault, so that the message cannot be sent.
    pub fn fail(&mut self, what: &'static str) {
        self.fault.get_or_insert(Malformed(what));
    }
}

impl<'a> Attrs<'a> {
    /// Reads `bytes`, which begin with an attribute.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads the attributes after a fixed header of `length` bytes.
    ///
    /// # Errors
    /// `bytes` is shorter than the header.
    pub fn after(bytes: &'a [u8], length: usize) -> Result<Self, Malformed> {
        bytes
            .get(length.next_multiple_of(ALIGN)..)
            .map(Self::new)
            .ok_or(Malformed("a message is shorter than its header"))
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        // Fewer bytes than a header are padding, as in the kernel's own reader.
        let (&length, rest) = self.rest.split_first_chunk::<2>()?;
        let (&kind, _) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(length));
        let Some(payload) = self.rest.get(HEADER..length) else {
            self.rest = &[];
            return Some(Err(Malformed("an attribute's length is wrong")));
        };
        self.rest = self.rest.get(length.next_multiple_of(ALIGN)..).unwrap_or(&[]);
        Some(Ok(Attr { kind: u16::from_ne_bytes(kind) & NLA_TYPE_MASK, payload }))
    }
}

/// Numbers are read from the first bytes of a longer payload: a newer kernel may append fields.
impl<'a> Attr<'a> {
    fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.payload.first_chunk().copied().ok_or(Malformed("an attribute is too short"))
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// The payload is too short.
    pub fn u8(&self) -> Result<u8, Malformed> {
        self.array().map(u8::from_ne_bytes)
    }

    /// Reads a number of four bytes.
    ///
    /// # Errors
    /// The payload is too short.
    pub fn u32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// Reads a signed number of four bytes.
    ///
    /// # Errors
    /// The payload is too short.
    pub fn i32(&self) -> Result<i32, Malformed> {
        self.array().map(i32::from_ne_bytes)
    }

    /// Reads a big-endian number, as netfilter uses them.
    ///
    /// # Errors
    /// The payload is too short.
    pub fn be32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a big-endian number of eight bytes, as netfilter's handles.
    ///
    /// # Errors
    /// The payload is too short.
    pub fn be64(&self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads up to the first NUL, or to the end. Interface names need not be UTF-8: invalid bytes
    /// become U+FFFD.
    pub fn string(&self) -> String {
        let end = self.payload.iter().position(|&byte| byte == 0).unwrap_or(self.payload.len());
        String::from_utf8_lossy(self.payload.get(..end).unwrap_or_default()).into_owned()
    }

    /// Reads an IPv4 or IPv6 address, according to the length.
    ///
    /// # Errors
    /// The payload has a different length.
    pub fn ip(&self) -> Result<IpAddr, Malformed> {
        ip_from(self.payload)
    }

    /// Reads an Ethernet address; `None` for another length (tunnels, InfiniBand).
    pub fn mac(&self) -> Option<Mac> {
        self.payload.try_into().ok().map(Mac)
    }

    /// The attributes nested in it.
    pub fn nested(&self) -> Attrs<'a> {
        Attrs::new(self.payload)
    }
}

/// An address of 4 or 16 bytes.
///
/// # Errors
/// The length is different.
pub fn ip_from(bytes: &[u8]) -> Result<IpAddr, Malformed> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        Ok(Ipv4Addr::from(octets).into())
    } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
        Ok(Ipv6Addr::from(octets).into())
    } else {
        Err(Malformed("an address is neither 4 nor 16 bytes long"))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed netlink message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Attributes that a test writes and compares with what is read.
    #[derive(Clone, Debug, PartialEq)]
    enum Tree {
        Leaf(u16, Vec<u8>),
        Nest(u16, Vec<Tree>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let kind = 0..=NLA_TYPE_MASK;
        let leaf = (kind.clone(), vec(any::<u8>(), 0..40)).prop_map(|(k, b)| Tree::Leaf(k, b));
        leaf.prop_recursive(3, 24, 6, move |inner| {
            (kind.clone(), vec(inner, 0..6)).prop_map(|(k, t)| Tree::Nest(k, t))
        })
    }

    fn write(writer: &mut Writer, tree: &Tree) {
        match tree {
            Tree::Leaf(kind, bytes) => writer.bytes(*kind, bytes),
            Tree::Nest(kind, inner) => writer.nest(*kind, |w| inner.iter().for_each(|t| write(w, t))),
        }
    }

    fn matches(attr: Attr<'_>, tree: &Tree) -> bool {
        match tree {
            Tree::Leaf(kind, bytes) => attr == Attr { kind: *kind, payload: bytes },
            Tree::Nest(kind, inner) => {
                let read: Result<Vec<_>, _> = attr.nested().collect();
                attr.kind == *kind
                    && read.is_ok_and(|read| {
                        read.len() == inner.len() && read.iter().zip(inner).all(|(&a, t)| matches(a, t))
                    })
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trees in vec(tree(), 0..8)) {
            let mut writer = Writer::default();
            trees.iter().for_each(|tree| write(&mut writer, tree));
            let bytes = writer.finish().unwrap();
            prop_assert_eq!(bytes.len() % ALIGN, 0);
            let read: Vec<_> = Attrs::new(&bytes).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), trees.len());
            for (attr, tree) in read.into_iter().zip(&trees) {
                prop_assert!(matches(attr, tree));
            }
        }

        /// Every reader on any bytes: ends, and does not panic.
        #[test]
        fn the_reader_never_panics(bytes in vec(any::<u8>(), 0..200)) {
            let mut count = 0;
            for attr in Attrs::new(&bytes).flatten() {
                count += 1;
                let _ = (attr.u8(), attr.u32(), attr.i32(), attr.ip(), attr.mac(), attr.string());
                count += attr.nested().count();
            }
            prop_assert!(count <= 2 * bytes.len());
        }

        /// Nearly valid lengths are what breaks readers: damage one byte of a valid message.
        #[test]
        fn a_damaged_message_is_read_without_panic(trees in vec(tree(), 1..6), at in any::<usize>(), with: u8) {
            let mut writer = Writer::default();
            trees.iter().for_each(|tree| write(&mut writer, tree));
            let mut bytes = writer.finish().unwrap();
            let at = at % bytes.len();
            bytes[at] = with;
            let read = Attrs::new(&bytes).flatten().map(|attr| attr.nested().count()).sum::<usize>();
            prop_assert!(read <= bytes.len());
        }
    }

    /// `struct nlattr`: the length with header and without padding, then the type.
    #[test]
    fn the_bytes_are_those_of_linux_netlink_h() {
        let mut writer = Writer::default();
        writer.string(3, "lo");
        writer.nest(18, |w| w.u8(1, 7));
        let expected: &[u8] = if cfg!(target_endian = "little") {
            &[7, 0, 3, 0, b'l', b'o', 0, 0, 12, 0, 18, 0x80, 5, 0, 1, 0, 7, 0, 0, 0]
        } else {
            &[0, 7, 0, 3, b'l', b'o', 0, 0, 0, 12, 0x80, 18, 0, 5, 0, 1, 7, 0, 0, 0]
        };
        assert_eq!(writer.finish().unwrap(), expected);
    }

    #[test]
    fn an_overlong_attribute_is_a_fault() {
        let mut writer = Writer::default();
        writer.nest(1, |w| w.bytes(2, &vec![0; 65_530]));
        assert!(writer.finish().is_err());
    }

    #[test]
    fn a_nul_inside_a_name_is_a_fault() {
        let mut writer = Writer::default();
        writer.string(3, "eth0\0x");
        assert_eq!(writer.finish(), Err(Malformed("a string contains a NUL")));
    }

    #[test]
    fn a_wrong_length_ends_the_iteration() {
        for length in [0u16, 3, 9, u16::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0]);
            let mut attrs = Attrs::new(&bytes);
            assert!(attrs.next().unwrap().is_err(), "{length}");
            assert!(attrs.next().is_none());
        }
    }
}
