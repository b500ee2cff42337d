//! Connection tracking (linux/netfilter/nfnetlink_conntrack.h): forgetting flows whose destination has changed.
//!
//! A translation is looked up for the first packet of a flow only. A client that keeps sending UDP from one port to a
//! published one has the flow, and so a dead container's address, renewed by every packet: such flows must be
//! forgotten when a mapping comes or goes. Which ones is told by the protocol, the original destination and where
//! replies come from; never by a port alone, which would cut off others.

mod flow;

use std::net::{IpAddr, Ipv4Addr};

use netlink::message::{Refusal, Request};
use netlink::socket::Socket;
use sys::{IpFamily, Result, sysctl};

pub(crate) use flow::read_any;
use flow::{
    CTA_ID, CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_IP_V6_SRC, CTA_PROTO_DST_PORT, CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_TUPLE_REPLY, CTA_ZONE, Flow,
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
/// net/netfilter/nf_internals.h (since Linux 5.8): the parts of a tuple that a listing is filtered by.
const FILTER_IP_SRC: u32 = 1 << 0;
const FILTER_PROTO_NUM: u32 = 1 << 3;
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;

/// How many flows the calling thread's network namespace tracks.
const COUNT: &str = "net/netfilter/nf_conntrack_count";
/// So many flows are told sooner than the table is walked through a second time.
const FEW_FLOWS: usize = 1000;
/// The most listings of one family and protocol that are better than one of all its flows.
const LISTINGS: usize = 2;

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

/// Connection tracking, over a netfilter socket: see [`crate::Nft::conntrack`].
#[derive(Clone, Copy, Debug)]
pub struct Conntrack<'a> {
    socket: &'a Socket,
}

impl<'a> Conntrack<'a> {
    pub(crate) fn new(socket: &'a Socket) -> Self {
        Self { socket }
    }

    /// Forgets the flows that any of `which` describes; gives how many there were. A kernel that tracks no connections
    /// has none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forget(self, which: &[Flows]) -> Result<usize> {
        if which.is_empty() {
            return Ok(0);
        }
        // A kernel may have the parameter and not show it.
        let count = sysctl::read(COUNT).ok().and_then(|count| count.parse().ok()).unwrap_or(usize::MAX);
        let mut forgotten = 0;
        for question in questions(which, count) {
            for flow in self.list(question)? {
                if which.iter().any(|flows| flows.hold(&flow)) && self.delete(&flow)? {
                    forgotten += 1;
                }
            }
        }
        Ok(forgotten)
    }

    fn list(self, question: Question) -> Result<Vec<Flow>> {
        let mut request = Request::new(SUBSYSTEM | IPCTNL_MSG_CT_GET, 0, &[question.family(), 0, 0, 0]);
        if let Question::Some { proto, about, .. } = question {
            // The kernel picks what it can, so that a host with a million connections does not tell us all.
            let (mut original, mut reply) = (0, FILTER_PROTO_NUM);
            request.attrs.nest(CTA_TUPLE_REPLY, |w| {
                if let About::RepliesFrom(ip) = about {
                    reply |= FILTER_IP_SRC;
                    w.nest(CTA_TUPLE_IP, |w| w.ip(CTA_IP_V4_SRC, ip.into()));
                }
                w.nest(CTA_TUPLE_PROTO, |w| w.u8(CTA_PROTO_NUM, proto));
            });
            if let About::Port(port) = about {
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

/// What is listed. The kernel walks through its whole table for each listing (4 ms for 262,144 buckets, however few
/// flows are in it), so what matters first is how few there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Every flow of both families: the kernel filters one family only.
    Everything,
    /// Those of a family and a protocol.
    Some { family: IpFamily, proto: u8, about: About },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// This original destination port.
    Port(u16),
    /// Replies from a container. Of IPv6 the kernel compares addresses the wrong way round
    /// (ctnetlink_filter_match_tuple): [`About::Any`] then.
    RepliesFrom(Ipv4Addr),
    /// Everything.
    Any,
}

impl Question {
    const fn family(self) -> u8 {
        match self {
            Self::Everything => AF_UNSPEC,
            Self::Some { family: IpFamily::V4, .. } => AF_INET,
            Self::Some { family: IpFamily::V6, .. } => AF_INET6,
        }
    }
}

/// As few questions as cover all of `which`, on a host with `count` flows.
fn questions(which: &[Flows], count: usize) -> Vec<Question> {
    match count {
        0 => return Vec::new(),
        1..=FEW_FLOWS => return vec![Question::Everything],
        _ => {}
    }
    let mut kinds: Vec<_> = which.iter().map(|flows| (flows.family(), flows.proto)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut questions = Vec::new();
    for (family, proto) in kinds {
        let mut abouts = Vec::new();
        for flows in which.iter().filter(|flows| (flows.family(), flows.proto) == (family, proto)) {
            let about = flows.about();
            if !abouts.contains(&about) {
                abouts.push(about);
            }
        }
        if abouts.len() > LISTINGS || abouts.contains(&About::Any) {
            abouts = vec![About::Any];
        }
        questions.extend(abouts.into_iter().map(|about| Question::Some { family, proto, about }));
    }
    questions
}

impl Flows {
    const fn family(&self) -> IpFamily {
        let (Replies::From(ip) | Replies::NotFrom(ip)) = self.replies_from;
        IpFamily::of(ip)
    }

    /// What narrows most: few flows lead to one container, many to all others.
    fn about(&self) -> About {
        let (first, last) = self.ports;
        match self.replies_from {
            Replies::From(IpAddr::V4(ip)) => About::RepliesFrom(ip),
            _ if first == last => About::Port(first),
            _ => About::Any,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_told_by_protocol_destination_and_reply_source_together() {
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

    fn flows(ip: &str, ports: (u16, u16), from: bool) -> Flows {
        let ip: IpAddr = ip.parse().unwrap();
        let replies_from = if from { Replies::From(ip) } else { Replies::NotFrom(ip) };
        Flows { proto: 17, destination: None, ports, replies_from }
    }

    /// A listing walks through the kernel's whole table, so there are few.
    #[test]
    fn as_few_listings_as_cover_everything() {
        let (v4, v6) = ("10.1.1.1", "fd00::1");
        let both = [flows(v4, (53, 53), false), flows(v6, (53, 53), false)];
        assert_eq!(questions(&both, 0), []);
        assert_eq!(questions(&both, FEW_FLOWS), [Question::Everything]);
        let of = |family, about| Question::Some { family, proto: 17, about };
        let port = About::Port(53);
        assert_eq!(questions(&both, usize::MAX), [of(IpFamily::V4, port), of(IpFamily::V6, port)]);
        let ports: Vec<_> = (1..=3).map(|port| flows(v4, (port, port), false)).collect();
        assert_eq!(questions(&ports, usize::MAX), [of(IpFamily::V4, About::Any)]);
        let gone: Vec<_> = (1..=3).map(|port| flows(v4, (port, port + 9), true)).collect();
        assert_eq!(
            questions(&gone, usize::MAX),
            [of(IpFamily::V4, About::RepliesFrom([10, 1, 1, 1].into()))]
        );
        assert_eq!(questions(&[flows(v6, (1, 9), true)], usize::MAX), [of(IpFamily::V6, About::Any)]);
    }
}
