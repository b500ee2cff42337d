//! How long an answer of another server may be kept. Its records are read for this and for
//! nothing else.

use super::query::{skip_name, u16_at};
use super::{HEADER, Rcode, flag, kind};

/// The longest that an answer with records is kept, in seconds. Servers change their minds, and
/// nobody can empty the caches of others.
const POSITIVE_MAX: u32 = 3600;
/// The longest that an absence is kept: somebody may wait for a name that is new.
const NEGATIVE_MAX: u32 = 300;
/// RFC 1035, section 2.3.4: the longest name, in bytes of a message.
const NAME_MAX: usize = 255;
/// Bytes of a record between its owner and its data: type, class, TTL, length.
const FIELDS: usize = 10;
/// Bytes of the numbers at the end of an SOA record; the last four are the minimum.
const SOA_NUMBERS: usize = 20;

/// The lifetime of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The least TTL of its records, in seconds; never 0.
    pub seconds: u32,
    /// Where the TTLs of its records are.
    pub ttls: Vec<u16>,
}

impl Lifetime {
    /// The lifetime of the whole answer to one question; `None` if it must not be kept: it is
    /// truncated, reports a failure, is malformed, is no chain from the queried name to its
    /// records, or is an absence without the SOA record that limits it (RFC 2308, section 5).
    /// `edns`: the client uses EDNS, so that the answer may have an OPT record.
    pub fn read(message: &[u8], edns: bool) -> Option<Self> {
        let flags = u16_at(message, 2)?;
        let absent = flags & flag::RCODE == Rcode::NxDomain as u16;
        if flags & flag::TC != 0 || !(absent || flags & flag::RCODE == 0) || u16_at(message, 4) != Some(1) {
            return None;
        }
        let asked = skip_name(message, HEADER)?;
        let name = Labels::read(message, HEADER)?;
        let mut chain = Chain { name, asked: u16_at(message, asked)?, ends: false };
        let mut records = Records { message, at: asked + 4 };
        let mut lifetime = Self { seconds: POSITIVE_MAX, ttls: Vec::new() };
        for _ in 0..u16_at(message, 6)? {
            let record = records.next()?;
            chain.follow(message, &record)?;
            lifetime.note(&record)?;
        }
        let mut absence = None;
        for _ in 0..u16_at(message, 8)? {
            let record = records.next()?;
            lifetime.note(&record)?;
            if record.kind == kind::SOA && chain.name.is_below(&Labels::read(message, record.owner)?) {
                absence = Some(record.ttl.min(minimum(message, &record)?));
            }
        }
        let mut options = false;
        for _ in 0..u16_at(message, 10)? {
            let record = records.next()?;
            if record.kind != kind::OPT {
                lifetime.note(&record)?;
                continue;
            }
            // The upper eight bits of its TTL extend the code (RFC 6891, section 6.1.3).
            if options || !edns || record.ttl >> 24 != 0 {
                return None;
            }
            options = true;
        }
        if records.at != message.len() || absent && chain.ends {
            return None;
        }
        if !chain.ends {
            lifetime.seconds = lifetime.seconds.min(absence?).min(NEGATIVE_MAX);
        }
        (lifetime.seconds > 0).then_some(lifetime)
    }

    /// Notes the TTL of a record of the Internet class.
    fn note(&mut self, record: &Record) -> Option<()> {
        if record.class != kind::IN || !is_kept(record.kind) {
            return None;
        }
        // RFC 2181, section 8: a TTL with the highest bit is 0.
        let ttl = if record.ttl >> 31 == 0 { record.ttl } else { 0 };
        self.seconds = self.seconds.min(ttl);
        self.ttls.push(u16::try_from(record.ttl_at).ok()?);
        Some(())
    }
}

/// Whether a type names records, which ANY does too. The others are of one message or one
/// connection (RFC 6895, section 3.1).
pub fn is_kept(kind: u16) -> bool {
    !matches!(kind, 0 | kind::OPT | 128..kind::ANY)
}

/// A record of a message.
struct Record {
    owner: usize,
    kind: u16,
    class: u16,
    ttl_at: usize,
    ttl: u32,
    data: usize,
    end: usize,
}

/// The records from an offset on.
struct Records<'m> {
    message: &'m [u8],
    at: usize,
}

impl Records<'_> {
    /// The next record; `None` if the message does not contain it whole.
    fn next(&mut self) -> Option<Record> {
        let owner = self.at;
        let fields = skip_name(self.message, owner)?;
        let word = |at: usize| u16_at(self.message, fields + at);
        let data = fields + FIELDS;
        let end = data + usize::from(word(8)?);
        if end > self.message.len() {
            return None;
        }
        self.at = end;
        let ttl = u32::from(word(4)?) << 16 | u32::from(word(6)?);
        Some(Record { owner, kind: word(0)?, class: word(2)?, ttl_at: fields + 4, ttl, data, end })
    }
}

/// The minimum of an SOA record.
fn minimum(message: &[u8], record: &Record) -> Option<u32> {
    let numbers = skip_name(message, skip_name(message, record.data)?)?;
    let last = message.get(record.end.checked_sub(4)?..record.end)?.try_into().ok()?;
    (numbers + SOA_NUMBERS == record.end).then(|| u32::from_be_bytes(last))
}

/// The way from the queried name to its records, over aliases (CNAME).
struct Chain {
    name: Labels,
    asked: u16,
    /// A record of the queried type was reached.
    ends: bool,
}

impl Chain {
    /// Takes the next record of the answer section. A record of another name is part of no
    /// chain, unless it proves one (RRSIG) or makes its aliases (DNAME).
    fn follow(&mut self, message: &[u8], record: &Record) -> Option<()> {
        if Labels::read(message, record.owner)? == self.name {
            if record.kind == self.asked || self.asked == kind::ANY {
                self.ends = true;
                return Some(());
            }
            if record.kind == kind::CNAME && !self.ends {
                self.name = Labels::read(message, record.data)?;
                return (skip_name(message, record.data)? == record.end).then_some(());
            }
        }
        matches!(record.kind, kind::RRSIG | kind::DNAME).then_some(())
    }
}

/// A name as in a message, but in lower case and without compression.
#[derive(PartialEq, Eq)]
struct Labels {
    bytes: [u8; NAME_MAX],
    length: usize,
}

impl Labels {
    /// Reads the name at `at`. Compression pointers lead backwards (RFC 1035, section 4.1.4), so
    /// it has an end.
    fn read(message: &[u8], mut at: usize) -> Option<Self> {
        let mut name = Self { bytes: [0; NAME_MAX], length: 0 };
        let mut first = at;
        loop {
            let length = usize::from(*message.get(at)?);
            match length {
                0xc0.. => {
                    at = usize::from(u16_at(message, at)? & 0x3fff);
                    if at >= first || at < HEADER {
                        return None;
                    }
                    first = at;
                }
                0x40.. => return None,
                _ => {
                    let label = message.get(at..=at + length)?;
                    let room = name.bytes.get_mut(name.length..name.length + label.len())?;
                    room.copy_from_slice(label);
                    // The length of a label is no letter.
                    room.make_ascii_lowercase();
                    name.length += label.len();
                    at += label.len();
                    if length == 0 {
                        return Some(name);
                    }
                }
            }
        }
    }

    /// Whether it is that zone, or a name below it.
    fn is_below(&self, zone: &Self) -> bool {
        let (name, zone) = (&self.bytes[..self.length], &zone.bytes[..zone.length]);
        let mut at = 0;
        while let Some(rest) = name.get(at..).filter(|rest| !rest.is_empty()) {
            if rest == zone {
                return true;
            }
            at += 1 + usize::from(rest[0]);
        }
        false
    }
}

#[cfg(test)]
mod tests;
