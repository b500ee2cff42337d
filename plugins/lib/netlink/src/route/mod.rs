//! Routes.
//!
//! rtnetlink's builder makes the requests. Destination, next hop, source and metrics are added to
//! its message: the builder has no metrics and no IPv4 next hop of an IPv6 route.

mod lookup;
pub(crate) mod read;
mod whole;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use libc::{RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric};
use sys::Result;

use crate::Netlink;
use crate::addr::{AF_INET, AF_INET6, family};
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request, with};

pub use lookup::RouteLookup;
pub use whole::WholeRoute;

/// linux/rtnetlink.h, attributes of a route.
pub(crate) const RTA_DST: u16 = 1;
pub(crate) const RTA_OIF: u16 = 4;
pub(crate) const RTA_GATEWAY: u16 = 5;
pub(crate) const RTA_PRIORITY: u16 = 6;
pub(crate) const RTA_PREFSRC: u16 = 7;
pub(crate) const RTA_METRICS: u16 = 8;
pub(crate) const RTA_MULTIPATH: u16 = 9;
pub(crate) const RTA_TABLE: u16 = 15;
pub(crate) const RTA_VIA: u16 = 18;
/// linux/rtnetlink.h, attributes inside RTA_METRICS.
pub(crate) const RTAX_MTU: u16 = 2;
pub(crate) const RTAX_ADVMSS: u16 = 8;
/// linux/rtnetlink.h, flags of a next hop.
pub(crate) const RTNH_F_ONLINK: u32 = 4;
/// linux/rtnetlink.h, origin of a route: the administrator; router advertisements.
const RTPROT_BOOT: u8 = 3;
const RTPROT_RA: u8 = 9;
/// linux/rtnetlink.h.
const RTN_LOCAL: u8 = 2;
/// linux/rtnetlink.h: the kernel's own table of local addresses.
const LOCAL_TABLE: u32 = 255;
const RTN_UNICAST: u8 = 1;

/// A route, to be added or as read. A multipath route is read as one of these per next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; `/0` is the default route.
    pub dst: IpNetwork,
    /// Next hop; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the outgoing link.
    pub index: Option<u32>,
    /// Source address of packets that have none yet (RTA_PREFSRC); `None` lets the kernel choose.
    pub source: Option<IpAddr>,
    /// Path MTU, in bytes (RTAX_MTU).
    pub mtu: Option<u32>,
    /// Largest TCP segment to advertise, in bytes (RTAX_ADVMSS).
    pub advmss: Option<u32>,
    /// Metric: the lowest wins. `None` is 0 for IPv4, 1024 for IPv6.
    pub priority: Option<u32>,
    /// Table; 254 is main.
    pub table: u32,
    /// `RT_SCOPE_*`: 0 universe, 253 link, 254 host. IPv6 has no scopes.
    pub scope: u8,
    /// Origin (`RTPROT_*`): 3 boot, 2 kernel.
    pub protocol: u8,
    /// `RTN_*`: 1 unicast, 2 local, 3 broadcast, 7 unreachable.
    pub kind: u8,
    /// Treat the gateway as on-link, whatever its address (RTNH_F_ONLINK).
    pub onlink: bool,
}

impl Route {
    /// The main table.
    pub const MAIN_TABLE: u32 = 254;
    /// The scope of an address or a destination on the link itself (RT_SCOPE_LINK,
    /// linux/rtnetlink.h).
    pub const SCOPE_LINK: u8 = 253;
    /// The protocol of routes that the kernel derives from an address or configuration
    /// (RTPROT_KERNEL).
    pub const BY_KERNEL: u8 = 2;
    /// The protocol of routes from router advertisements (RTPROT_RA).
    pub const BY_ADVERTISEMENT: u8 = 9;

    /// A unicast route in the main table, scope universe, protocol boot, to be refined by struct
    /// update.
    pub fn new(dst: IpNetwork) -> Self {
        Self {
            dst,
            gateway: None,
            index: None,
            source: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: Self::MAIN_TABLE,
            scope: 0,
            protocol: RTPROT_BOOT,
            kind: RTN_UNICAST,
            onlink: false,
        }
    }

    /// A route without a gateway: of link scope, if the family has scopes.
    pub fn on_link(dst: IpNetwork) -> Self {
        let scope = if dst.is_ipv4() { Self::SCOPE_LINK } else { 0 };
        Self { scope, ..Self::new(dst) }
    }

    /// Whether it is the default route.
    pub fn is_default(&self) -> bool {
        self.dst.prefix() == 0
    }

    /// Whether its destination is an address of this host.
    pub fn is_local(&self) -> bool {
        self.kind == RTN_LOCAL
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .table_id(self.table)
            .protocol(self.protocol.into())
            .scope(self.scope.into())
            .kind(self.kind.into());
        let route = if self.onlink { route.onlink() } else { route };
        let route = with(route, self.index, RouteMessageBuilder::output_interface);
        let mut message = with(route, self.priority, RouteMessageBuilder::priority).build();
        message.header.address_family = family(self.dst.ip()).into();
        message.header.destination_prefix_length = self.dst.prefix();
        message.attributes.extend(self.addresses());
        message.attributes.extend(self.metrics());
        Request::of(kind, flags, &message)
    }

    fn addresses(&self) -> impl Iterator<Item = RouteAttribute> {
        // The kernel refuses host bits.
        let dst = (!self.is_default()).then(|| RouteAttribute::Destination(self.dst.network().into()));
        let gateway = self.gateway.map(|gateway| {
            if gateway.is_ipv4() == self.dst.is_ipv4() {
                RouteAttribute::Gateway(gateway.into())
            } else {
                RouteAttribute::Via(gateway.into())
            }
        });
        let source = self.source.map(|source| RouteAttribute::PrefSource(source.into()));
        [dst, gateway, source].into_iter().flatten()
    }

    fn metrics(&self) -> Option<RouteAttribute> {
        let metrics = [self.mtu.map(RouteMetric::Mtu), self.advmss.map(RouteMetric::Advmss)];
        let metrics: Vec<_> = metrics.into_iter().flatten().collect();
        (!metrics.is_empty()).then_some(RouteAttribute::Metrics(metrics))
    }

    fn label(&self, netlink: &Netlink) -> String {
        let mut label = self.dst.to_string();
        if let Some(gateway) = self.gateway {
            label += &format!(" via {gateway}");
        }
        if let Some(index) = self.index {
            label += &format!(" dev {}", netlink.link_label(index));
        }
        if let Some(priority) = self.priority {
            label += &format!(" metric {priority}");
        }
        label + &format!(" (scope {}, table {})", self.scope, self.table)
    }
}

impl Netlink {
    /// Adds a route. With `exclusive`, it fails if one with the same destination, metric and table
    /// exists; otherwise, as in the reference, a different gateway coexists or makes the route
    /// multipath.
    ///
    /// # Errors
    /// `is_exists`; ENETUNREACH when the gateway is not on a link.
    pub fn add_route(&self, route: &Route, exclusive: bool) -> Result<()> {
        let flags = if exclusive { NLM_F_CREATE | NLM_F_EXCL } else { NLM_F_CREATE };
        self.change("add route", route.request(RTM_NEWROUTE, flags), || route.label(self))
    }

    /// Removes the first route that matches the fields of `route`.
    ///
    /// # Errors
    /// `is_not_found` when no route matches.
    pub fn delete_route(&self, route: &Route) -> Result<()> {
        self.change("delete route", route.request(RTM_DELROUTE, 0), || route.label(self))
    }

    /// Lists routes of both families, of one link or all, of one table or all.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn routes(&self, index: Option<u32>, table: Option<u32>) -> Result<Vec<Route>> {
        let mut routes = self.routes_of(AF_INET, index, table)?;
        routes.extend(self.routes_of(AF_INET6, index, table)?);
        Ok(routes)
    }

    /// Index of the link of the default route in the main table: with the lowest metric, IPv4
    /// before IPv6.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn default_route_link(&self) -> Result<Option<u32>> {
        for family in [AF_INET, AF_INET6] {
            let routes = self.routes_of(family, None, Some(Route::MAIN_TABLE))?;
            let best = routes
                .iter()
                .filter(|route| route.is_default() && route.kind == RTN_UNICAST && route.index.is_some())
                .min_by_key(|route| route.priority.unwrap_or(0));
            if let Some(route) = best {
                return Ok(route.index);
            }
        }
        Ok(None)
    }

    /// Indices of the links of all default routes in the main table, each once.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn uplinks(&self) -> Result<Vec<u32>> {
        let mut links = self.uplinks_by_family()?.concat();
        links.sort_unstable();
        links.dedup();
        Ok(links)
    }

    /// The same of IPv4 and of IPv6.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn uplinks_by_family(&self) -> Result<[Vec<u32>; 2]> {
        let of = |family| -> Result<Vec<u32>> {
            let routes = self.routes_of(family, None, Some(Route::MAIN_TABLE))?;
            let default = routes.iter().filter(|route| route.is_default() && route.kind == RTN_UNICAST);
            let mut links: Vec<u32> = default.filter_map(|route| route.index).collect();
            links.sort_unstable();
            links.dedup();
            Ok(links)
        };
        Ok([of(AF_INET)?, of(AF_INET6)?])
    }

    /// Indices of the links on which this host has IPv6 routes from routers; one per route.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn advertised_routes(&self) -> Result<Vec<u32>> {
        let routes = self.listed(AF_INET6, RTPROT_RA, None, None)?;
        Ok(routes
            .into_iter()
            .filter(|route| route.protocol == RTPROT_RA)
            .filter_map(|route| route.index)
            .collect())
    }

    /// The IPv6 addresses of a link on which the kernel accepts packets now.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn usable_addresses(&self, index: u32) -> Result<Vec<IpAddr>> {
        let mut routes = self.routes_of(AF_INET6, Some(index), Some(LOCAL_TABLE))?;
        if routes.is_empty() {
            // In a VRF they are in its table.
            routes = self.routes_of(AF_INET6, Some(index), None)?;
        }
        Ok(routes.into_iter().filter(Route::is_local).map(|route| route.dst.ip()).collect())
    }

    fn routes_of(&self, family: u8, index: Option<u32>, table: Option<u32>) -> Result<Vec<Route>> {
        self.listed(family, 0, index, table)
    }

    /// The kernel may filter by a protocol other than 0.
    fn listed(&self, family: u8, protocol: u8, index: Option<u32>, table: Option<u32>) -> Result<Vec<Route>> {
        // The kernel would filter by the builder's defaults (main, static, unicast).
        let mut wanted = RouteMessage::default();
        wanted.header.address_family = family.into();
        wanted.header.protocol = protocol.into();
        wanted.attributes.extend(table.map(RouteAttribute::Table));
        wanted.attributes.extend(index.map(RouteAttribute::Oif));
        let listed = self.socket.dump(Request::of(RTM_GETROUTE, 0, &wanted), |payload, routes| {
            // The kernel filters since Linux 5.0, older ones do not; and it returns all hops of a
            // multipath route.
            routes.extend(read::routes(family, payload)?.into_iter().filter(|route| {
                index.is_none_or(|index| route.index == Some(index))
                    && table.is_none_or(|table| route.table == table)
            }));
            Ok(())
        });
        match listed {
            // Without the table or the link there are no routes.
            Err(refusal) if refusal.is(libc::ENOENT) || refusal.is(libc::ENODEV) => Ok(Vec::new()),
            other => other.map_err(|refusal| refusal.on("list", "routes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_ip(v6: bool) -> impl Strategy<Value = IpAddr> {
        any::<[u8; 16]>().prop_map(move |octets| match octets {
            [a, b, c, d, ..] if !v6 => [a, b, c, d].into(),
            octets => octets.into(),
        })
    }

    fn any_route() -> impl Strategy<Value = Route> {
        let options = (
            any::<Option<u32>>(),
            any::<Option<u32>>(),
            any::<Option<u32>>(),
            proptest::option::of(1u32..),
            any::<bool>(),
        );
        (any::<bool>(), any::<bool>()).prop_flat_map(move |(v6, gateway_v6)| {
            let gateway = proptest::option::of(any_ip(v6 || gateway_v6));
            let source = proptest::option::of(any_ip(v6));
            let numbers = (1u32.., any::<u8>(), any::<u8>(), any::<u8>());
            (any_ip(v6), 0u8..=128, gateway, source, options.clone(), numbers).prop_map(
                move |(
                    ip,
                    prefix,
                    gateway,
                    source,
                    (index, mtu, advmss, priority, onlink),
                    (table, scope, protocol, kind),
                )| {
                    let net = IpNetwork::new(ip, prefix.min(if v6 { 128 } else { 32 })).unwrap();
                    let dst = IpNetwork::new(net.network(), net.prefix()).unwrap();
                    Route {
                        dst,
                        gateway,
                        index,
                        source,
                        mtu,
                        advmss,
                        priority,
                        table,
                        scope,
                        protocol,
                        kind,
                        onlink,
                    }
                },
            )
        })
    }

    proptest! {
        /// A request and the kernel's description have the same form, so our reader must be able to
        /// read the request.
        #[test]
        fn a_request_is_read_back(route in any_route()) {
            let bytes = route.request(RTM_NEWROUTE, 0).finish(1).unwrap();
            let read = read::routes(family(route.dst.ip()), bytes.get(16..).unwrap()).unwrap();
            prop_assert_eq!(read, [route]);
        }
    }

    #[test]
    fn host_bits_of_a_destination_are_not_sent() {
        let route = Route::new("10.1.2.3/16".parse().unwrap());
        let bytes = route.request(RTM_NEWROUTE, 0).finish(1).unwrap();
        let read = read::routes(AF_INET, bytes.get(16..).unwrap()).unwrap();
        assert_eq!(read, [Route::new("10.1.0.0/16".parse().unwrap())]);
    }
}
