//! Records of etcd that are not taken, and why. Everybody who can write the prefix can write
//! anything, so this is no failure of the agent: it names them, and goes on with all others.

use std::fmt;
use std::net::IpAddr;

use crate::{KEY_MAX, VALUE_MAX};

/// The longest part of a key or value that a message repeats, in characters.
const SHOWN: usize = 120;

/// A record that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its key, without the prefix where that is known; shortened, without control characters.
    pub key: String,
    /// Why.
    pub why: Fault,
}

impl LeftOut {
    /// The record with this key.
    pub fn new(key: &impl fmt::Display, why: Fault) -> Self {
        Self { key: shown(&key.to_string()), why }
    }

    /// A record whose key cannot be read.
    pub fn of_bytes(key: &[u8], why: Fault) -> Self {
        let start = key.get(..SHOWN).unwrap_or(key);
        Self { key: shown(&String::from_utf8_lossy(start)), why }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd's record {}: {}", self.key, self.why)
    }
}

/// Why a record is left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The key is longer than [`KEY_MAX`].
    KeyTooLong,
    /// A part of the key is invalid.
    Key(&'static str),
    /// No record of this release has such a key.
    UnknownKind,
    /// The value is longer than [`VALUE_MAX`].
    ValueTooLong,
    /// The value is not the JSON of such a record: the parser's words.
    Json(String),
    /// A newer release wrote it.
    Version(u64),
    /// A member has an impossible value: its name, and why.
    Member(&'static str, &'static str),
    /// There are as many records as are taken.
    TooMany,
    /// Its network has no record, or one that was left out.
    NoNetwork,
    /// Its host has no record, or none with an address that this cluster can send to.
    NoHost,
    /// An address outside the subnets of its network.
    Outside(IpAddr),
    /// An address that no container can have: of the network, its broadcast or its gateway.
    Reserved(IpAddr),
    /// An address in a block of another host, which did not lend it: the address, the host.
    OthersBlock(IpAddr, String),
    /// An address that an older record has, too: the address, that record's key.
    AddressTaken(IpAddr, String),
    /// A MAC that an older record of the network has, too: that record's key.
    MacTaken(String),
    /// An address of a host that this host has.
    OwnAddress(IpAddr),
    /// A VXLAN id that an older record has, too: that record's key.
    VniTaken(u32, String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyTooLong => write!(f, "the key is longer than {KEY_MAX} bytes"),
            Self::Key(why) => write!(f, "the key is invalid: {why}"),
            Self::UnknownKind => f.write_str("this release knows no such key"),
            Self::ValueTooLong => write!(f, "the value is longer than {VALUE_MAX} bytes"),
            Self::Json(why) => write!(f, "the value cannot be read: {why}"),
            Self::Version(v) => write!(f, "a newer release wrote it (\"v\": {v})"),
            Self::Member(name, why) => write!(f, "\"{name}\" {why}"),
            Self::TooMany => write!(f, "there are more than {} records", crate::RECORDS_MAX),
            Self::NoNetwork => f.write_str("its network has no usable record"),
            Self::NoHost => f.write_str("its host has no usable record"),
            Self::Outside(ip) => write!(f, "{ip} is outside the network's subnets"),
            Self::Reserved(ip) => {
                write!(f, "{ip} is the network's own address, its broadcast address or a gateway")
            }
            Self::OthersBlock(ip, host) => {
                write!(f, "{ip} is in a block of host {host}, which did not lend it")
            }
            Self::AddressTaken(ip, key) => write!(f, "{ip} is also in the older record {key}"),
            Self::MacTaken(key) => write!(f, "its MAC is also in the older record {key}"),
            Self::OwnAddress(ip) => write!(f, "{ip} is an address of this host"),
            Self::VniTaken(vni, key) => write!(f, "VXLAN id {vni} is also in the older record {key}"),
        }
    }
}

impl Fault {
    /// The parser's words.
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        Self::Json(shown(&error.to_string()))
    }
}

/// A text from outside, for a message: bounded, without control characters.
fn shown(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars().take(SHOWN) {
        if c.is_control() {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_bounded_and_has_no_control_characters() {
        let left_out = LeftOut::of_bytes(&[b'\n'; 4096], Fault::UnknownKind);
        assert!(left_out.key.len() <= 2 * SHOWN && !left_out.to_string().contains('\n'));
        let left_out = LeftOut::new(&"net/a\tb", Fault::Version(7));
        assert_eq!(left_out.to_string(), "etcd's record net/a\\tb: a newer release wrote it (\"v\": 7)");
    }
}
