//! The DNS messages of a responder for containers (RFC 1035, 6891): parses queries, writes
//! answers.
//!
//! Records of other servers are never parsed for what they say: the header and question of a
//! forwarded answer are checked, and its bytes passed on. [`Lifetime`] reads how long it may be
//! kept.

mod answer;
pub mod fuzz;
mod lifetime;
mod name;
mod query;
#[cfg(test)]
mod tests;

pub use answer::{Answer, error_response, truncated};
pub(crate) use answer::{opt_record, put_u16};
pub use lifetime::{Lifetime, is_kept};
pub use name::Name;
pub(crate) use query::u16_at;
pub use query::{Edns, Query, Received, read};

/// RFC 1035, section 4.1.1: the header's length.
pub const HEADER: usize = 12;
/// RFC 1035, section 4.2.1: the longest message over UDP without EDNS.
pub const UDP_PLAIN: usize = 512;
/// The longest message over UDP with EDNS: it is not fragmented on any link in use (DNS flag
/// day 2020).
pub const UDP_MAX: usize = 1232;
/// The longest message over TCP (RFC 1035, section 4.2.2: a prefix of two bytes gives the
/// length).
pub const TCP_MAX: usize = 65535;
/// The longest query; longer ones are rejected.
pub const QUERY_MAX: usize = 4096;

/// Bits of the header's second word (RFC 1035, section 4.1.1).
pub mod flag {
    /// Response.
    pub const QR: u16 = 0x8000;
    /// Operation code, four bits.
    pub const OPCODE: u16 = 0x7800;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available: we would forward.
    pub const RA: u16 = 0x0080;
    /// Authentic data (RFC 4035).
    pub const AD: u16 = 0x0020;
    /// Checking disabled: the client validates itself (RFC 4035).
    pub const CD: u16 = 0x0010;
    /// Response code, four bits.
    pub const RCODE: u16 = 0x000f;
}

/// Response codes (RFC 1035, section 4.1.1; RFC 6891, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Rcode {
    /// No error, with or without records.
    NoError = 0,
    /// The query is malformed.
    FormErr = 1,
    /// No upstream server answered.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// Not implemented.
    NotImp = 4,
    /// Refused.
    Refused = 5,
    /// Unsupported version of EDNS.
    BadVers = 16,
}

/// Types and classes of records (IANA, DNS parameters).
pub mod kind {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Another name's records stand for those of this one.
    pub const CNAME: u16 = 5;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Name of an address.
    pub const PTR: u16 = 12;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Another zone's names stand for those below this one (RFC 6672).
    pub const DNAME: u16 = 39;
    /// Options of EDNS instead of a record (RFC 6891).
    pub const OPT: u16 = 41;
    /// A signature (RFC 4034).
    pub const RRSIG: u16 = 46;
    /// Incremental zone transfer.
    pub const IXFR: u16 = 251;
    /// Zone transfer.
    pub const AXFR: u16 = 252;
    /// All records of a name.
    pub const ANY: u16 = 255;
    /// The Internet class.
    pub const IN: u16 = 1;
}
