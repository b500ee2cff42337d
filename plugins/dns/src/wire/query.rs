//! Reads a question.

use super::{HEADER, Name, Rcode, UDP_MAX, UDP_PLAIN, flag, kind};

/// What a packet turned out to be.
#[allow(
    clippy::large_enum_variant,
    reason = "one lives at a time, on the stack, and nothing is allocated for it"
)]
pub enum Received<'a> {
    /// Not to be answered: no message, or a response. Whoever answers responses can be made to talk to its like for ever.
    Noise,
    /// Not to be answered with more than a code, and with as many bytes of the packet as were understood.
    Refused(Rcode, &'a [u8]),
    /// A question to answer.
    Query(Query<'a>),
}

/// What EDNS says in a question (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Bytes that the client takes over UDP.
    pub size: u16,
    /// Whether it wants DNSSEC records (RFC 3225).
    pub dnssec: bool,
}

/// A question for records of class IN.
pub struct Query<'a> {
    packet: &'a [u8],
    end: usize,
    /// The name asked for.
    pub name: Name,
    /// The type asked for.
    pub kind: u16,
    /// What EDNS says, if there is any.
    pub edns: Option<Edns>,
}

impl<'a> Query<'a> {
    /// The client's number for it.
    pub fn id(&self) -> u16 {
        word(self.packet, 0).unwrap_or(0)
    }

    /// The header's flags.
    pub fn flags(&self) -> u16 {
        word(self.packet, 2).unwrap_or(0)
    }

    /// The question as it came: name, type, class.
    pub fn question(&self) -> &'a [u8] {
        self.packet.get(HEADER..self.end).unwrap_or(&[])
    }

    /// The longest answer over UDP, in bytes.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_PLAIN, |edns| usize::from(edns.size).clamp(UDP_PLAIN, UDP_MAX))
    }
}

/// Reads a packet of whatever content.
pub fn read(packet: &[u8]) -> Received<'_> {
    match read_query(packet) {
        Ok(query) => Received::Query(query),
        Err(Some((code, end))) => Received::Refused(code, packet.get(..end).unwrap_or(packet)),
        Err(None) => Received::Noise,
    }
}

/// A code, and where what was understood ends.
type Refusal = (Rcode, usize);

fn read_query(packet: &[u8]) -> Result<Query<'_>, Option<Refusal>> {
    const MALFORMED: Option<Refusal> = Some((Rcode::FormErr, HEADER));
    let count = |at| word(packet, at).ok_or(None);
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
    let kind = word(packet, at).ok_or(MALFORMED)?;
    let class = word(packet, at + 2).ok_or(MALFORMED)?;
    let end = at + 4;
    // A transfer carries a record (RFC 1995, section 3): say no before it is taken for malformed.
    if class != kind::IN || matches!(kind, kind::AXFR | kind::IXFR) {
        return Err(Some((Rcode::Refused, end)));
    }
    if answers != 0 || authorities != 0 {
        return Err(Some((Rcode::FormErr, end)));
    }
    let edns = read_edns(packet, end, additionals)?;
    Ok(Query { packet, end, name, kind, edns })
}

/// Looks for the OPT record among the additional ones; there may be one (RFC 6891, section 6.1.1).
fn read_edns(packet: &[u8], end: usize, additionals: u16) -> Result<Option<Edns>, Option<Refusal>> {
    let malformed = Some((Rcode::FormErr, end));
    let (mut at, mut edns) = (end, None);
    for _ in 0..additionals {
        let owner = at;
        at = skip_name(packet, at).ok_or(malformed)?;
        let field = |offset| word(packet, at + offset).ok_or(malformed);
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

/// Where a name at `at` ends. Pointers are not followed.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
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
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}
