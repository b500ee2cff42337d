//! Where a packet to an address would go.

use std::net::IpAddr;

use libc::RTM_GETROUTE;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use sys::Result;

use super::RTA_OIF;
use crate::Netlink;
use crate::addr::family;
use crate::attr::Attrs;
use crate::message::Request;

/// linux/rtnetlink.h.
const RTN_LOCAL: u8 = 2;
/// Length of `struct rtmsg`, and where its type is.
const HEADER: usize = 12;
const KIND: usize = 7;

/// Where a packet to an address would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Towards {
    /// Index of the link that it would leave by.
    pub index: u32,
    /// It would not leave: the address is this host's own.
    pub local: bool,
}

impl Netlink {
    /// Asks the kernel's routing for one address; `None` when there is no route.
    ///
    /// # Errors
    /// The kernel refused for another reason than that.
    pub fn towards(&self, ip: IpAddr) -> Result<Option<Towards>> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(ip).into();
        question.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
        question.attributes.push(RouteAttribute::Destination(ip.into()));
        let answer = self.socket.get(Request::of(RTM_GETROUTE, 0, &question), |payload| {
            let local = payload.get(KIND) == Some(&RTN_LOCAL);
            for attr in Attrs::after(payload, HEADER)? {
                let attr = attr?;
                if attr.kind == RTA_OIF {
                    return Ok(Some(Towards { index: attr.u32()?, local }));
                }
            }
            Ok(None)
        });
        match answer {
            Ok(towards) => Ok(towards),
            Err(refusal) if NO_ROUTE.iter().any(|errno| refusal.is(*errno)) => Ok(None),
            Err(refusal) => Err(refusal.on("look up the route to", ip.to_string())),
        }
    }
}

/// What the kernel says when there is none: also an unreachable, a prohibit and a blackhole route, and no such family.
const NO_ROUTE: [i32; 6] =
    [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL, libc::EAFNOSUPPORT, libc::EOPNOTSUPP];
