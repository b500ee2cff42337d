//! Routes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Netlink;
use crate::Result;

/// A route, to be added or as read. A multipath route is read as one of these for each of its next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; `/0` is the default route.
    pub dst: IpNetwork,
    /// Next hop; none: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the link it leaves by.
    pub index: Option<u32>,
    /// Path MTU, in bytes (RTAX_MTU).
    pub mtu: Option<u32>,
    /// Largest TCP segment to advertise, in bytes (RTAX_ADVMSS).
    pub advmss: Option<u32>,
    /// Metric: the lowest wins. None: 0 for IPv4, 1024 for IPv6.
    pub priority: Option<u32>,
    /// Table; 254 is main.
    pub table: u32,
    /// `RT_SCOPE_*`: 0 universe, 253 link, 254 host. IPv6 has none.
    pub scope: u8,
    /// Who made it (`RTPROT_*`): 3 boot, 2 kernel.
    pub protocol: u8,
    /// `RTN_*`: 1 unicast, 2 local, 3 broadcast, 7 unreachable.
    pub kind: u8,
    /// Take the gateway to be on the link, whatever its address (RTNH_F_ONLINK).
    pub onlink: bool,
}

impl Route {
    /// The main table.
    pub const MAIN_TABLE: u32 = 254;

    /// A unicast route in the main table, scope universe, protocol boot, to be refined by struct update.
    pub fn new(dst: IpNetwork) -> Self {
        unimplemented!()
    }
}

impl Netlink {
    /// Adds a route; with `exclusive`, not beside one of the same destination, metric and table
    /// (without: another gateway coexists or makes the route multipath, as the reference has it).
    ///
    /// # Errors
    /// `is_exists`; ENETUNREACH when the gateway is not on a link.
    pub fn add_route(&self, route: &Route, exclusive: bool) -> Result<()> {
        unimplemented!()
    }

    /// Removes a route: the first that matches in what `route` says.
    ///
    /// # Errors
    /// `is_not_found` when there is none.
    pub fn delete_route(&self, route: &Route) -> Result<()> {
        unimplemented!()
    }

    /// Routes of both families, of a link or all, of a table or all.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn routes(&self, index: Option<u32>, table: Option<u32>) -> Result<Vec<Route>> {
        unimplemented!()
    }

    /// Index of the link of the default route in the main table: of the lowest metric, IPv4 before IPv6.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn default_route_link(&self) -> Result<Option<u32>> {
        unimplemented!()
    }
}
