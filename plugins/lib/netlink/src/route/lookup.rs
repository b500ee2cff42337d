//! Route lookup for a packet to an address.

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
/// Length of `struct rtmsg`, and the offset of its type.
const HEADER: usize = 12;
const KIND: usize = 7;

/// The result of a route lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteLookup {
    /// Index of the outgoing link.
    pub index: u32,
    /// Whether the address is this host's own, so that the packet would not leave.
    pub local: bool,
}

impl Netlink {
    /// Looks up the route to an address; `None` when there is none.
    ///
    /// # Errors
    /// The kernel refused for another reason.
    pub fn look_up_route(&self, ip: IpAddr) -> Result<Option<RouteLookup>> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(ip).into();
        question.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
        question.attributes.push(RouteAttribute::Destination(ip.into()));
        let answer = self.socket.get(Request::of(RTM_GETROUTE, 0, &question), |payload| {
            let local = payload.get(KIND) == Some(&RTN_LOCAL);
            for attr in Attrs::after(payload, HEADER)? {
                let attr = attr?;
                if attr.kind == RTA_OIF {
                    return Ok(Some(RouteLookup { index: attr.u32()?, local }));
                }
            }
            Ok(None)
        });
        match answer {
            Ok(route) => Ok(route),
            Err(refusal) if NO_ROUTE.iter().any(|errno| refusal.is(*errno)) => Ok(None),
            Err(refusal) => Err(refusal.on("look up the route to", ip.to_string())),
        }
    }
}

/// The kernel's errors for no route: also for unreachable, prohibit and blackhole routes, and an
/// unsupported family.
const NO_ROUTE: [i32; 6] =
    [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL, libc::EAFNOSUPPORT, libc::EOPNOTSUPP];
