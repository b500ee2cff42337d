//! The client of DHCPv6: the part of its messages that is the same in all exchanges.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use super::grant::Grant;
use super::message::{Kind, Message, Options, option};

/// DUID-UUID (RFC 6355): a type and 16 bytes.
const DUID_UUID: [u8; 2] = [0, 4];
/// The longest DUID, in bytes (RFC 8415, section 11.1).
pub const DUID_MAX: usize = 130;
/// Options that the client wants.
const WANTED: [u16; 3] = [option::NAME_SERVERS, option::DOMAIN_SEARCH, option::SOLICIT_MAX];

/// A client. Every attachment is one, with one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Its identifier.
    pub duid: Vec<u8>,
    /// The number of its address, and of its prefix, among its own.
    pub iaid: u32,
    /// Whether it wants a prefix, too.
    #[serde(default)]
    pub prefix: bool,
}

impl Ask {
    /// The client of an attachment with a client identifier of DHCP. The same identifier gives the
    /// same DUID, on every host and after every restart.
    pub fn of(client_id: &[u8], prefix: bool) -> Self {
        let digest: [u8; 64] = Sha512::digest(client_id).into();
        let mut uuid: [u8; 16] = std::array::from_fn(|at| digest[at]);
        // A UUID of its own rules, of the usual variant (RFC 9562, sections 4.1 and 5.8).
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let iaid = u32::from_be_bytes([digest[16], digest[17], digest[18], digest[19]]);
        Self { duid: [&DUID_UUID[..], &uuid].concat(), iaid, prefix }
    }

    /// Whether its messages can be sent: a record may have been changed by hand.
    pub fn is_sound(&self) -> bool {
        (3..=DUID_MAX).contains(&self.duid.len())
    }

    /// A message of this client, about what is granted or wished for. `elapsed` is in hundredths of
    /// a second.
    pub fn message(&self, kind: Kind, xid: [u8; 3], elapsed: u16, about: Option<&Grant>) -> Vec<u8> {
        let mut options = Options::default();
        options.push(option::CLIENT_ID, self.duid.clone());
        // A search and a rebinding are for every server.
        let to_server = !matches!(kind, Kind::Solicit | Kind::Rebind);
        if let Some(grant) = about.filter(|_| to_server) {
            options.push(option::SERVER_ID, grant.server.clone());
        }
        let address = about.map(Grant::address_option).unwrap_or_default();
        options.push(option::IA_NA, self.association(&address));
        // The address alone can be in use by another host.
        if self.prefix && kind != Kind::Decline {
            let prefix = about.map(Grant::prefix_option).unwrap_or_default();
            options.push(option::IA_PD, self.association(&prefix));
        }
        options.push(option::ELAPSED_TIME, elapsed.to_be_bytes());
        if !matches!(kind, Kind::Release | Kind::Decline) {
            let wanted: Vec<u8> = WANTED.iter().flat_map(|code| code.to_be_bytes()).collect();
            options.push(option::REQUEST_LIST, wanted);
        }
        Message { kind, xid, options }.to_bytes()
    }

    /// The value of an identity association: no wish about its times.
    fn association(&self, options: &Options) -> Vec<u8> {
        [&self.iaid.to_be_bytes()[..], &[0; 8], &options.to_bytes()].concat()
    }
}
