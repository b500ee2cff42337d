//! Writes answers within a size limit.

use std::net::IpAddr;

use super::query::u16_at;
use super::{HEADER, Query, Rcode, UDP_MAX, flag, kind};

/// Length of the OPT record.
const OPT: usize = 11;
/// Marks a compression pointer (RFC 1035, section 4.1.4).
const POINTER: u16 = 0xc000;
/// Offset of the queried name in a message.
const QUESTION: u16 = 12;

/// An answer in a buffer. A record that exceeds the limit is left out, and the answer is marked
/// as truncated.
pub struct Answer<'b> {
    buffer: &'b mut [u8],
    length: usize,
    limit: usize,
    flags: u16,
    opt: bool,
    answers: u16,
    authorities: u16,
}

impl<'b> Answer<'b> {
    /// Begins an answer: header, question, and room for OPT if the client uses EDNS.
    /// `limit` should be at least 512; the buffer's length is a limit too. `recursion`:
    /// whether we would forward for this client.
    pub fn new(buffer: &'b mut [u8], limit: usize, query: &Query<'_>, recursion: bool) -> Self {
        let opt = query.edns.is_some();
        let limit = limit.min(buffer.len()).saturating_sub(if opt { OPT } else { 0 });
        let flags = flag::QR | query.flags() & flag::RD | if recursion { flag::RA } else { 0 };
        let mut answer = Self { buffer, length: 0, limit, flags, opt, answers: 0, authorities: 0 };
        answer.bytes(&query.id().to_be_bytes());
        answer.bytes(&[0; HEADER - 2]);
        answer.bytes(query.question());
        answer
    }

    /// Marks the answer as authoritative.
    pub fn authoritative(&mut self) {
        self.flags |= flag::AA;
    }

    /// Adds an address of the queried name.
    pub fn address(&mut self, ttl: u32, address: IpAddr) -> bool {
        let written = match address {
            IpAddr::V4(ip) => self.record(QUESTION, kind::A, ttl, |answer| answer.bytes(&ip.octets())),
            IpAddr::V6(ip) => self.record(QUESTION, kind::AAAA, ttl, |answer| answer.bytes(&ip.octets())),
        };
        self.answers += u16::from(written);
        written
    }

    /// Adds the name `host.suffix` as PTR record, or `host` if that would be too long.
    pub fn pointer(&mut self, ttl: u32, host: &str, suffix: &str) -> bool {
        // A name in a message: its text, the length of the first label, and the root.
        let suffix = if host.len() + suffix.len() + 3 > 255 { "" } else { suffix };
        let written = self.record(QUESTION, kind::PTR, ttl, |answer| {
            host.split('.').chain(suffix.split('.')).all(|label| answer.label(label)) && answer.bytes(&[0])
        });
        self.answers += u16::from(written);
        written
    }

    /// Adds the SOA record of the zone, as authority or as answer. The zone is the suffix
    /// of the queried name at `offset`. Its minimum is how long clients may cache the
    /// absence (RFC 2308).
    pub fn soa(&mut self, ttl: u32, offset: usize, is_answer: bool) -> bool {
        let zone = QUESTION.saturating_add(u16::try_from(offset).unwrap_or(u16::MAX));
        let written = self.record(zone, kind::SOA, ttl, |answer| {
            // The primary server is the zone itself; the mailbox is hostmaster's.
            answer.bytes(&(POINTER | zone).to_be_bytes())
                && answer.label("hostmaster")
                && answer.bytes(&(POINTER | zone).to_be_bytes())
                // Serial, refresh, retry, expire: for secondary servers, of
                // which there are none. Minimum.
                && [1, 3600, 600, 86400, ttl].iter().all(|field: &u32| answer.bytes(&field.to_be_bytes()))
        });
        if is_answer {
            self.answers += u16::from(written);
        } else {
            self.authorities += u16::from(written);
        }
        written
    }

    /// Completes the answer; returns its length.
    pub fn finish(mut self, code: Rcode) -> usize {
        if self.opt {
            self.limit += OPT;
            self.bytes(&opt_record(code, false));
        }
        let flags = self.flags | code as u16 & flag::RCODE;
        for (at, value) in
            [(2, flags), (4, 1), (6, self.answers), (8, self.authorities), (10, u16::from(self.opt))]
        {
            put_u16(self.buffer, at, value);
        }
        self.length
    }

    /// Writes a record, or nothing if it does not fit.
    fn record(&mut self, owner: u16, kind: u16, ttl: u32, data: impl FnOnce(&mut Self) -> bool) -> bool {
        let start = self.length;
        let mut head = [0; 12];
        head[..2].copy_from_slice(&(POINTER | owner).to_be_bytes());
        head[2..4].copy_from_slice(&kind.to_be_bytes());
        head[4..6].copy_from_slice(&kind::IN.to_be_bytes());
        head[6..10].copy_from_slice(&ttl.to_be_bytes());
        if self.bytes(&head) && data(self) {
            put_u16(self.buffer, start + 10, u16::try_from(self.length - start - 12).unwrap_or(0));
            return true;
        }
        self.length = start;
        self.flags |= flag::TC;
        false
    }

    fn label(&mut self, label: &str) -> bool {
        match u8::try_from(label.len()) {
            Ok(0) => true,
            Ok(length) => self.bytes(&[length]) && self.bytes(label.as_bytes()),
            Err(_) => false,
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> bool {
        let end = self.length + bytes.len();
        match self.buffer.get_mut(self.length..end) {
            Some(room) if end <= self.limit => {
                room.copy_from_slice(bytes);
                self.length = end;
                true
            }
            _ => false,
        }
    }
}

/// Writes an error response to a packet: its header and perhaps its question, with a code.
/// Returns the length.
pub fn error_response(understood: &[u8], code: Rcode, buffer: &mut [u8]) -> usize {
    let flags = u16_at(understood, 2).unwrap_or(0);
    // BADVERS has an OPT record; its client used one.
    let edns = code == Rcode::BadVers;
    let length = understood.len() + if edns { OPT } else { 0 };
    let Some(room) = buffer.get_mut(..length) else { return 0 };
    room[..understood.len()].copy_from_slice(understood);
    put_u16(room, 2, flag::QR | flags & (flag::OPCODE | flag::RD) | code as u16 & flag::RCODE);
    put_u16(room, 4, u16::from(understood.len() > HEADER));
    for at in [6, 8, 10] {
        put_u16(room, at, 0);
    }
    if edns {
        put_u16(room, 10, 1);
        room[understood.len()..].copy_from_slice(&opt_record(code, false));
    }
    length
}

/// Truncates a message to header and question, and sets TC; returns the length.
pub fn truncated(message: &mut [u8], question: usize) -> usize {
    let length = (HEADER + question).min(message.len());
    put_u16(message, 2, u16_at(message, 2).unwrap_or(0) | flag::TC);
    for at in [6, 8, 10] {
        put_u16(message, at, 0);
    }
    length
}

/// The OPT record: [`UDP_MAX`], version 0, and the upper bits of the code.
pub(crate) fn opt_record(code: Rcode, dnssec: bool) -> [u8; OPT] {
    let [_, kind] = kind::OPT.to_be_bytes();
    let [high, low] = u16::try_from(UDP_MAX).unwrap_or(u16::MAX).to_be_bytes();
    let extended = u8::try_from(code as u16 >> 4).unwrap_or(0);
    [0, 0, kind, high, low, extended, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]
}

/// Writes a big-endian word.
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(room) = bytes.get_mut(at..at + 2) {
        room.copy_from_slice(&value.to_be_bytes());
    }
}
