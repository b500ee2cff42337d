//! DHCPv6 messages between client and server (RFC 8415, section 8), and their options.

/// The kind of a message (RFC 8415, section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Looks for servers.
    Solicit = 1,
    /// A server offers an address.
    Advertise = 2,
    /// Asks for an address.
    Request = 3,
    /// Asks its server for more time.
    Renew = 5,
    /// Asks every server for more time.
    Rebind = 6,
    /// A server's answer.
    Reply = 7,
    /// Gives the address back.
    Release = 8,
    /// The address is in use by another host.
    Decline = 9,
}

const KINDS: [Kind; 8] = [
    Kind::Solicit,
    Kind::Advertise,
    Kind::Request,
    Kind::Renew,
    Kind::Rebind,
    Kind::Reply,
    Kind::Release,
    Kind::Decline,
];

/// Codes of options (RFC 8415, section 21; RFC 3646).
pub mod option {
    pub const CLIENT_ID: u16 = 1;
    pub const SERVER_ID: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const IA_ADDRESS: u16 = 5;
    pub const REQUEST_LIST: u16 = 6;
    pub const PREFERENCE: u16 = 7;
    pub const ELAPSED_TIME: u16 = 8;
    pub const STATUS: u16 = 13;
    pub const NAME_SERVERS: u16 = 23;
    pub const DOMAIN_SEARCH: u16 = 24;
    pub const IA_PD: u16 = 25;
    pub const IA_PREFIX: u16 = 26;
    /// The longest pauses between two messages of a search (RFC 7083). Asked for, as RFC 8415
    /// requires; ours are shorter.
    pub const SOLICIT_MAX: u16 = 82;
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// The client's number of the exchange.
    pub xid: [u8; 3],
    /// Its options, in order.
    pub options: Options,
}

/// Options with their codes, in order. A code may be repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(u16, Vec<u8>)>);

impl Message {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let [a, b, c] = self.xid;
        [&[self.kind as u8, a, b, c], &self.options.to_bytes()[..]].concat()
    }

    /// Reads a message; `None` if it is malformed, or between relays.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([kind, xid @ ..], options) = bytes.split_first_chunk::<4>()?;
        let kind = KINDS.into_iter().find(|known| *known as u8 == *kind)?;
        Some(Self { kind, xid: *xid, options: Options::read(options)? })
    }
}

impl Options {
    /// Adds an option. One that does not fit its field is cut.
    pub fn push(&mut self, code: u16, value: impl Into<Vec<u8>>) {
        let mut value = value.into();
        value.truncate(usize::from(u16::MAX));
        self.0.push((code, value));
    }

    /// The value of the first option of a code.
    pub fn get(&self, code: u16) -> Option<&[u8]> {
        self.all(code).next()
    }

    /// The values of all options of a code.
    pub fn all(&self, code: u16) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (code, value) in &self.0 {
            bytes.extend(code.to_be_bytes());
            bytes.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(value);
        }
        bytes
    }

    /// Reads options; `None` if one is longer than what is left.
    pub fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        while let Some(([a, b, c, d], rest)) = bytes.split_first_chunk::<4>() {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*c, *d])))?;
            options.push(u16::from_be_bytes([*a, *b]), value);
            bytes = rest;
        }
        bytes.is_empty().then_some(options)
    }
}
