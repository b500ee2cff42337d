//! DHCP messages (RFC 2131, section 2; options: RFC 2132).
//!
//! A reader of options that are repeated, continued (RFC 3396), or in the fields of file and server
//! name (RFC 2132, section 9.3). No bytes make it panic, and what it keeps is no longer than what it
//! read.

pub mod name;
pub mod option;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use netlink::Mac;

/// RFC 951: `op` of a client and of a server.
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// `htype` and `hlen` of Ethernet (RFC 1700).
const ETHERNET: [u8; 2] = [1, 6];
/// The bit of `flags` that asks for replies by broadcast.
const BROADCAST: u16 = 0x8000;
/// Begins the options (RFC 2131, section 3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Length up to the options, with the cookie.
const HEADER: usize = 240;
/// Where the fields of server name and file are.
const SERVER_NAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
/// Some relays drop messages that are shorter than those of BOOTP (RFC 1542, section 2.1).
const SHORTEST: usize = 300;
/// The longest message that is sent and announced, in bytes: what fits any Ethernet.
pub const LONGEST: usize = 1472;

/// The kind of a message (RFC 2132, section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Looks for servers.
    Discover,
    /// A server offers an address.
    Offer,
    /// Asks for an address, or for more time.
    Request,
    /// The address is in use.
    Decline,
    /// Granted.
    Ack,
    /// Refused.
    Nak,
    /// Gives the address back.
    Release,
}

const KINDS: [Kind; 7] =
    [Kind::Discover, Kind::Offer, Kind::Request, Kind::Decline, Kind::Ack, Kind::Nak, Kind::Release];

impl Kind {
    fn to_byte(self) -> u8 {
        self as u8 + 1
    }

    fn from_byte(byte: u8) -> Option<Self> {
        KINDS.get(usize::from(byte.checked_sub(1)?)).copied()
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// The client's number of the exchange.
    pub xid: u32,
    /// Seconds since the exchange began.
    pub secs: u16,
    /// Whether replies shall be broadcast.
    pub broadcast: bool,
    /// The client's address, which it uses.
    pub ciaddr: Ipv4Addr,
    /// The address that the server assigns.
    pub yiaddr: Ipv4Addr,
    /// The client's Ethernet address.
    pub chaddr: Mac,
    /// The other options, each code once.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Message {
    /// The value of an option.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }

    /// A client's message as bytes. An option longer than 255 bytes is continued (RFC 3396).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SHORTEST);
        bytes.push(REQUEST);
        bytes.extend(ETHERNET);
        bytes.push(0);
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend((if self.broadcast { BROADCAST } else { 0 }).to_be_bytes());
        bytes.extend(self.ciaddr.octets());
        bytes.extend(self.yiaddr.octets());
        // The addresses of a boot server and of a relay.
        bytes.extend([0; 8]);
        bytes.extend(self.chaddr.0);
        bytes.resize(FILE.end, 0);
        bytes.extend(COOKIE);
        bytes.extend([option::MESSAGE_TYPE, 1, self.kind.to_byte()]);
        for (code, value) in &self.options {
            for part in value.chunks(usize::from(u8::MAX)) {
                bytes.push(*code);
                bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                bytes.extend(part);
            }
        }
        bytes.push(option::END);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }

    /// Reads a server's message; `None` if it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        if header[0] != REPLY || header[1..3] != ETHERNET || header[FILE.end..] != COOKIE {
            return None;
        }
        let four = |at: usize| header.get(at..)?.first_chunk::<4>().copied();
        let mut options = Vec::new();
        read_options(bytes.get(HEADER..)?, &mut options);
        let overload = take(&mut options, option::OVERLOAD).and_then(|value| value.first().copied());
        let overload = overload.unwrap_or(0);
        if overload & 1 != 0 {
            read_options(&header[FILE], &mut options);
        }
        if overload & 2 != 0 {
            read_options(&header[SERVER_NAME], &mut options);
        }
        let kind = take(&mut options, option::MESSAGE_TYPE)?;
        Some(Self {
            kind: Kind::from_byte(*kind.first()?)?,
            xid: u32::from_be_bytes(four(4)?),
            secs: u16::from_be_bytes([header[8], header[9]]),
            broadcast: u16::from_be_bytes([header[10], header[11]]) & BROADCAST != 0,
            ciaddr: four(12)?.into(),
            yiaddr: four(16)?.into(),
            chaddr: Mac(*header.get(28..)?.first_chunk()?),
            options,
        })
    }
}

/// Appends the options in a field; one that is already there is continued.
fn read_options(mut field: &[u8], options: &mut Vec<(u8, Vec<u8>)>) {
    while let Some((code, rest)) = field.split_first() {
        match *code {
            option::PAD => field = rest,
            option::END => return,
            code => {
                let Some((length, rest)) = rest.split_first() else { return };
                let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
                match options.iter_mut().find(|(known, _)| *known == code) {
                    Some((_, whole)) => whole.extend(value),
                    None => options.push((code, value.to_vec())),
                }
                field = rest;
            }
        }
    }
}

fn take(options: &mut Vec<(u8, Vec<u8>)>, code: u8) -> Option<Vec<u8>> {
    let at = options.iter().position(|(known, _)| *known == code)?;
    Some(options.remove(at).1)
}
