//! Addresses and routes that are put back on a link after it was away, as the kernel described
//! them: with every attribute that the kernel accepts in a request.

use libc::{RTM_GETADDR, RTM_GETROUTE, RTM_NEWADDR, RTM_NEWROUTE};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use sys::Result;

use crate::addr::{self, AF_INET, AF_INET6};
use crate::attr::{Attrs, Malformed, Writer};
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Refusal, Request};
use crate::route::read::routes;
use crate::route::{RTA_OIF, Route};
use crate::{Link, Netlink};

/// Length of `struct ifaddrmsg` (linux/if_addr.h), and the place of the index in it.
const ADDRESS_HEADER: usize = 8;
const ADDRESS_INDEX: std::ops::Range<usize> = 4..8;
/// Length of `struct rtmsg` (linux/rtnetlink.h).
const ROUTE_HEADER: usize = 12;
/// linux/if_addr.h: IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_FLAGS, IFA_RT_PRIORITY,
/// IFA_PROTO. Without IFA_CACHEINFO, an address has no end.
const ADDRESS_ATTRS: [u16; 7] = [1, 2, 3, 4, 8, 9, 11];
/// linux/rtnetlink.h: RTA_DST, RTA_SRC, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS,
/// RTA_FLOW, RTA_TABLE, RTA_VIA, RTA_PREF, RTA_ENCAP_TYPE, RTA_ENCAP.
const ROUTE_ATTRS: [u16; 12] = [1, 2, 5, 6, 7, 8, 11, 15, 18, 20, 21, 22];
/// linux/rtnetlink.h: a next hop that is an object of its own.
const RTA_NH_ID: u16 = 30;
/// linux/rtnetlink.h: the protocols of routes that the kernel makes by itself.
const BY_REDIRECT: u8 = 1;
const LOCAL_TABLE: u32 = 255;
/// linux/rtnetlink.h.
const SCOPE_LINK: u8 = 253;

/// An address or a route that was on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    kind: u16,
    payload: Vec<u8>,
    /// For errors.
    text: String,
    /// A route with a gateway comes after those without.
    pub(crate) has_gateway: bool,
}

impl Saved {
    /// The address in these bytes ([`Saved::as_bytes`]).
    ///
    /// # Errors
    /// They contain none.
    pub fn address(bytes: &[u8]) -> Result<Self, Malformed> {
        let address = addr::read(bytes)?.ok_or(Malformed("no IP address"))?;
        let payload = reduced(bytes, ADDRESS_HEADER, &ADDRESS_ATTRS)?;
        Ok(Self { kind: RTM_NEWADDR, payload, text: address.net.to_string(), has_gateway: false })
    }

    /// The route in these bytes ([`Saved::as_bytes`]).
    ///
    /// # Errors
    /// They contain none.
    pub fn route(bytes: &[u8]) -> Result<Self, Malformed> {
        let family = bytes.first().copied().unwrap_or_default();
        let [route] = routes(family, bytes)?[..] else { return Err(Malformed("not one route")) };
        let payload = reduced(bytes, ROUTE_HEADER, &ROUTE_ATTRS)?;
        let has_gateway = route.gateway.is_some();
        Ok(Self { kind: RTM_NEWROUTE, payload, text: route.dst.to_string(), has_gateway })
    }

    /// Whether it is an address.
    pub fn is_address(&self) -> bool {
        self.kind == RTM_NEWADDR
    }

    /// Its bytes, for a file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.payload
    }

    fn request(&self, index: u32) -> Request {
        let mut payload = self.payload.clone();
        if self.is_address() {
            if let Some(place) = payload.get_mut(ADDRESS_INDEX) {
                place.copy_from_slice(&index.to_ne_bytes());
            }
            return Request::new(self.kind, NLM_F_CREATE | NLM_F_EXCL, &payload);
        }
        let mut request = Request::new(self.kind, NLM_F_CREATE | NLM_F_EXCL, &payload);
        request.attrs.u32(RTA_OIF, index);
        request
    }
}

/// The header and those of the attributes.
fn reduced(bytes: &[u8], header: usize, kinds: &[u16]) -> Result<Vec<u8>, Malformed> {
    let mut reduced = Writer::default();
    reduced.raw(bytes.get(..header).ok_or(Malformed("a header is too short"))?);
    for attr in Attrs::after(bytes, header)? {
        let attr = attr?;
        if kinds.contains(&attr.kind) {
            reduced.bytes(attr.kind, attr.payload);
        }
    }
    reduced.finish()
}

/// Whether an address stays on its link until somebody removes it: it does not expire, and the
/// kernel does not make it again by itself.
fn lasts(address: &addr::Address, link: &Link) -> bool {
    let made_by_kernel = address.net.is_ipv6() && address.scope == SCOPE_LINK && link.makes_link_local;
    address.is_permanent() && !made_by_kernel
}

fn is_restorable(route: &Route) -> bool {
    let by_kernel = [Route::BY_KERNEL, Route::BY_ADVERTISEMENT, BY_REDIRECT];
    route.table != LOCAL_TABLE && !by_kernel.contains(&route.protocol)
}

impl Netlink {
    /// The addresses of a link that do not expire, and its routes: those that the kernel makes by
    /// itself excepted. In the order in which they can be restored: addresses, routes on the link,
    /// routes by gateways.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn save(&self, link: &Link) -> Result<Vec<Saved>> {
        let mut wanted = AddressMessage::default();
        wanted.header.index = link.index;
        let mut saved = self.saved(Request::of(RTM_GETADDR, 0, &wanted), "addresses", |payload| {
            let address = addr::read(payload)?;
            let ours = address.is_some_and(|address| address.index == link.index && lasts(&address, link));
            ours.then(|| Saved::address(payload)).transpose()
        })?;
        let mut all_routes = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut wanted = RouteMessage::default();
            wanted.header.address_family = family.into();
            wanted.attributes.push(RouteAttribute::Oif(link.index));
            let found = self.saved(Request::of(RTM_GETROUTE, 0, &wanted), "routes", |payload| {
                // One with several next hops may use other links too.
                let [route] = routes(family, payload)?[..] else { return Ok(None) };
                let ours = route.index == Some(link.index) && is_restorable(&route);
                (ours && !by_next_hop_object(payload)?).then(|| Saved::route(payload)).transpose()
            })?;
            all_routes.extend(found);
        }
        all_routes.sort_by_key(|route| route.has_gateway);
        saved.extend(all_routes);
        Ok(saved)
    }

    fn saved(
        &self,
        request: Request,
        what: &'static str,
        read: impl Fn(&[u8]) -> Result<Option<Saved>, Malformed>,
    ) -> Result<Vec<Saved>> {
        let listed = self.socket.dump(request, |payload, saved| {
            saved.extend(read(payload).map_err(Refusal::from)?);
            Ok(())
        });
        match listed {
            Err(refusal) if refusal.is(libc::ENODEV) || refusal.is(libc::ENOENT) => Ok(Vec::new()),
            other => other.map_err(|refusal| refusal.on("list", what)),
        }
    }

    /// Puts an address or a route on the link of that index.
    ///
    /// # Errors
    /// `is_exists` when it is there; what else the kernel refuses.
    pub fn restore(&self, index: u32, saved: &Saved) -> Result<()> {
        let op = if saved.is_address() { "restore address" } else { "restore route" };
        self.change(op, saved.request(index), || format!("{} on {}", saved.text, self.link_label(index)))
    }
}

fn by_next_hop_object(payload: &[u8]) -> Result<bool, Malformed> {
    for attr in Attrs::after(payload, ROUTE_HEADER)? {
        if attr?.kind == RTA_NH_ID {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The address of a saved address, and the destination of a saved route.
impl std::fmt::Display for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use ipnetwork::IpNetwork;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..100), index: u32) {
            for saved in [Saved::address(&bytes), Saved::route(&bytes)].into_iter().flatten() {
                prop_assert!(saved.request(index).finish(1).is_ok());
            }
        }
    }

    #[test]
    fn a_saved_address_is_requested_on_the_new_index_and_without_its_end() {
        let mut writer = Writer::default();
        writer.raw(&[AF_INET, 24, 0x80, 0, 7, 0, 0, 0]);
        writer.bytes(2, &[10, 1, 2, 3]);
        writer.bytes(6, &[0; 16]);
        let saved = Saved::address(&writer.finish().unwrap()).unwrap();
        let again = Saved::address(saved.as_bytes()).unwrap();
        assert_eq!(saved, again);
        let request = saved.request(9).finish(1).unwrap();
        let address = addr::read(request.get(16..).unwrap()).unwrap().unwrap();
        assert_eq!((address.index, address.net), (9, "10.1.2.3/24".parse::<IpNetwork>().unwrap()));
        assert_eq!(saved.as_bytes().len(), 16);
    }
}
