//! Transport protocols: their numbers and their names.

use std::fmt;

/// A transport protocol by its number (IPPROTO_*, linux/in.h). It prints as a name if ports of the
/// protocol can be published, otherwise as the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol(pub u8);

impl Protocol {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// SCTP.
    pub const SCTP: u8 = 132;

    const NAMES: [(&'static str, u8); 3] = [("tcp", Self::TCP), ("udp", Self::UDP), ("sctp", Self::SCTP)];

    /// The number of the protocol of that name, in any case.
    pub fn named(name: &str) -> Option<u8> {
        Self::NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, number)| *number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}
