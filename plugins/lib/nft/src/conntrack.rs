//! Connection tracking (linux/netfilter/nfnetlink_conntrack.h): deleting flows after their
//! destination has changed.
//!
//! The kernel looks up a translation only for the first packet of a flow. A client that keeps
//! sending UDP from one port to a published port renews the flow with every packet, and with it a
//! dead container's address: such flows must be deleted when a mapping comes or goes. They are
//! selected by the protocol, the original destination and the source of replies; a port alone would
//! cut off other flows.

mod flow;

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use netlink::message::{Refusal, Request};
use netlink::socket::Socket;
use sys::{IpFamily, Result, sysctl};

pub(crate) use flow::read_any;
use flow::{
    CTA_ID, CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_IP_V6_SRC, CTA_PROTO_DST_PORT, CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_TUPLE_REPLY, CTA_ZONE, Flow,
    Tuple,
};

/// linux/netfilter/nfnetlink.h, NFNL_SUBSYS_CTNETLINK, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// net/netfilter/nf_internals.h (since Linux 5.8): the parts of a tuple by which the kernel filters
/// a listing.
const FILTER_IP_SRC: u32 = 1 << 0;
const FILTER_PROTO_NUM: u32 = 1 << 3;
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;

/// The number of flows that the calling thread's network namespace tracks.
const COUNT: &str = "net/netfilter/nf_conntrack_count";
/// Up to this many flows, transferring all is faster than walking the table a second time.
const FEW_FLOWS: usize = 1000;
/// The most filtered listings of one family and protocol; beyond it, one listing of all its flows
/// is better.
const LISTINGS: usize = 2;

/// A selection of flows: every field must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// The transport protocol (IPPROTO_UDP, …).
    pub proto: u8,
    /// The original destination: a host address; `None` matches any.
    pub destination: Option<IpAddr>,
    /// The original destination port: first and last.
    pub ports: (u16, u16),
    /// The source of replies.
    pub replies_from: Replies,
}

/// The source of a flow's replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// This address: the container that the flow was translated to.
    From(IpAddr),
    /// Any address of this family except this one: every other container, and whoever got the
    /// packets while the port was not published.
    NotFrom(IpAddr),
}

/// Connection tracking over a netfilter socket: see [`crate::Nft::conntrack`].
#[derive(Clone, Copy, Debug)]
pub struct Conntrack<'a> {
    socket: &'a Socket,
}

impl<'a> Conntrack<'a> {
    pub(crate) fn new(socket: &'a Socket) -> Self {
        Self { socket }
    }

    /// Deletes the flows that match any of `which` and returns their number, which is 0 on a kernel
    /// without connection tracking.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forget(self, which: &[Flows]) -> Result<usize> {
        if which.is_empty() {
            return Ok(0);
        }
        // A kernel with connection tracking may lack the parameter.
        let count = sysctl::read(COUNT).ok().and_then(|count| count.parse().ok()).unwrap_or(usize::MAX);
        let mut forgotten = 0;
        for listing in listings(which, count) {
            for flow in self.list(listing)? {
                if which.iter().any(|flows| flows.matches(&flow)) && self.delete(&flow)? {
                    forgotten += 1;
                }
            }
        }
        Ok(forgotten)
    }

    /// Deletes the flows that were first sent to an address of this network, from an address that
    /// `from` accepts; returns their number.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forget_to(self, to: IpNetwork, from: &dyn Fn(IpAddr) -> bool) -> Result<usize> {
        let mut forgotten = 0;
        for flow in self.list(Listing::Family(IpFamily::of(to.network())))? {
            let Tuple { source, destination, .. } = flow.original;
            if to.contains(destination) && from(source) && self.delete(&flow)? {
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn list(self, listing: Listing) -> Result<Vec<Flow>> {
        let mut request = Request::new(SUBSYSTEM | IPCTNL_MSG_CT_GET, 0, &[listing.family(), 0, 0, 0]);
        if let Listing::Some { proto, filter, .. } = listing {
            // The kernel filters where it can, so that a host with a million connections does not
            // send us all of them.
            let (mut original, mut reply) = (0, FILTER_PROTO_NUM);
            request.attrs.nest(CTA_TUPLE_REPLY, |w| {
                if let Filter::RepliesFrom(ip) = filter {
                    reply |= FILTER_IP_SRC;
                    w.nest(CTA_TUPLE_IP, |w| w.ip(CTA_IP_V4_SRC, ip.into()));
                }
                w.nest(CTA_TUPLE_PROTO, |w| w.u8(CTA_PROTO_NUM, proto));
            });
            if let Filter::Port(port) = filter {
                original = FILTER_PROTO_NUM | FILTER_PROTO_DST_PORT;
                request.attrs.nest(CTA_TUPLE_ORIG, |w| {
                    w.nest(CTA_TUPLE_PROTO, |w| {
                        w.u8(CTA_PROTO_NUM, proto);
                        w.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
                    });
                });
            }
            request.attrs.nest(CTA_FILTER, |w| {
                w.u32(CTA_FILTER_ORIG_FLAGS, original);
                w.u32(CTA_FILTER_REPLY_FLAGS, reply);
            });
        }
        let listed = self.socket.dump(request, |payload, all| {
            all.extend(Flow::read(payload)?);
            Ok(())
        });
        match listed {
            Err(refusal) if is_unsupported(&refusal) => Ok(Vec::new()),
            listed => listed.map_err(|refusal| refusal.on("list", "tracked connections")),
        }
    }

    /// Deletes a flow; false when it no longer exists.
    fn delete(self, flow: &Flow) -> Result<bool> {
        let family = family(flow.original.destination);
        let mut request = Request::new(SUBSYSTEM | IPCTNL_MSG_CT_DELETE, 0, &[family, 0, 0, 0]);
        // The tuple as the kernel sent it, and the id, so that a new flow with the same tuple is
        // not deleted.
        request.attrs.nest(CTA_TUPLE_ORIG, |w| {
            let (source, destination) = match family {
                AF_INET => (CTA_IP_V4_SRC, CTA_IP_V4_DST),
                _ => (CTA_IP_V6_SRC, CTA_IP_V6_DST),
            };
            w.nest(CTA_TUPLE_IP, |w| {
                w.ip(source, flow.original.source);
                w.ip(destination, flow.original.destination);
            });
            w.nest(CTA_TUPLE_PROTO, |w| {
                w.u8(CTA_PROTO_NUM, flow.original.proto);
                w.bytes(CTA_PROTO_SRC_PORT, &flow.original.source_port.to_be_bytes());
                w.bytes(CTA_PROTO_DST_PORT, &flow.original.destination_port.to_be_bytes());
            });
        });
        if let Some(zone) = flow.zone {
            request.attrs.bytes(CTA_ZONE, &zone);
        }
        if let Some(id) = flow.id {
            request.attrs.bytes(CTA_ID, &id);
        }
        match self.socket.change(request) {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.is(libc::ENOENT) => Ok(false),
            Err(refusal) => Err(refusal.on("forget", flow.original.to_string())),
        }
    }
}

/// A listing to request. The kernel walks its whole table for each listing (4 ms for 262,144
/// buckets, even when nearly empty), so the number of listings matters most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// All flows of both families: the kernel can filter by one family only.
    All,
    /// All flows of a family.
    Family(IpFamily),
    /// The flows of a family and a protocol.
    Some { family: IpFamily, proto: u8, filter: Filter },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    /// This original destination port.
    Port(u16),
    /// Replies from a container. IPv6 uses [`Filter::Any`]: the kernel compares IPv6 addresses
    /// wrongly (ctnetlink_filter_match_tuple).
    RepliesFrom(Ipv4Addr),
    /// All of them.
    Any,
}

impl Listing {
    const fn family(self) -> u8 {
        match self {
            Self::All => AF_UNSPEC,
            Self::Family(IpFamily::V4) | Self::Some { family: IpFamily::V4, .. } => AF_INET,
            Self::Family(IpFamily::V6) | Self::Some { family: IpFamily::V6, .. } => AF_INET6,
        }
    }
}

/// The smallest set of listings that covers all of `which`, on a host with `count` flows.
fn listings(which: &[Flows], count: usize) -> Vec<Listing> {
    match count {
        0 => return Vec::new(),
        1..=FEW_FLOWS => return vec![Listing::All],
        _ => {}
    }
    let mut kinds: Vec<_> = which.iter().map(|flows| (flows.family(), flows.proto)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut listings = Vec::new();
    for (family, proto) in kinds {
        let mut filters = Vec::new();
        for flows in which.iter().filter(|flows| (flows.family(), flows.proto) == (family, proto)) {
            let filter = flows.filter();
            if !filters.contains(&filter) {
                filters.push(filter);
            }
        }
        if filters.len() > LISTINGS || filters.contains(&Filter::Any) {
            filters = vec![Filter::Any];
        }
        listings.extend(filters.into_iter().map(|filter| Listing::Some { family, proto, filter }));
    }
    listings
}

impl Flows {
    const fn family(&self) -> IpFamily {
        let (Replies::From(ip) | Replies::NotFrom(ip)) = self.replies_from;
        IpFamily::of(ip)
    }

    /// The most selective filter: few flows go to one container, many to all others.
    fn filter(&self) -> Filter {
        let (first, last) = self.ports;
        match self.replies_from {
            Replies::From(IpAddr::V4(ip)) => Filter::RepliesFrom(ip),
            _ if first == last => Filter::Port(first),
            _ => Filter::Any,
        }
    }

    fn matches(&self, flow: &Flow) -> bool {
        let (first, last) = self.ports;
        let replies = match self.replies_from {
            Replies::From(ip) => flow.replies_from == ip,
            Replies::NotFrom(ip) => flow.replies_from != ip && flow.replies_from.is_ipv4() == ip.is_ipv4(),
        };
        flow.original.proto == self.proto
            && self.destination.is_none_or(|ip| flow.original.destination == ip)
            && (first..=last).contains(&flow.original.destination_port)
            && replies
    }
}

/// A kernel without connection tracking over netlink: no handler, or no such module.
fn is_unsupported(refusal: &Refusal) -> bool {
    refusal.is(libc::EOPNOTSUPP) || refusal.is(libc::EPROTONOSUPPORT)
}

const fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_matches_only_by_protocol_destination_and_reply_source() {
        let flow = |destination: [u8; 4], port, replies_from: [u8; 4]| Flow {
            original: flow::Tuple {
                source: [192, 0, 2, 9].into(),
                destination: destination.into(),
                proto: 17,
                source_port: 5000,
                destination_port: port,
            },
            replies_from: replies_from.into(),
            zone: None,
            id: None,
        };
        let host = [192, 0, 2, 1];
        let from = Flows {
            proto: 17,
            destination: Some(host.into()),
            ports: (53, 54),
            replies_from: Replies::From([10, 1, 1, 1].into()),
        };
        assert!(from.matches(&flow(host, 53, [10, 1, 1, 1])));
        assert!(from.matches(&flow(host, 54, [10, 1, 1, 1])));
        assert!(!from.matches(&flow(host, 55, [10, 1, 1, 1])));
        assert!(!from.matches(&flow([192, 0, 2, 3], 53, [10, 1, 1, 1])));
        assert!(!from.matches(&flow(host, 53, [10, 1, 1, 2])));
        assert!(!Flows { proto: 6, ..from }.matches(&flow(host, 53, [10, 1, 1, 1])));
        assert!(Flows { destination: None, ..from }.matches(&flow([192, 0, 2, 3], 53, [10, 1, 1, 1])));
        let not_from = Flows { replies_from: Replies::NotFrom([10, 1, 1, 1].into()), ..from };
        assert!(not_from.matches(&flow(host, 53, host)));
        assert!(!not_from.matches(&flow(host, 53, [10, 1, 1, 1])));
    }

    fn flows(ip: &str, ports: (u16, u16), from: bool) -> Flows {
        let ip: IpAddr = ip.parse().unwrap();
        let replies_from = if from { Replies::From(ip) } else { Replies::NotFrom(ip) };
        Flows { proto: 17, destination: None, ports, replies_from }
    }

    /// Each listing walks the kernel's whole table.
    #[test]
    fn listings_cover_every_selection_and_are_few() {
        let (v4, v6) = ("10.1.1.1", "fd00::1");
        let both = [flows(v4, (53, 53), false), flows(v6, (53, 53), false)];
        assert_eq!(listings(&both, 0), []);
        assert_eq!(listings(&both, FEW_FLOWS), [Listing::All]);
        let of = |family, filter| Listing::Some { family, proto: 17, filter };
        let port = Filter::Port(53);
        assert_eq!(listings(&both, usize::MAX), [of(IpFamily::V4, port), of(IpFamily::V6, port)]);
        let ports: Vec<_> = (1..=3).map(|port| flows(v4, (port, port), false)).collect();
        assert_eq!(listings(&ports, usize::MAX), [of(IpFamily::V4, Filter::Any)]);
        let gone: Vec<_> = (1..=3).map(|port| flows(v4, (port, port + 9), true)).collect();
        assert_eq!(
            listings(&gone, usize::MAX),
            [of(IpFamily::V4, Filter::RepliesFrom([10, 1, 1, 1].into()))]
        );
        assert_eq!(listings(&[flows(v6, (1, 9), true)], usize::MAX), [of(IpFamily::V6, Filter::Any)]);
    }
}
