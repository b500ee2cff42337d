//! Parses queries.

use super::{HEADER, Name, Rcode, UDP_MAX, UDP_PLAIN, flag, kind};

/// A parsed packet.
#[allow(
    clippy::large_enum_variant,
    reason = "one lives at a time, on the stack, and nothing is allocated for it"
)]
pub enum Received<'a> {
    /// Must not be answered: it has no header, or is a response. Two servers that answer
    /// responses can loop.
    NotQuery,
    /// Rejected with a code, and as many bytes of the packet as were parsed.
    Rejected(Rcode, &'a [u8]),
    /// A query to answer.
    Query(Query<'a>),
}

/// The EDNS fields of a query (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The client's limit for messages over UDP, in bytes.
    pub size: u16,
    /// The client wants DNSSEC records (RFC 3225).
    pub dnssec: bool,
}

/// A query of class IN.
pub struct Query<'a> {
    packet: &'a [u8],
    end: usize,
    /// The queried name.
    pub name: Name,
    /// The queried type.
    pub kind: u16,
    /// EDNS, if the client uses it.
    pub edns: Option<Edns>,
}

impl<'a> Query<'a> {
    /// The id.
    pub fn id(&self) -> u16 {
        u16_at(self.packet, 0).unwrap_or(0)
    }

    /// The header's flags.
    pub fn flags(&self) -> u16 {
        u16_at(self.packet, 2).unwrap_or(0)
    }

    /// The question section as received: name, type, class.
    pub fn question(&self) -> &'a [u8] {
        self.packet.get(HEADER..self.end).unwrap_or(&[])
    }

    /// The longest answer over UDP, in bytes.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_PLAIN, |edns| usize::from(edns.size).clamp(UDP_PLAIN, UDP_MAX))
    }
}

/// Parses any packet.
pub fn read(packet: &[u8]) -> Received<'_> {
    match read_query(packet) {
        Ok(query) => Received::Query(query),
        Err(Some((code, end))) => Received::Rejected(code, packet.get(..end).unwrap_or(packet)),
        Err(None) => Received::NotQuery,
    }
}

/// A code, and the number of bytes that were parsed.
type Rejection = (Rcode, usize);

fn read_query(packet: &[u8]) -> Result<Query<'_>, Option<Rejection>> {
    const MALFORMED: Option<Rejection> = Some((Rcode::FormErr, HEADER));
    let count = |at| u16_at(packet, at).ok_or(None);
    let (flags, questions) = (count(2)?, count(4)?);
    let (answers, authorities, additionals) = (count(6)?, count(8)?, count(10)?);
    if flags & flag::QR != 0 {
        return Err(None);
    }
    if flags & flag::OPCODE != 0 {
        return Err(Some((Rcode::NotImp, HEADER)));
    }
    if questions != 1 {
        return Err(MALFORMED);
    }
    let (name, length) = packet.get(HEADER..).and_then(Name::read).ok_or(MALFORMED)?;
    let at = HEADER + length;
    let kind = u16_at(packet, at).ok_or(MALFORMED)?;
    let class = u16_at(packet, at + 2).ok_or(MALFORMED)?;
    let end = at + 4;
    // A transfer query contains a record (RFC 1995, section 3), so reject it before records
    // make it malformed.
    if class != kind::IN || matches!(kind, kind::AXFR | kind::IXFR) {
        return Err(Some((Rcode::Refused, end)));
    }
    if answers != 0 || authorities != 0 {
        return Err(Some((Rcode::FormErr, end)));
    }
    let edns = read_edns(packet, end, additionals)?;
    Ok(Query { packet, end, name, kind, edns })
}

/// Finds the OPT record in the additional section; there may be one (RFC 6891, section 6.1.1).
fn read_edns(packet: &[u8], end: usize, additionals: u16) -> Result<Option<Edns>, Option<Rejection>> {
    let malformed = Some((Rcode::FormErr, end));
    let (mut at, mut edns) = (end, None);
    for _ in 0..additionals {
        let owner = at;
        at = skip_name(packet, at).ok_or(malformed)?;
        let field = |offset| u16_at(packet, at + offset).ok_or(malformed);
        let (kind, size, version, flags, length) =
            (field(0)?, field(2)?, field(4)? & 0xff, field(6)?, field(8)?);
        if kind == kind::OPT {
            if edns.is_some() || packet.get(owner) != Some(&0) {
                return Err(malformed);
            }
            if version != 0 {
                return Err(Some((Rcode::BadVers, end)));
            }
            edns = Some(Edns { size, dnssec: flags & 0x8000 != 0 });
        }
        at += 10 + usize::from(length);
        if at > packet.len() {
            return Err(malformed);
        }
    }
    Ok(edns)
}

/// Skips a name at `at`; returns where it ends. Pointers are not followed.
pub(super) fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*packet.get(at)?);
        match length {
            0 => return Some(at + 1),
            0xc0.. => return packet.get(at + 1).map(|_| at + 2),
            0x40.. => return None,
            _ => at += 1 + length,
        }
    }
}

/// The big-endian word at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}
