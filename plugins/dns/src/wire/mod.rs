//! DNS messages, as far as a responder for containers needs them (RFC 1035, 6891): reads a question, writes an answer.
//!
//! Records of other servers are never decoded: a forwarded answer is checked by its header and question and passed on
//! as the bytes that it came as.

mod answer;
pub mod fuzz;
mod name;
mod query;
#[cfg(test)]
mod tests;

pub use answer::{Answer, refusal, truncated};
pub(crate) use answer::{opt, put};
pub use name::Name;
pub(crate) use query::word;
pub use query::{Edns, Query, Received, read};

/// RFC 1035, section 4.1.1: the header's length.
pub const HEADER: usize = 12;
/// RFC 1035, section 4.2.1: the longest message over UDP for who does not say more.
pub const UDP_PLAIN: usize = 512;
/// The longest message over UDP for anybody: what no link in use has to fragment (DNS flag day 2020).
pub const UDP_MAX: usize = 1232;
/// The longest message over TCP (RFC 1035, section 4.2.2: a prefix of two bytes tells the length).
pub const TCP_MAX: usize = 65535;
/// The longest question that is read; longer ones are refused.
pub const QUERY_MAX: usize = 4096;

/// Bits of the header's second word (RFC 1035, section 4.1.1).
pub mod flag {
    /// This is a response.
    pub const QR: u16 = 0x8000;
    /// The operation asked for, a number of four bits.
    pub const OPCODE: u16 = 0x7800;
    /// The answer is of our own data.
    pub const AA: u16 = 0x0400;
    /// The answer did not fit.
    pub const TC: u16 = 0x0200;
    /// The client wants recursion.
    pub const RD: u16 = 0x0100;
    /// We would ask others.
    pub const RA: u16 = 0x0080;
    /// The answer was verified (RFC 4035).
    pub const AD: u16 = 0x0020;
    /// The client verifies by itself (RFC 4035).
    pub const CD: u16 = 0x0010;
    /// The response code, a number of four bits.
    pub const RCODE: u16 = 0x000f;
}

/// What became of a question (RFC 1035, section 4.1.1; RFC 6891, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Rcode {
    /// Answered, maybe with nothing.
    NoError = 0,
    /// Not understood.
    FormErr = 1,
    /// Nobody answered.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// Not a thing we do.
    NotImp = 4,
    /// Not a thing we do for you.
    Refused = 5,
    /// A version of EDNS that we do not speak.
    BadVers = 16,
}

/// Types and classes of records (IANA, DNS parameters).
pub mod kind {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Name of an address.
    pub const PTR: u16 = 12;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Not a record but what EDNS says (RFC 6891).
    pub const OPT: u16 = 41;
    /// Part of a zone.
    pub const IXFR: u16 = 251;
    /// A whole zone.
    pub const AXFR: u16 = 252;
    /// All records of a name.
    pub const ANY: u16 = 255;
    /// The class of everything in use.
    pub const IN: u16 = 1;
}
