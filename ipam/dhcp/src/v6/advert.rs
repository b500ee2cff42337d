//! Router advertisements and solicitations as Ethernet frames (RFC 4861; options: RFC 8106).

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv6Network};
use netlink::Mac;

use super::{HOSTS_MAX, hosts, is_host, is_resolver};
use crate::frame::checksum;
use crate::message::name;

/// linux/if_ether.h.
pub const ETH_P_IPV6: u16 = 0x86dd;
/// Types of ICMPv6.
const SOLICITATION: u8 = 133;
pub const ADVERTISEMENT: u8 = 134;
/// netinet/in.h: IPPROTO_ICMPV6.
const PROTOCOL_ICMPV6: u8 = 58;
/// RFC 4861, section 6.1: a packet with less has passed a router.
const HOP_LIMIT: u8 = 255;
/// All routers, and their Ethernet address (RFC 2464, section 7).
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTERS_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 2]);
/// Lengths of headers: Ethernet, IPv6, and the fixed part of an advertisement.
const ETHERNET: usize = 14;
const IPV6: usize = 40;
const FIXED: usize = 16;
/// RFC 8200, section 5: what every link carries. A smaller MTU is an attack or a mistake.
const MTU_MIN: u32 = 1280;
/// Routers of a link whose advertisements are remembered.
const ROUTERS_MAX: usize = 8;

/// Options (RFC 4861, section 4.6; RFC 8106, section 5).
mod option {
    pub const SOURCE_MAC: u8 = 1;
    pub const PREFIX: u8 = 3;
    pub const MTU: u8 = 5;
    pub const NAME_SERVERS: u8 = 25;
    pub const DOMAIN_SEARCH: u8 = 31;
}

/// A prefix of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The prefix.
    pub net: Ipv6Network,
    /// Whether its addresses are on the link.
    pub on_link: bool,
    /// Whether hosts make their addresses of it.
    pub autonomous: bool,
    /// Seconds; 0: it is used no more.
    pub valid: u32,
}

/// An advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// The router's address on the link.
    pub router: Ipv6Addr,
    /// Whether it is a default router.
    pub is_default: bool,
    /// Its preference among default routers (RFC 4191): -1, 0 or 1.
    pub preference: i8,
    /// Whether addresses come from DHCPv6.
    pub managed: bool,
    /// Its prefixes.
    pub prefixes: Vec<Prefix>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// Name servers.
    pub name_servers: Vec<Ipv6Addr>,
    /// Domains in which names are looked up.
    pub search: Vec<String>,
}

impl Advert {
    /// Reads an advertisement; `None` if the frame is another, malformed, or not of this link.
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let (ethernet, packet) = frame.split_first_chunk::<ETHERNET>()?;
        let (ip, rest) = packet.split_first_chunk::<IPV6>()?;
        let payload = rest.get(..usize::from(u16::from_be_bytes([ip[4], ip[5]])))?;
        let source = Ipv6Addr::from(*ip[8..].first_chunk::<16>()?);
        let length = u32::try_from(payload.len()).ok()?.to_be_bytes();
        let sum = checksum(&[&ip[8..], &length, &[0, 0, 0, PROTOCOL_ICMPV6], payload]);
        if ethernet[12..] != ETH_P_IPV6.to_be_bytes()
            || ip[0] >> 4 != 6
            || (ip[6], ip[7]) != (PROTOCOL_ICMPV6, HOP_LIMIT)
            || !source.is_unicast_link_local()
            || sum != 0
        {
            return None;
        }
        Self::of_message(source, payload)
    }

    /// Reads the message of a router.
    pub fn of_message(router: Ipv6Addr, message: &[u8]) -> Option<Self> {
        let (fixed, options) = message.split_first_chunk::<FIXED>()?;
        if (fixed[0], fixed[1]) != (ADVERTISEMENT, 0) {
            return None;
        }
        let mut advert = Self {
            router,
            is_default: fixed[6..8] != [0, 0],
            preference: match fixed[5] >> 3 & 3 {
                1 => 1,
                3 => -1,
                _ => 0,
            },
            managed: fixed[5] & 0x80 != 0,
            prefixes: Vec::new(),
            mtu: None,
            name_servers: Vec::new(),
            search: Vec::new(),
        };
        advert.read_options(options).then_some(advert)
    }

    /// Reads options; false if they are malformed.
    fn read_options(&mut self, mut rest: &[u8]) -> bool {
        while let [kind, length, ..] = rest {
            let Some((option, behind)) = rest.split_at_checked(usize::from(*length) * 8) else {
                return false;
            };
            let Some(value) = option.get(2..) else { return false };
            self.read_option(*kind, value);
            rest = behind;
        }
        rest.is_empty()
    }

    fn read_option(&mut self, kind: u8, value: &[u8]) {
        // Their time comes behind two bytes; 0 takes them back.
        let lasting = || value.get(2..)?.split_first_chunk::<4>().filter(|(time, _)| **time != [0; 4]);
        match kind {
            option::PREFIX => {
                self.prefixes.extend(prefix(value).filter(|_| self.prefixes.len() < HOSTS_MAX));
            }
            option::MTU => {
                let mtu =
                    value.get(2..).and_then(<[u8]>::first_chunk::<4>).map(|mtu| u32::from_be_bytes(*mtu));
                self.mtu = mtu.filter(|mtu| *mtu >= MTU_MIN);
            }
            option::NAME_SERVERS => {
                if let Some((_, servers)) = lasting() {
                    self.name_servers.extend(hosts(servers, is_resolver));
                    self.name_servers.truncate(HOSTS_MAX);
                }
            }
            option::DOMAIN_SEARCH => {
                if let Some((_, names)) = lasting() {
                    // Zeros fill up: names without a label.
                    self.search.extend(name::list(names));
                    self.search.truncate(HOSTS_MAX);
                }
            }
            _ => {}
        }
    }
}

/// The value of a prefix's option.
fn prefix(value: &[u8]) -> Option<Prefix> {
    let ([length, flags, a, b, c, d, ..], address) = value.split_at_checked(14)? else { return None };
    let net = Ipv6Network::new(Ipv6Addr::from(*address.first_chunk::<16>()?), *length).ok()?;
    let net = Ipv6Network::new(net.network(), *length).ok().filter(|net| is_host(net.ip()))?;
    Some(Prefix {
        net,
        on_link: flags & 0x80 != 0,
        autonomous: flags & 0x40 != 0,
        valid: u32::from_be_bytes([*a, *b, *c, *d]),
    })
}

/// The frame of a solicitation from a link-local address.
pub fn solicitation(mac: Mac, from: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0, option::SOURCE_MAC, 1];
    message.extend(mac.0);
    let length = u16::try_from(message.len()).unwrap_or(0);
    let addresses = [from.octets(), ROUTERS.octets()].concat();
    let pseudo = [&[0, 0][..], &length.to_be_bytes(), &[0, 0, 0, PROTOCOL_ICMPV6]].concat();
    let sum = checksum(&[&addresses, &pseudo, &message]).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let head = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[PROTOCOL_ICMPV6, HOP_LIMIT]].concat();
    [&ROUTERS_MAC.0[..], &mac.0, &ETH_P_IPV6.to_be_bytes(), &head, &addresses, &message].concat()
}

/// The last advertisement of each router of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard(Vec<Advert>);

impl Heard {
    /// Remembers an advertisement. Those of more routers than a link has are not.
    pub fn add(&mut self, advert: Advert) {
        let is_full = self.0.len() >= ROUTERS_MAX;
        match self.0.iter_mut().find(|known| known.router == advert.router) {
            Some(known) => *known = advert,
            None if is_full => {}
            None => self.0.push(advert),
        }
    }

    /// Whether no router was heard.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The routers.
    pub fn routers(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.0.iter().map(|advert| advert.router)
    }

    /// The default router: of the highest preference, the first.
    pub fn default_router(&self) -> Option<Ipv6Addr> {
        let defaults = self.0.iter().rev().filter(|advert| advert.is_default);
        defaults.max_by_key(|advert| advert.preference).map(|advert| advert.router)
    }

    /// Whether a router reports that addresses come from DHCPv6.
    pub fn is_managed(&self) -> bool {
        self.0.iter().any(|advert| advert.managed)
    }

    fn prefixes(&self) -> impl Iterator<Item = &Prefix> {
        self.0.iter().flat_map(|advert| &advert.prefixes).filter(|prefix| prefix.valid > 0)
    }

    /// Prefixes of which the kernel makes addresses: identifiers of interfaces have 64 bits.
    pub fn autonomous(&self) -> impl Iterator<Item = Ipv6Network> {
        self.prefixes()
            .filter(|prefix| prefix.autonomous && prefix.net.prefix() == 64)
            .map(|prefix| prefix.net)
    }

    /// The length of the longest prefix on the link that has the address.
    pub fn on_link(&self, address: Ipv6Addr) -> Option<u8> {
        let has = self.prefixes().filter(|prefix| prefix.on_link && prefix.net.contains(address));
        has.map(|prefix| prefix.net.prefix()).max()
    }

    /// The smallest MTU.
    pub fn mtu(&self) -> Option<u32> {
        self.0.iter().filter_map(|advert| advert.mtu).min()
    }

    /// Name servers, each once, those of the link with its name.
    pub fn name_servers(&self, ifname: &str) -> Vec<String> {
        let all = self.0.iter().flat_map(|advert| &advert.name_servers);
        all.map(|server| server_text(*server, ifname)).collect()
    }

    /// Domains in which names are looked up.
    pub fn search(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|advert| &advert.search)
    }
}

/// A name server as a resolver's configuration has it.
pub fn server_text(server: Ipv6Addr, ifname: &str) -> String {
    if server.is_unicast_link_local() { format!("{server}%{ifname}") } else { server.to_string() }
}

/// Whether the network has the address.
pub fn has(net: Ipv6Network, address: &IpNetwork) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if net.contains(ip))
}
