//! Routes with every attribute that the kernel accepts in a request, to copy them to another table
//! and to make them again: [`Route`] has only those that an attachment is configured with.

use libc::{RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use sys::Result;

use super::{
    RTA_GATEWAY, RTA_MULTIPATH, RTA_OIF, RTA_PRIORITY, RTA_TABLE, RTA_VIA, RTN_UNICAST, RTNH_F_ONLINK, Route,
    read,
};
use crate::Netlink;
use crate::addr::{AF_INET, AF_INET6};
use crate::attr::{Attrs, Malformed};
use crate::message::{NLM_F_APPEND, NLM_F_CREATE, Refusal, Request};

/// linux/rtnetlink.h: RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC,
/// RTA_METRICS, RTA_MULTIPATH, RTA_FLOW, RTA_VIA, RTA_PREF, RTA_ENCAP_TYPE, RTA_ENCAP, RTA_NH_ID.
const COPIED: [u16; 14] = [1, 2, 4, 5, 6, 7, 8, 9, 11, 18, 20, 21, 22, RTA_NH_ID];
/// linux/rtnetlink.h: a next hop that is an object of its own, which excludes the others.
const RTA_NH_ID: u16 = 30;
const NEXT_HOP: [u16; 4] = [RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA];
/// Length of `struct rtmsg` (linux/rtnetlink.h), and the places of table and flags in it.
const HEADER: usize = 12;
const TABLE: usize = 4;
const FLAGS: usize = 8;
/// Length of `struct rtnexthop`, and the places of flags and index in it.
const HOP_HEADER: usize = 8;
const HOP_FLAGS: usize = 2;
const HOP_INDEX: std::ops::Range<usize> = 4..8;

/// A route as the kernel described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeRoute {
    header: [u8; HEADER],
    /// Without the table.
    attributes: Vec<(u16, Vec<u8>)>,
    /// One for each next hop, and what they have in common.
    hops: Vec<Route>,
    first: Route,
}

impl WholeRoute {
    /// Reads the payload of an RTM_NEWROUTE; `None` if it is of another family, or a cached copy.
    fn read(family: u8, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let hops = read::routes(family, payload)?;
        let Some(first) = hops.first().copied() else { return Ok(None) };
        let mut header = *payload.first_chunk().ok_or(Malformed("a route is too short"))?;
        settle(&mut header);
        let mut attributes = Vec::new();
        for attr in Attrs::after(payload, HEADER)? {
            let attr = attr?;
            if COPIED.contains(&attr.kind) {
                attributes.push((attr.kind, attr.payload.to_vec()));
            }
        }
        if attributes.iter().any(|(kind, _)| *kind == RTA_NH_ID) {
            attributes.retain(|(kind, _)| !NEXT_HOP.contains(kind));
        }
        for (_, hops) in attributes.iter_mut().filter(|(kind, _)| *kind == RTA_MULTIPATH) {
            *hops = selected(hops, |_| true)?;
        }
        Ok(Some(Self { header, attributes, hops, first }))
    }

    /// One of these for each next hop; there is at least one.
    pub fn hops(&self) -> &[Route] {
        &self.hops
    }

    /// The first of them: destination, table, metric and source are the same in all.
    pub fn first(&self) -> Route {
        self.first
    }

    /// Whether packets to one address each take it.
    pub fn is_unicast(&self) -> bool {
        self.first.kind == RTN_UNICAST
    }

    /// Whether a gateway is among its next hops: it comes after those on the link.
    pub fn has_gateway(&self) -> bool {
        self.hops.iter().any(|hop| hop.gateway.is_some())
    }

    /// Whether it leads nowhere but through the link of that index.
    pub fn is_only_through(&self, index: u32) -> bool {
        self.hops.iter().all(|hop| hop.index == Some(index))
    }

    /// The same in another table.
    pub fn in_table(&self, table: u32) -> Self {
        let mut moved = self.clone();
        moved.hops.iter_mut().chain([&mut moved.first]).for_each(|hop| hop.table = table);
        moved
    }

    /// The same with another metric.
    pub fn at_metric(&self, metric: u32) -> Self {
        let mut moved = self.clone();
        moved.hops.iter_mut().chain([&mut moved.first]).for_each(|hop| hop.priority = Some(metric));
        moved.attributes.retain(|(kind, _)| *kind != RTA_PRIORITY);
        moved.attributes.push((RTA_PRIORITY, metric.to_ne_bytes().to_vec()));
        moved
    }

    /// Its next hops through that link alone; `None` if it has none, or if they are an object that
    /// others share.
    pub fn through(&self, index: u32) -> Option<Self> {
        if self.is_only_through(index) {
            return Some(self.clone());
        }
        let mut own = self.clone();
        own.hops.retain(|hop| hop.index == Some(index));
        let (_, hops) = own.attributes.iter_mut().find(|(kind, _)| *kind == RTA_MULTIPATH)?;
        *hops = selected(hops, |of| of == index).ok()?;
        own.first = own.hops.first().copied()?;
        Some(own)
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let mut request = Request::new(kind, flags, &self.header);
        request.attrs.u32(RTA_TABLE, self.first.table);
        for (kind, bytes) in &self.attributes {
            request.attrs.bytes(*kind, bytes);
        }
        request
    }

    fn label(&self) -> String {
        let Route { dst, gateway, table, .. } = self.first;
        let gateway = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        format!("{dst}{gateway} (table {table})")
    }
}

/// Clears the flags that describe a state. The table is an attribute.
fn settle(header: &mut [u8; HEADER]) {
    let flags = header.get(FLAGS..).and_then(<[u8]>::first_chunk).copied().map(u32::from_ne_bytes);
    let kept = flags.unwrap_or_default() & RTNH_F_ONLINK;
    for (to, from) in header.iter_mut().skip(FLAGS).zip(kept.to_ne_bytes()) {
        *to = from;
    }
    if let Some(table) = header.get_mut(TABLE) {
        *table = 0;
    }
}

/// The next hops (`struct rtnexthop`) through the links for which `wanted` holds, without flags
/// that describe a state.
fn selected(mut bytes: &[u8], wanted: impl Fn(u32) -> bool) -> Result<Vec<u8>, Malformed> {
    let wrong = Malformed("a next hop's length is wrong");
    let mut selected = Vec::new();
    while let Some(length) = bytes.first_chunk().copied().map(u16::from_ne_bytes).map(usize::from) {
        let mut hop = bytes.get(..length).filter(|hop| hop.len() >= HOP_HEADER).ok_or(wrong)?.to_vec();
        hop.resize(length.next_multiple_of(4), 0);
        let index = hop.get(HOP_INDEX).and_then(<[u8]>::first_chunk).copied().map(u32::from_ne_bytes);
        if let Some(flags) = hop.get_mut(HOP_FLAGS) {
            *flags = u8::try_from(u32::from(*flags) & RTNH_F_ONLINK).unwrap_or_default();
        }
        if index.is_some_and(&wanted) {
            selected.extend(hop);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(selected)
}

impl Netlink {
    /// Lists the routes of both families and all tables, through one link or all: with several next
    /// hops also those that use the link among others.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn whole_routes(&self, index: Option<u32>) -> Result<Vec<WholeRoute>> {
        let mut routes = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut wanted = RouteMessage::default();
            wanted.header.address_family = family.into();
            wanted.attributes.extend(index.map(RouteAttribute::Oif));
            let listed = self.socket.dump(Request::of(RTM_GETROUTE, 0, &wanted), |payload, routes| {
                let route = WholeRoute::read(family, payload).map_err(Refusal::from)?;
                routes.extend(route.filter(|route| {
                    index.is_none_or(|index| route.hops.iter().any(|hop| hop.index == Some(index)))
                }));
                Ok(())
            });
            match listed {
                Err(refusal) if refusal.is(libc::ENODEV) || refusal.is(libc::ENOENT) => {}
                listed => routes.extend(listed.map_err(|refusal| refusal.on("list", "routes"))?),
            }
        }
        Ok(routes)
    }

    /// Adds a route after those with its destination and metric, as the kernel adds its own.
    ///
    /// # Errors
    /// `is_exists` when it is there; what else the kernel refuses.
    pub fn append_route(&self, route: &WholeRoute) -> Result<()> {
        let request = route.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND);
        self.change("add route", request, || route.label())
    }

    /// Removes a route, with all of its next hops.
    ///
    /// # Errors
    /// `is_not_found` when it is not there.
    pub fn delete_whole_route(&self, route: &WholeRoute) -> Result<()> {
        self.change("delete route", route.request(RTM_DELROUTE, 0), || route.label())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::attr::Writer;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in vec(any::<u8>(), 0..200), index: u32) {
            for family in [AF_INET, AF_INET6] {
                if let Some(first) = bytes.first_mut() {
                    *first = family;
                }
                if let Ok(Some(route)) = WholeRoute::read(family, &bytes) {
                    prop_assert!(route.in_table(7).request(1, 0).finish(1).is_ok());
                    let _ = route.through(index);
                }
            }
        }
    }

    /// 10.0.0.0/8 in table 254, type unicast, with these flags and attributes.
    fn route(flags: u32, fill: impl FnOnce(&mut Writer)) -> WholeRoute {
        let mut writer = Writer::default();
        writer.raw(&[AF_INET, 8, 0, 0, 254, 3, 0, 1]);
        writer.raw(&flags.to_ne_bytes());
        writer.bytes(1, &[10, 0, 0, 0]);
        fill(&mut writer);
        WholeRoute::read(AF_INET, &writer.finish().unwrap()).unwrap().unwrap()
    }

    fn hop(index: u32, flags: u8) -> Vec<u8> {
        [&8u16.to_ne_bytes()[..], &[flags, 0], &index.to_ne_bytes()].concat()
    }

    #[test]
    fn a_copy_has_the_table_and_no_flags_of_state() {
        // RTNH_F_DEAD and RTNH_F_ONLINK.
        let route = route(1 | RTNH_F_ONLINK, |writer| {
            writer.u32(RTA_OIF, 3);
            // RTA_CACHEINFO describes a state too.
            writer.bytes(12, &[0; 32]);
        });
        let bytes = route.in_table(1000).request(RTM_NEWROUTE, 0).finish(1).unwrap();
        let again = WholeRoute::read(AF_INET, bytes.get(16..).unwrap()).unwrap().unwrap();
        assert_eq!(again, route.in_table(1000));
        assert_eq!((again.first().table, again.first().onlink), (1000, true));
        assert_eq!(again.attributes.len(), 2);
    }

    #[test]
    fn hops_of_other_links_are_left_out() {
        let both = route(0, |writer| writer.bytes(RTA_MULTIPATH, &[hop(3, 1), hop(4, 4)].concat()));
        assert!(!both.is_only_through(3) && both.hops().len() == 2);
        let own = both.through(3).unwrap();
        assert!(own.is_only_through(3));
        assert_eq!(own.attributes.last(), Some(&(RTA_MULTIPATH, hop(3, 0))));
        assert_eq!(both.through(5), None);
    }

    #[test]
    fn an_object_as_next_hop_is_named_alone() {
        let object = route(0, |writer| {
            writer.u32(RTA_OIF, 3);
            writer.u32(RTA_NH_ID, 9);
        });
        assert_eq!(object.attributes.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, RTA_NH_ID]);
    }
}
