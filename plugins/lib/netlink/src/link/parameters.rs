//! Kernel parameters of a link, which the kernel sets back to the namespace's defaults when the
//! link moves: those of `net/ipv4/conf/<link>` and `net/ipv6/conf/<link>`.

use libc::{RTM_GETLINK, RTM_NEWLINK};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use sys::Result;

use super::{IFLA_AF_SPEC, lookup_request, read};
use crate::Netlink;
use crate::addr::{AF_INET, AF_INET6};
use crate::attr::{Attrs, Malformed};
use crate::message::Request;

/// linux/if_link.h, in the nests of IFLA_AF_SPEC: an array of values.
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_CONF: u16 = 2;

/// Places in the array of IPv4, which begins with number 1 (IPV4_DEVCONF_*, linux/ip.h).
const IPV4: [(usize, &str); 24] = [
    (0, "ipv4/forwarding"),
    (2, "ipv4/proxy_arp"),
    (3, "ipv4/accept_redirects"),
    (4, "ipv4/secure_redirects"),
    (5, "ipv4/send_redirects"),
    (6, "ipv4/shared_media"),
    (7, "ipv4/rp_filter"),
    (8, "ipv4/accept_source_route"),
    (10, "ipv4/log_martians"),
    (12, "ipv4/arp_filter"),
    (14, "ipv4/disable_xfrm"),
    (15, "ipv4/disable_policy"),
    (17, "ipv4/arp_announce"),
    (18, "ipv4/arp_ignore"),
    (19, "ipv4/promote_secondaries"),
    (20, "ipv4/arp_accept"),
    (21, "ipv4/arp_notify"),
    (22, "ipv4/accept_local"),
    (23, "ipv4/src_valid_mark"),
    (24, "ipv4/proxy_arp_pvlan"),
    (25, "ipv4/route_localnet"),
    (28, "ipv4/ignore_routes_with_linkdown"),
    (30, "ipv4/drop_gratuitous_arp"),
    (31, "ipv4/bc_forwarding"),
];
/// Places in the array of IPv6 (DEVCONF_*, linux/ipv6.h). Times are missing: they have other units
/// there.
const IPV6: [(usize, &str); 23] = [
    // The first: others need IPv6.
    (26, "ipv6/disable_ipv6"),
    (0, "ipv6/forwarding"),
    (1, "ipv6/hop_limit"),
    (3, "ipv6/accept_ra"),
    (4, "ipv6/accept_redirects"),
    (5, "ipv6/autoconf"),
    (6, "ipv6/dad_transmits"),
    (10, "ipv6/use_tempaddr"),
    (17, "ipv6/accept_ra_defrtr"),
    (18, "ipv6/accept_ra_pinfo"),
    (19, "ipv6/accept_ra_rtr_pref"),
    (22, "ipv6/proxy_ndp"),
    (24, "ipv6/accept_source_route"),
    (27, "ipv6/accept_dad"),
    (28, "ipv6/force_tllao"),
    (29, "ipv6/ndisc_notify"),
    (33, "ipv6/accept_ra_from_local"),
    (35, "ipv6/accept_ra_mtu"),
    (41, "ipv6/drop_unsolicited_na"),
    (42, "ipv6/keep_addr_on_down"),
    (46, "ipv6/enhanced_dad"),
    (47, "ipv6/addr_gen_mode"),
    (48, "ipv6/disable_policy"),
];

/// A kernel parameter of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Family and name: `ipv4/rp_filter`.
    pub name: &'static str,
    /// Its value.
    pub value: i32,
}

impl Parameter {
    /// The parameter of that family and name; `None` if it is not one of these.
    pub fn new(name: &str, value: i32) -> Option<Self> {
        let mut known = IPV4.iter().chain(&IPV6);
        known.find(|(_, known)| *known == name).map(|(_, name)| Self { name, value })
    }

    /// Its key below `/proc/sys`.
    pub fn key(&self, link: &str) -> String {
        let (family, name) = self.name.split_once('/').unwrap_or_default();
        format!("net/{family}/conf/{link}/{name}")
    }
}

impl Netlink {
    /// Lets a link have no IPv6 address but those that are given to it, as
    /// `net/ipv6/conf/<link>/addr_gen_mode` does, but without a file. The kernel takes it of an
    /// existing link only; call it before the link is up.
    ///
    /// # Errors
    /// The kernel refused; `is_not_supported` where the link has no IPv6.
    pub fn make_no_link_local(&self, index: u32) -> Result<()> {
        let request = no_link_local(index);
        self.change("keep link-local addresses from link", request, || index.to_string())
    }

    /// The parameters of a link, in the order in which they can be set.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn parameters(&self, index: u32) -> Result<Vec<Parameter>> {
        let request = Request::of(RTM_GETLINK, 0, &lookup_request(index).build());
        self.socket
            .get(request, |payload| Ok(parameters(payload)?))
            .map_err(|refusal| refusal.on("look up link", format!("{index}")))
    }
}

fn no_link_local(index: u32) -> Request {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let families = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
    let link = LinkUnspec::new_with_index(index).append_extra_attribute(families);
    Request::of(RTM_NEWLINK, 0, &link.build())
}

fn parameters(payload: &[u8]) -> Result<Vec<Parameter>, Malformed> {
    let mut found = Vec::new();
    for attr in Attrs::after(payload, read::HEADER)? {
        let attr = attr?;
        if attr.kind != IFLA_AF_SPEC {
            continue;
        }
        for family in attr.nested() {
            let family = family?;
            let (conf, places): (u16, &[(usize, &'static str)]) = match family.kind {
                kind if kind == u16::from(AF_INET) => (IFLA_INET_CONF, &IPV4),
                kind if kind == u16::from(AF_INET6) => (IFLA_INET6_CONF, &IPV6),
                _ => continue,
            };
            for attr in family.nested() {
                let attr = attr?;
                if attr.kind == conf {
                    found.extend(places.iter().filter_map(|(at, name)| value(attr.payload, *at, name)));
                }
            }
        }
    }
    Ok(found)
}

/// An older kernel has a shorter array.
fn value(values: &[u8], at: usize, name: &'static str) -> Option<Parameter> {
    let bytes = values.get(at * 4..)?.first_chunk()?;
    Some(Parameter { name, value: i32::from_ne_bytes(*bytes) })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = parameters(&bytes);
        }
    }

    #[test]
    fn the_request_against_link_local_addresses_is_read_back() {
        let bytes = no_link_local(7).finish(1).unwrap();
        let link = read::link(bytes.get(16..).unwrap()).unwrap();
        assert_eq!((link.index, link.makes_link_local), (7, false));
        let mode = [5, 0, 8, 0, 1];
        assert!(bytes.windows(5).any(|some| some == mode), "{bytes:?}");
    }

    #[test]
    fn a_parameter_is_known_by_its_name() {
        let found = Parameter::new("ipv6/accept_ra", 2).unwrap();
        assert_eq!(found.key("eth0.5"), "net/ipv6/conf/eth0.5/accept_ra");
        assert_eq!(Parameter::new("ipv6/../x", 2), None);
    }
}
