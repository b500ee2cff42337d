//! What a server grants: an address and perhaps a prefix, for a time. Everything in it is checked.

use std::net::Ipv6Addr;
use std::{error, fmt};

use ipnetwork::Ipv6Network;
use serde::{Deserialize, Serialize};

use super::ask::{Ask, DUID_MAX};
use super::message::{Message, Options, option};
use super::{hosts, is_host, is_resolver};
use crate::message::name;

/// A time that does not end (RFC 8415, section 7.7).
const INFINITE: u32 = u32::MAX;
/// The longest text of a server that is reported, in characters.
const TEXT_MAX: usize = 200;
/// Status codes (RFC 8415, section 21.13).
const SUCCESS: u16 = 0;
const FAILURE: u16 = 1;
const NO_BINDING: u16 = 3;
const STATUS: [&str; 7] =
    ["Success", "UnspecFail", "NoAddrsAvail", "NoBinding", "NotOnLink", "UseMulticast", "NoPrefixAvail"];

/// A granted address with its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The address.
    pub address: Ipv6Addr,
    /// The length of its prefix on the link, which routers advertise; else 128.
    pub length: u8,
    /// The server's DUID.
    pub server: Vec<u8>,
    /// Seconds from the request until the end; `None` is never.
    pub lease: Option<u32>,
    /// Seconds for which new connections use it.
    pub preferred: u32,
    /// Seconds until the server is asked for more time.
    pub t1: u32,
    /// Seconds until every server is asked.
    pub t2: u32,
    /// The delegated prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Delegated>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<Ipv6Addr>,
    /// Domains in which names are looked up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

/// A prefix that a server delegates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegated {
    /// Its first address.
    pub address: Ipv6Addr,
    /// Its length.
    pub length: u8,
    /// Seconds until its end; `u32::MAX` is never.
    pub valid: u32,
}

impl fmt::Display for Delegated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Why an answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The server refused.
    Status(u16, String),
    /// It has no address for this client.
    NoAddress,
    /// No host can have the address.
    Address(Ipv6Addr),
    /// The address may not be used any more.
    Ended,
    /// The times contradict each other.
    Times,
    /// It has no prefix for this client.
    NoPrefix,
}

impl Unusable {
    /// Whether the server has forgotten the client, and can be asked anew.
    pub fn is_no_binding(&self) -> bool {
        matches!(self, Self::Status(NO_BINDING, _))
    }

    /// Whether the server takes the address back. What is malformed, or a failure that may pass, is
    /// no refusal.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Status(code, _) => *code != FAILURE,
            Self::Ended => true,
            Self::NoAddress | Self::Address(_) | Self::Times | Self::NoPrefix => false,
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code, text) => {
                match STATUS.get(usize::from(*code)) {
                    Some(name) => f.write_str(name)?,
                    None => write!(f, "status {code}")?,
                }
                if text.is_empty() { Ok(()) } else { write!(f, ": {text}") }
            }
            Self::NoAddress => f.write_str("it has no address"),
            Self::Address(address) => write!(f, "no host can have the address {address}"),
            Self::Ended => f.write_str("the time of the address is 0"),
            Self::Times => f.write_str("its times contradict each other"),
            Self::NoPrefix => f.write_str("it has no prefix"),
        }
    }
}

impl error::Error for Unusable {}

impl Grant {
    /// Reads and checks a server's answer to a client.
    ///
    /// # Errors
    /// It cannot be used. A parameter that cannot be used is left out.
    pub fn of(message: &Message, server: &[u8], ask: &Ask) -> Result<Self, Unusable> {
        refused(&message.options)?;
        let (t1, t2, inner) =
            association(&message.options, option::IA_NA, ask.iaid).ok_or(Unusable::NoAddress)?;
        refused(&inner)?;
        let mut addresses = inner.all(option::IA_ADDRESS).filter_map(leased).peekable();
        addresses.peek().ok_or(Unusable::NoAddress)?;
        let (address, preferred, valid) =
            addresses.find(|(_, _, valid)| *valid > 0).ok_or(Unusable::Ended)?;
        if !is_host(address) {
            return Err(Unusable::Address(address));
        }
        if preferred > valid || t1 > 0 && t2 > 0 && t1 > t2 {
            return Err(Unusable::Times);
        }
        let prefix = if ask.prefix { Some(delegated(&message.options, ask)?) } else { None };
        // The earlier end counts: both are renewed together.
        let shortest = prefix.map_or(valid, |prefix| prefix.valid.min(valid));
        let (t1, t2) = times(shortest, preferred.min(shortest), t1, t2);
        Ok(Self {
            address,
            length: 128,
            server: server.to_vec(),
            lease: (valid != INFINITE).then_some(valid),
            preferred,
            t1,
            t2,
            prefix,
            name_servers: message
                .options
                .get(option::NAME_SERVERS)
                .map(|value| hosts(value, is_resolver))
                .unwrap_or_default(),
            search: message.options.get(option::DOMAIN_SEARCH).map(name::list).unwrap_or_default(),
        })
    }

    /// The address with its prefix.
    pub fn net(&self) -> Option<Ipv6Network> {
        Ipv6Network::new(self.address, self.length).ok()
    }

    /// Whether it can be used, as [`Grant::of`] checks it: a record may have been changed by hand.
    pub fn is_sound(&self) -> bool {
        is_host(self.address)
            && (1..=128).contains(&self.length)
            && is_duid(&self.server)
            && self.lease != Some(0)
            && self.t1 <= self.t2
            && self.lease.is_none_or(|lease| self.t2 <= lease)
            && self.prefix.is_none_or(|prefix| prefix.is_sound())
    }

    /// The option with the address, for a client's message. Times are the server's to choose.
    pub(super) fn address_option(&self) -> Options {
        let mut options = Options::default();
        options.push(option::IA_ADDRESS, [&self.address.octets()[..], &[0; 8]].concat());
        options
    }

    /// The same with the prefix, if there is one.
    pub(super) fn prefix_option(&self) -> Options {
        let mut options = Options::default();
        if let Some(prefix) = &self.prefix {
            let value = [&[0; 8], &[prefix.length][..], &prefix.address.octets()].concat();
            options.push(option::IA_PREFIX, value);
        }
        options
    }
}

impl Delegated {
    fn is_sound(self) -> bool {
        let net = Ipv6Network::new(self.address, self.length);
        (1..=127).contains(&self.length)
            && self.valid > 0
            && is_host(self.address)
            && net.is_ok_and(|net| net.network() == self.address)
    }
}

/// Whether these bytes can be a DUID.
pub fn is_duid(bytes: &[u8]) -> bool {
    (3..=DUID_MAX).contains(&bytes.len())
}

/// An error if the options have a status of failure.
fn refused(options: &Options) -> Result<(), Unusable> {
    let Some((code, text)) = options.get(option::STATUS).and_then(<[u8]>::split_first_chunk::<2>) else {
        return Ok(());
    };
    let code = u16::from_be_bytes(*code);
    if code == SUCCESS {
        return Ok(());
    }
    let text = String::from_utf8_lossy(text);
    Err(Unusable::Status(code, text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()))
}

/// T1, T2 and the options of the client's identity association.
fn association(options: &Options, code: u16, iaid: u32) -> Option<(u32, u32, Options)> {
    let read = |value: &[u8]| {
        let (id, rest) = value.split_first_chunk::<4>()?;
        let (t1, rest) = rest.split_first_chunk::<4>()?;
        let (t2, rest) = rest.split_first_chunk::<4>()?;
        let inner = Options::read(rest)?;
        let is_ours = u32::from_be_bytes(*id) == iaid;
        is_ours.then_some((u32::from_be_bytes(*t1), u32::from_be_bytes(*t2), inner))
    };
    options.all(code).find_map(read)
}

/// An address with its preferred and its valid time.
fn leased(value: &[u8]) -> Option<(Ipv6Addr, u32, u32)> {
    let (address, rest) = value.split_first_chunk::<16>()?;
    let (preferred, rest) = rest.split_first_chunk::<4>()?;
    let valid = rest.first_chunk::<4>()?;
    Some((Ipv6Addr::from(*address), u32::from_be_bytes(*preferred), u32::from_be_bytes(*valid)))
}

fn delegated(options: &Options, ask: &Ask) -> Result<Delegated, Unusable> {
    let (_, _, inner) = association(options, option::IA_PD, ask.iaid).ok_or(Unusable::NoPrefix)?;
    refused(&inner)?;
    let read = |value: &[u8]| {
        let (_, rest) = value.split_first_chunk::<4>()?;
        let (valid, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first()?;
        let address = Ipv6Addr::from(*rest.first_chunk::<16>()?);
        let prefix = Delegated { address, length: *length, valid: u32::from_be_bytes(*valid) };
        prefix.is_sound().then_some(prefix)
    };
    inner.all(option::IA_PREFIX).find_map(read).ok_or(Unusable::NoPrefix)
}

/// T1 and T2: the server's if they are in order, else a half and four fifths of the time for which
/// the address is preferred (RFC 8415, section 21.4).
fn times(valid: u32, preferred: u32, t1: u32, t2: u32) -> (u32, u32) {
    if valid == INFINITE && t1 == 0 {
        return (INFINITE, INFINITE);
    }
    // An address that is not preferred is renewed by its end.
    let base = if preferred == 0 { valid } else { preferred };
    let t2 = if (1..=valid).contains(&t2) { t2 } else { base - base / 5 };
    let t1 = if (1..=t2).contains(&t1) { t1 } else { (base / 2).min(t2) };
    (t1, t2)
}
