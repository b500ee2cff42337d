//! Connection tracking (linux/netfilter/nfnetlink_conntrack.h): forgetting flows whose destination has changed.
//!
//! A translation is looked up for the first packet of a flow only. A client that keeps sending UDP from one port to a
//! published one has the flow, and so a dead container's address, renewed by every packet: such flows must be
//! forgotten when a mapping comes or goes. Which ones is told by the protocol, the original destination and where
//! replies come from; never by a port alone, which would cut off others.

use std::net::IpAddr;

use crate::Result;
use crate::netlink::attr::{Attr, Attrs, Malformed};
use crate::netlink::message::{Refusal, Request};
use crate::netlink::socket::Socket;

/// linux/netfilter/nfnetlink.h, NFNL_SUBSYS_CTNETLINK, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
/// Length of `struct nfgenmsg`: u8 family, u8 version, be16 resource.
const NFGENMSG: usize = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// net/netfilter/nf_internals.h (since Linux 5.8): the parts of a tuple that a listing is filtered by.
const FILTER_IP_SRC: u32 = 1 << 0;
const FILTER_PROTO_NUM: u32 = 1 << 3;
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;

/// Which flows: all that is said must be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// The transport protocol (IPPROTO_UDP, …).
    pub proto: u8,
    /// Where the first packet was sent to: the host's address, unless it may be any.
    pub destination: Option<IpAddr>,
    /// The port it was sent to: first and last.
    pub ports: (u16, u16),
    /// Where replies come from.
    pub replies_from: Replies,
}

/// Where replies of a flow come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// From this address: the container that the flow was led to.
    From(IpAddr),
    /// From anywhere of this address's family but from it: every other container, and whoever got the packets while
    /// the port was not published.
    NotFrom(IpAddr),
}

/// Connection tracking, over a netfilter socket: see [`crate::nft::Nft::conntrack`].
#[derive(Clone, Copy, Debug)]
pub struct Conntrack<'a> {
    socket: &'a Socket,
}

impl<'a> Conntrack<'a> {
    pub(crate) fn new(socket: &'a Socket) -> Self {
        Self { socket }
    }

    /// Forgets the flows that any of `which` describes; gives how many there were. One listing serves all that have
    /// the protocol and the container's address in common; [`Replies::NotFrom`] takes one for each port. A kernel that tracks no connections has none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forget(self, which: &[Flows]) -> Result<usize> {
        let mut asked = Vec::new();
        let mut forgotten = 0;
        for flows in which {
            let question = flows.question();
            if asked.contains(&question) {
                continue;
            }
            asked.push(question);
            for flow in self.list(question)? {
                if which.iter().any(|flows| flows.hold(&flow)) && self.delete(&flow)? {
                    forgotten += 1;
                }
            }
        }
        Ok(forgotten)
    }

    fn list(self, (proto, replies, port): Question) -> Result<Vec<Flow>> {
        let (Replies::From(ip) | Replies::NotFrom(ip)) = replies;
        let mut request = Request::new(SUBSYSTEM | IPCTNL_MSG_CT_GET, 0, &[family(ip), 0, 0, 0]);
        // The kernel picks what it can, so that a host with a million connections does not tell us all.
        let mut flags = FILTER_PROTO_NUM;
        request.attrs.nest(CTA_TUPLE_REPLY, |w| {
            // Of IPv6 the kernel compares addresses the wrong way round (ctnetlink_filter_match_tuple): we do it then.
            if let Replies::From(ip @ IpAddr::V4(_)) = replies {
                flags |= FILTER_IP_SRC;
                w.nest(CTA_TUPLE_IP, |w| w.ip(if ip.is_ipv4() { CTA_IP_V4_SRC } else { CTA_IP_V6_SRC }, ip));
            }
            w.nest(CTA_TUPLE_PROTO, |w| w.u8(CTA_PROTO_NUM, proto));
        });
        if let Some(port) = port {
            request.attrs.nest(CTA_TUPLE_ORIG, |w| {
                w.nest(CTA_TUPLE_PROTO, |w| {
                    w.u8(CTA_PROTO_NUM, proto);
                    w.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
                });
            });
        }
        let original_flags = if port.is_some() { FILTER_PROTO_NUM | FILTER_PROTO_DST_PORT } else { 0 };
        request.attrs.nest(CTA_FILTER, |w| {
            w.u32(CTA_FILTER_ORIG_FLAGS, original_flags);
            w.u32(CTA_FILTER_REPLY_FLAGS, flags);
        });
        let listed = self.socket.dump(request, |payload, all| {
            all.extend(Flow::read(payload)?);
            Ok(())
        });
        match listed {
            Err(refusal) if unknown(&refusal) => Ok(Vec::new()),
            listed => listed.map_err(|refusal| refusal.on("list", "tracked connections")),
        }
    }

    /// Whether it was there still.
    fn delete(self, flow: &Flow) -> Result<bool> {
        let family = family(flow.original.destination);
        let mut request = Request::new(SUBSYSTEM | IPCTNL_MSG_CT_DELETE, 0, &[family, 0, 0, 0]);
        // The tuple as the kernel told it; the id, lest a new flow of the same tuple is taken for it.
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

/// What a listing is filtered by: protocol, source of replies, and original destination port.
type Question = (u8, Replies, Option<u16>);

impl Flows {
    /// The port is only told where it narrows: few flows lead to one container, many to all others.
    fn question(&self) -> Question {
        let (first, last) = self.ports;
        let narrow = matches!(self.replies_from, Replies::NotFrom(_)) && first == last;
        (self.proto, self.replies_from, narrow.then_some(first))
    }

    fn hold(&self, flow: &Flow) -> bool {
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

/// Linux without connection tracking netlink: no handler, or no such module.
fn unknown(refusal: &Refusal) -> bool {
    refusal.is(libc::EOPNOTSUPP) || refusal.is(libc::EPROTONOSUPPORT)
}

const fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// A tracked connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Flow {
    original: Tuple,
    /// The source of replies.
    replies_from: IpAddr,
    /// As told: big-endian.
    zone: Option<[u8; 2]>,
    id: Option<[u8; 4]>,
}

/// One direction of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    proto: u8,
    source_port: u16,
    destination_port: u16,
}

/// The reader of messages, for the fuzzer.
pub(crate) fn read_any(payload: &[u8]) {
    let _ = Flow::read(payload);
}

impl Flow {
    /// `None` of a connection that has no ports.
    fn read(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let (mut original, mut reply, mut zone, mut id) = (None, None, None, None);
        for attr in Attrs::after(payload, NFGENMSG)? {
            let attr = attr?;
            match attr.kind {
                CTA_TUPLE_ORIG => original = Tuple::read(attr)?,
                CTA_TUPLE_REPLY => reply = Tuple::read(attr)?,
                CTA_ZONE => zone = attr.payload.first_chunk().copied(),
                CTA_ID => id = attr.payload.first_chunk().copied(),
                _ => {}
            }
        }
        Ok(original.zip(reply).map(|(original, reply)| Self {
            original,
            replies_from: reply.source,
            zone,
            id,
        }))
    }
}

impl Tuple {
    fn read(attr: Attr<'_>) -> Result<Option<Self>, Malformed> {
        let (mut source, mut destination, mut proto) = (None, None, None);
        let (mut source_port, mut destination_port) = (None, None);
        let port = |attr: Attr<'_>| attr.payload.first_chunk().copied().map(u16::from_be_bytes);
        for part in attr.nested() {
            let part = part?;
            for attr in part.nested() {
                let attr = attr?;
                match (part.kind, attr.kind) {
                    (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => source = Some(attr.ip()?),
                    (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => destination = Some(attr.ip()?),
                    (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => proto = Some(attr.u8()?),
                    (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => source_port = port(attr),
                    (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => destination_port = port(attr),
                    _ => {}
                }
            }
        }
        let tuple = || {
            Some(Self {
                source: source?,
                destination: destination?,
                proto: proto?,
                source_port: source_port?,
                destination_port: destination_port?,
            })
        };
        Ok(tuple())
    }
}

impl std::fmt::Display for Tuple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the tracked connection of protocol {} from {} port {} to {} port {}",
            self.proto, self.source, self.source_port, self.destination, self.destination_port
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_reader_never_panics(bytes in vec(any::<u8>(), 0..300)) {
            let _ = Flow::read(&bytes);
        }
    }

    #[test]
    fn a_flow_is_told_by_protocol_destination_and_reply_source_together() {
        let flow = |destination: [u8; 4], port, replies_from: [u8; 4]| Flow {
            original: Tuple {
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
        assert!(from.hold(&flow(host, 53, [10, 1, 1, 1])));
        assert!(from.hold(&flow(host, 54, [10, 1, 1, 1])));
        assert!(!from.hold(&flow(host, 55, [10, 1, 1, 1])));
        assert!(!from.hold(&flow([192, 0, 2, 3], 53, [10, 1, 1, 1])));
        assert!(!from.hold(&flow(host, 53, [10, 1, 1, 2])));
        assert!(!Flows { proto: 6, ..from }.hold(&flow(host, 53, [10, 1, 1, 1])));
        assert!(Flows { destination: None, ..from }.hold(&flow([192, 0, 2, 3], 53, [10, 1, 1, 1])));
        let not_from = Flows { replies_from: Replies::NotFrom([10, 1, 1, 1].into()), ..from };
        assert!(not_from.hold(&flow(host, 53, host)));
        assert!(!not_from.hold(&flow(host, 53, [10, 1, 1, 1])));
    }
}
