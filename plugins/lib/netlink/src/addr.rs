//! Addresses of links.
//!
//! The requests are rtnetlink messages, but not made by its `AddressMessageBuilder`, which omits a
//! multicast address, has no flags, and removes an address only with its prefix length.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use libc::{RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR};
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use sys::Result;

use crate::Netlink;
use crate::attr::{Attrs, Malformed};
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request};

/// linux/if_addr.h, attributes. ADDRESS is the far end of a point-to-point link, otherwise the same
/// as LOCAL.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_TARGET_NETNSID: u16 = 10;
const IFA_PROTO: u16 = 11;
/// The mark of our addresses (IFA_PROTO, since Linux 5.18): the number that our routes have too.
const OUR_PROTOCOL: u8 = 109;
/// linux/if_addr.h, flags.
/// (For an IPv4 address, IFA_F_TEMPORARY means that it is a secondary one.)
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_PERMANENT: u32 = 0x80;
/// linux/socket.h.
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;
/// Length of `struct ifaddrmsg` (linux/if_addr.h): u8 family, u8 prefix length, u8 flags, u8 scope,
/// u32 index.
const HEADER: usize = 8;

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub index: u32,
    /// The address, with host bits, and its prefix length.
    pub net: IpNetwork,
    /// `IFA_F_*` of linux/if_addr.h.
    pub flags: u32,
    /// `RT_SCOPE_*` of linux/rtnetlink.h: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// Whether [`Netlink::add_marked_address`] added it. Kernels before Linux 5.18 do not keep the
    /// mark.
    pub marked: bool,
}

/// An address to add.
#[derive(Clone, Copy, Debug)]
pub struct NewAddress {
    /// Index of the link.
    pub index: u32,
    /// The address, with host bits, and its prefix length.
    pub net: IpNetwork,
    /// IPv6: skip duplicate address detection (IFA_F_NODAD); the address can be used at once.
    pub nodad: bool,
}

impl Address {
    /// Whether duplicate address detection is not done (or has failed): the address cannot be bound
    /// yet.
    pub fn tentative(&self) -> bool {
        self.flags & IFA_F_TENTATIVE != 0
    }

    /// Whether it does not expire.
    pub fn is_permanent(&self) -> bool {
        self.flags & IFA_F_PERMANENT != 0
    }

    /// Whether it may not last: temporary (RFC 8981), deprecated, or tentative.
    pub fn is_transient(&self) -> bool {
        let passing = IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED;
        self.flags & passing != 0 || self.net.is_ipv6() && self.flags & IFA_F_TEMPORARY != 0
    }

    /// Whether it is a global IPv6 address that expires: autoconfigured from a router's prefix, or
    /// given a lifetime.
    pub fn advertised(&self) -> bool {
        self.net.is_ipv6() && self.scope == 0 && !self.is_permanent()
    }

    /// Whether duplicate address detection has failed: another node has it.
    pub fn dad_failed(&self) -> bool {
        self.flags & IFA_F_DADFAILED != 0
    }
}

/// The address family's number.
pub(crate) fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn message(index: u32, net: IpNetwork, attributes: Vec<AddressAttribute>) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.ip()).into();
    message.header.prefix_len = net.prefix();
    message.header.index = index;
    message.attributes = attributes;
    message
}

/// How an address is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Plain,
    /// With our mark (IFA_PROTO).
    Marked,
    /// Without a route to its subnet (IFA_F_NOPREFIXROUTE).
    WithoutRoute,
}

fn add_request(address: &NewAddress, manner: Manner) -> Request {
    let net = address.net;
    let mut attributes = vec![AddressAttribute::Local(net.ip()), AddressAttribute::Address(net.ip())];
    match net {
        IpNetwork::V4(net) if net.prefix() < 31 => {
            attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        _ => {}
    }
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Nodad, address.nodad && net.is_ipv6());
    flags.set(AddressFlags::Noprefixroute, manner == Manner::WithoutRoute);
    if !flags.is_empty() {
        attributes.push(AddressAttribute::Flags(flags));
    }
    if manner == Manner::Marked {
        attributes.push(AddressAttribute::Protocol(OUR_PROTOCOL.into()));
    }
    Request::of(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &message(address.index, net, attributes))
}

/// Reads the payload of an RTM_NEWADDR; `None` for a family other than IP.
pub(crate) fn read(payload: &[u8]) -> Result<Option<Address>, Malformed> {
    let short = Malformed("an address is too short");
    let (&[family, prefix, flags, scope], rest) = payload.split_first_chunk().ok_or(short)?;
    let index = u32::from_ne_bytes(*rest.first_chunk().ok_or(short)?);
    if family != AF_INET && family != AF_INET6 {
        return Ok(None);
    }
    let (mut flags, mut local, mut address, mut marked) = (u32::from(flags), None, None, false);
    for attr in Attrs::after(payload, HEADER)? {
        let attr = attr?;
        match attr.kind {
            IFA_LOCAL => local = Some(attr.ip()?),
            IFA_ADDRESS => address = Some(attr.ip()?),
            IFA_FLAGS => flags = attr.u32()?,
            IFA_PROTO => marked = attr.u8()? == OUR_PROTOCOL,
            _ => {}
        }
    }
    let ip = local.or(address).ok_or(short)?;
    let net = IpNetwork::new(ip, prefix).map_err(|_| Malformed("a prefix is too long"))?;
    Ok(Some(Address { index, net, flags, scope, marked }))
}

impl Netlink {
    /// Lists the addresses of a link, or of all links.
    ///
    /// # Errors
    /// The kernel refused. A link that does not exist has no addresses.
    pub fn addresses(&self, index: Option<u32>) -> Result<Vec<Address>> {
        let mut link = AddressMessage::default();
        link.header.index = index.unwrap_or(0);
        self.list_addresses(&link, index)
    }

    /// Lists the addresses of the namespace that has this number here ([`Netlink::netns_ids`]).
    ///
    /// # Errors
    /// The kernel refused; also when that namespace is gone.
    pub fn addresses_in(&self, netns_id: i32) -> Result<Vec<Address>> {
        let mut all = AddressMessage::default();
        let target = DefaultNla::new(IFA_TARGET_NETNSID, netns_id.to_ne_bytes().to_vec());
        all.attributes.push(AddressAttribute::Other(target));
        self.list_addresses(&all, None)
    }

    fn list_addresses(&self, link: &AddressMessage, index: Option<u32>) -> Result<Vec<Address>> {
        let listed = self.socket.dump(Request::of(RTM_GETADDR, 0, link), |payload, addresses| {
            // The kernel filters since Linux 5.0; older ones do not.
            addresses
                .extend(read(payload)?.filter(|address| index.is_none_or(|index| index == address.index)));
            Ok(())
        });
        match listed {
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(Vec::new()),
            other => other.map_err(|refusal| refusal.on("list", "addresses")),
        }
    }

    /// Adds an address with global scope; an IPv4 prefix shorter than /31 gets its broadcast
    /// address.
    ///
    /// # Errors
    /// `is_exists` when the link already has the address with the same prefix length (IPv6: with
    /// any).
    pub fn add_address(&self, address: &NewAddress) -> Result<()> {
        self.change("add address", add_request(address, Manner::Plain), || {
            format!("{} to {}", address.net, self.link_label(address.index))
        })
    }

    /// As [`Netlink::add_address`], with a mark that identifies the address as ours.
    ///
    /// # Errors
    /// Those of [`Netlink::add_address`].
    pub fn add_marked_address(&self, address: &NewAddress) -> Result<()> {
        self.change("add address", add_request(address, Manner::Marked), || {
            format!("{} to {}", address.net, self.link_label(address.index))
        })
    }

    /// As [`Netlink::add_address`], without the route to its subnet.
    ///
    /// # Errors
    /// Those of [`Netlink::add_address`].
    pub fn add_address_without_route(&self, address: &NewAddress) -> Result<()> {
        self.change("add address", add_request(address, Manner::WithoutRoute), || {
            format!("{} to {}", address.net, self.link_label(address.index))
        })
    }

    /// Sets the seconds after which the kernel removes an address that the link has, and for which
    /// new connections use it. The route to its subnet lasts as long.
    ///
    /// # Errors
    /// The link does not exist. An IPv4 address that the link does not have is added.
    pub fn limit_address(&self, index: u32, net: IpNetwork, valid: u32, preferred: u32) -> Result<()> {
        let mut limit = CacheInfo::default();
        (limit.ifa_valid, limit.ifa_preferred) = (valid, preferred.min(valid));
        let mut address = message(index, net, vec![AddressAttribute::Local(net.ip())]);
        address.attributes.push(AddressAttribute::Address(net.ip()));
        address.attributes.push(AddressAttribute::CacheInfo(limit));
        // With the first limit of an address that had none, Linux (seen in 5.10 to 6.18) puts the
        // route to its subnet at the end of its life at once: modify_prefix_route in
        // net/ipv6/addrconf.c takes the duration for a point in time. With the second it sets the
        // route's as asked.
        let times = if net.is_ipv6() { 2 } else { 1 };
        (0..times).try_for_each(|_| {
            let request = Request::of(RTM_NEWADDR, NLM_F_REPLACE, &address);
            self.change("limit address", request, || format!("{net} of {}", self.link_label(index)))
        })
    }

    /// Removes an address.
    ///
    /// # Errors
    /// `is_not_found` when the link does not have the address or does not exist.
    pub fn delete_address(&self, index: u32, net: IpNetwork) -> Result<()> {
        let address = message(index, net, vec![AddressAttribute::Local(net.ip())]);
        let request = Request::of(RTM_DELADDR, 0, &address);
        self.change("delete address", request, || format!("{net} from {}", self.link_label(index)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in vec(any::<u8>(), 0..100), family in 0u8..12) {
            if let Some(first) = bytes.first_mut() {
                *first = family;
            }
            let _ = read(&bytes);
        }

        /// A request and the kernel's description have the same form, so our reader must be able to
        /// read the request.
        #[test]
        fn a_request_is_read_back(v6: bool, octets: [u8; 16], prefix in 0u8..=128, index: u32, marked: bool) {
            let ip: IpAddr = if v6 { octets.into() } else { <[u8; 4]>::try_from(&octets[..4]).unwrap().into() };
            let net = IpNetwork::new(ip, prefix.min(if v6 { 128 } else { 32 })).unwrap();
            let manner = if marked { Manner::Marked } else { Manner::WithoutRoute };
            let bytes = add_request(&NewAddress { index, net, nodad: true }, manner).finish(1).unwrap();
            let address = read(bytes.get(16..).unwrap()).unwrap().unwrap();
            prop_assert_eq!((address.index, address.net, address.marked), (index, net, marked));
            let nodad = if v6 { AddressFlags::Nodad } else { AddressFlags::empty() };
            let without_route = if marked { AddressFlags::empty() } else { AddressFlags::Noprefixroute };
            prop_assert_eq!(address.flags, (nodad | without_route).bits());
        }
    }
}
