//! What a server grants: an address, for a time, with parameters. Everything in it is checked.

use std::net::Ipv4Addr;
use std::time::Duration;
use std::{error, fmt};

use ipnetwork::Ipv4Network;
use netlink::Mac;
use serde::{Deserialize, Serialize};

use crate::frame::End;
use crate::message::{Message, name, option};

/// The time without an option for it.
const USUAL_TIME: Duration = Duration::from_secs(3600);
/// A lease that does not end (RFC 2131, section 3.3).
const INFINITE: u32 = u32::MAX;
/// More than any network has.
const HOSTS_MAX: usize = 16;
const ROUTES_MAX: usize = 256;
/// RFC 791: what every host accepts. A smaller MTU is an attack or a mistake.
const MTU_MIN: u16 = 576;

/// A granted address with its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its prefix.
    pub prefix: u8,
    /// The server's address.
    pub server: Ipv4Addr,
    /// The Ethernet address that the server's frames come from: its own, or a router's.
    pub server_mac: [u8; 6],
    /// Seconds from the request until the end; `None` is never.
    pub lease: Option<u32>,
    /// Seconds until the server is asked for more time.
    pub t1: u32,
    /// Seconds until every server is asked.
    pub t2: u32,
    /// Routers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<Ipv4Addr>,
    /// Destinations and routers of option 121, which stands for the routers and option 33.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classless: Option<Vec<Routed>>,
    /// Destinations and routers of option 33.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classful: Vec<Routed>,
    /// The MTU of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<Ipv4Addr>,
    /// The domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains in which names are looked up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Time servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_servers: Vec<Ipv4Addr>,
}

/// A destination, the length of its prefix, and the router to it; 0.0.0.0 is the link itself.
pub type Routed = (Ipv4Addr, u8, Ipv4Addr);

/// Why an offer or a grant cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It has no server identifier.
    NoServer,
    /// No host can have the address.
    Address(Ipv4Addr),
    /// It has no subnet mask.
    NoMask,
    /// The mask is not one.
    Mask(Ipv4Addr),
    /// It ends at once.
    NoTime,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer => f.write_str("DHCP option Server Identifier not found"),
            Self::Address(address) => write!(f, "no host can have the address {address}"),
            Self::NoMask => f.write_str("DHCP option Subnet Mask not found in DHCPACK"),
            Self::Mask(mask) => write!(f, "{mask} is not a subnet mask"),
            Self::NoTime => f.write_str("the lease time is 0"),
        }
    }
}

impl error::Error for Unusable {}

impl Grant {
    /// Reads and checks a server's offer or acknowledgement.
    ///
    /// # Errors
    /// It cannot be used. A parameter that cannot be used is left out.
    pub fn of(message: &Message, from: End) -> Result<Self, Unusable> {
        let address_of = |code| message.option(code).and_then(option::address);
        let server = address_of(option::SERVER).filter(|server| option::is_host(*server));
        let server = server.ok_or(Unusable::NoServer)?;
        let address = message.yiaddr;
        if !option::is_host(address) {
            return Err(Unusable::Address(address));
        }
        let mask = address_of(option::SUBNET_MASK).ok_or(Unusable::NoMask)?;
        let prefix = ipnetwork::ipv4_mask_to_prefix(mask).ok().filter(|prefix| *prefix > 0);
        let prefix = prefix.ok_or(Unusable::Mask(mask))?;
        let seconds = |code| message.option(code).and_then(option::seconds);
        let lease = match seconds(option::LEASE_TIME) {
            Some(0) => return Err(Unusable::NoTime),
            Some(INFINITE) => None,
            Some(lease) => Some(lease),
            None => u32::try_from(USUAL_TIME.as_secs()).ok(),
        };
        let (t1, t2) = times(lease, seconds(option::RENEWAL_TIME), seconds(option::REBINDING_TIME));
        let hosts = |code| -> Vec<Ipv4Addr> {
            let mut hosts = message.option(code).map(option::hosts).unwrap_or_default();
            hosts.truncate(HOSTS_MAX);
            hosts
        };
        let mtu = message.option(option::MTU).and_then(|value| <[u8; 2]>::try_from(value).ok());
        Ok(Self {
            address,
            prefix,
            server,
            server_mac: from.mac.0,
            lease,
            t1,
            t2,
            routers: hosts(option::ROUTERS),
            classless: message
                .option(option::CLASSLESS_ROUTES)
                .and_then(option::classless_routes)
                .map(routed),
            classful: message
                .option(option::STATIC_ROUTES)
                .map(option::static_routes)
                .map(routed)
                .unwrap_or_default(),
            mtu: mtu.map(u16::from_be_bytes).filter(|mtu| *mtu >= MTU_MIN),
            name_servers: hosts(option::NAME_SERVERS),
            domain: message.option(option::DOMAIN_NAME).and_then(name::of_text),
            search: message.option(option::DOMAIN_SEARCH).map(name::list).unwrap_or_default(),
            time_servers: hosts(option::NTP_SERVERS),
        })
    }

    /// The address with its prefix.
    pub fn net(&self) -> Option<Ipv4Network> {
        Ipv4Network::new(self.address, self.prefix).ok()
    }

    /// The server as an end of a message.
    pub fn server_end(&self) -> End {
        End { mac: Mac(self.server_mac), ip: self.server }
    }

    /// Whether it can be used, as [`Grant::of`] checks it: a record may have been changed by hand.
    pub fn is_sound(&self) -> bool {
        option::is_host(self.address)
            && option::is_host(self.server)
            && (1..=32).contains(&self.prefix)
            && self.lease != Some(0)
            && self.t1 <= self.t2
            && self.lease.is_none_or(|lease| self.t2 <= lease)
            && self.classless.as_ref().is_none_or(|routes| routes.len() <= ROUTES_MAX)
            && self.classful.len() <= ROUTES_MAX
    }
}

fn routed(routes: Vec<(Ipv4Network, Ipv4Addr)>) -> Vec<Routed> {
    let usable = |router: Ipv4Addr| router.is_unspecified() || option::is_host(router);
    let kept = routes.into_iter().filter(|(_, router)| usable(*router)).take(ROUTES_MAX);
    kept.map(|(net, router)| (net.network(), net.prefix(), router)).collect()
}

/// T1 and T2: the server's if they are in order, else a half and seven eighths of the time (RFC
/// 2131, section 4.4.5).
fn times(lease: Option<u32>, t1: Option<u32>, t2: Option<u32>) -> (u32, u32) {
    let Some(lease) = lease else { return (INFINITE, INFINITE) };
    let t2 = t2.filter(|t2| (1..=lease).contains(t2)).unwrap_or(lease - lease / 8);
    let t1 = t1.filter(|t1| (1..=t2).contains(t1)).unwrap_or((lease / 2).min(t2));
    (t1, t2)
}
