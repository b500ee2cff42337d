//! What a client is and asks for: the part of a message that is the same in all of an attachment's
//! exchanges.

use std::net::Ipv4Addr;

use netlink::Mac;
use serde::{Deserialize, Serialize};

use crate::message::{Kind, LONGEST, Message, option};

/// The longest client identifier without its type, in bytes.
const ID_MAX: usize = 254;
/// Options that the client always wants: classless routes before the routers that they stand for
/// (RFC 3442).
pub const WANTED: [u8; 9] = [
    option::CLASSLESS_ROUTES,
    option::ROUTERS,
    option::SUBNET_MASK,
    option::STATIC_ROUTES,
    option::NAME_SERVERS,
    option::DOMAIN_NAME,
    option::DOMAIN_SEARCH,
    option::MTU,
    option::NTP_SERVERS,
];

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Its identifier, with its type (RFC 2132, section 9.14).
    pub client_id: Vec<u8>,
    /// Further options that it sends.
    #[serde(default)]
    pub provide: Vec<(u8, Vec<u8>)>,
    /// The codes of options that it wants, in order.
    pub wanted: Vec<u8>,
    /// Whether replies shall be broadcast.
    #[serde(default)]
    pub broadcast: bool,
}

/// The identifier of an attachment's client. Type 0: neither a name nor a hardware address.
pub fn client_id(container_id: &str, network: &str, ifname: &str) -> Vec<u8> {
    let text = format!("{container_id}/{network}/{ifname}");
    let text = text.as_bytes();
    [&[0], text.get(..ID_MAX).unwrap_or(text)].concat()
}

/// The fields that differ between messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    /// The number of the exchange.
    pub xid: u32,
    /// Seconds since it began.
    pub secs: u16,
    /// The address in use.
    pub ciaddr: Option<Ipv4Addr>,
    /// The address asked for.
    pub requested: Option<Ipv4Addr>,
    /// The server that is meant.
    pub server: Option<Ipv4Addr>,
}

impl Ask {
    /// A message of this client.
    pub fn message(&self, kind: Kind, mac: Mac, fields: &Fields) -> Vec<u8> {
        let address =
            |code, address: Option<Ipv4Addr>| address.map(|address| (code, address.octets().to_vec()));
        let mut options: Vec<(u8, Vec<u8>)> =
            [address(option::REQUESTED_ADDRESS, fields.requested), address(option::SERVER, fields.server)]
                .into_iter()
                .flatten()
                .collect();
        options.push((option::CLIENT_ID, self.client_id.clone()));
        // RFC 2131, table 5: a release and a refusal have no parameters.
        if matches!(kind, Kind::Discover | Kind::Request) {
            let longest = u16::try_from(LONGEST).unwrap_or(u16::MAX);
            options.push((option::MAX_SIZE, longest.to_be_bytes().to_vec()));
            options.push((option::REQUEST_LIST, self.wanted.clone()));
            options.extend(self.provide.iter().cloned());
        }
        let message = Message {
            kind,
            xid: fields.xid,
            secs: fields.secs,
            broadcast: self.broadcast && matches!(kind, Kind::Discover | Kind::Request),
            ciaddr: fields.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED),
            yiaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: mac,
            options,
        };
        message.to_bytes()
    }

    /// Whether its messages fit a frame.
    pub fn fits(&self) -> bool {
        let fields = Fields {
            requested: Some(Ipv4Addr::UNSPECIFIED),
            server: Some(Ipv4Addr::UNSPECIFIED),
            ..Fields::default()
        };
        self.message(Kind::Request, Mac::BROADCAST, &fields).len() <= LONGEST
    }
}
