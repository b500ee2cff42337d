//! Which attachment gives a container its default route. Plugins add one without looking at the
//! others, and of several with one metric the last counts; so the others get a higher metric.

use netlink::{Netlink, Route, WholeRoute};
use sys::{IpFamily, NetNs, Result};

/// What is added to the metric of a route that comes after another; nobody else writes such
/// metrics.
const STEP: u32 = 28_015;

/// The default routes of a container before an attachment.
pub struct DefaultRoutes {
    netlink: Netlink,
    before: Vec<WholeRoute>,
}

impl DefaultRoutes {
    /// Reads them.
    pub fn read(netns: &NetNs) -> Result<Self> {
        let netlink = Netlink::open_in(netns)?;
        let before = defaults(&netlink, None)?;
        Ok(Self { netlink, before })
    }

    /// After ADD: the default routes of the new interface come after those of before or, when it
    /// `takes` the default route, before them.
    pub fn settle(&self, ifname: &str, takes: bool) -> Result<()> {
        let Some(link) = self.netlink.link_by_name(ifname)? else { return Ok(()) };
        let new = defaults(&self.netlink, Some(link.index))?;
        for family in [IpFamily::V4, IpFamily::V6] {
            let old: Vec<_> = of(&self.before, family).collect();
            let new: Vec<_> = of(&new, family).filter_map(|route| route.through(link.index)).collect();
            let highest = |routes: &mut dyn Iterator<Item = &WholeRoute>| routes.map(metric).max();
            let (Some(of_old), Some(of_new)) = (highest(&mut old.iter().copied()), highest(&mut new.iter()))
            else {
                continue;
            };
            if takes {
                old.into_iter()
                    .filter(|route| metric(route) <= of_new)
                    .try_for_each(|route| self.move_route(route, metric(route) + STEP))?;
            } else {
                new.iter()
                    .filter(|route| metric(route) <= of_old)
                    .try_for_each(|route| self.move_route(route, of_old + STEP))?;
            }
        }
        Ok(())
    }

    fn move_route(&self, route: &WholeRoute, metric: u32) -> Result<()> {
        move_route(&self.netlink, route, metric)
    }
}

/// After DEL: when only routes that came after others are left, they get their metric back.
pub fn restore(netns: &NetNs) -> Result<()> {
    let netlink = Netlink::open_in(netns)?;
    let all = defaults(&netlink, None)?;
    for family in [IpFamily::V4, IpFamily::V6] {
        let lowest = of(&all, family).map(metric).min();
        if lowest.is_some_and(|lowest| lowest >= STEP) {
            of(&all, family).try_for_each(|route| move_route(&netlink, route, metric(route) - STEP))?;
        }
    }
    Ok(())
}

/// A moment with both routes, none with neither.
fn move_route(netlink: &Netlink, route: &WholeRoute, metric: u32) -> Result<()> {
    netlink.append_route(&route.at_metric(metric))?;
    netlink.delete_whole_route(route)
}

fn defaults(netlink: &Netlink, index: Option<u32>) -> Result<Vec<WholeRoute>> {
    let mut routes = netlink.whole_routes(index)?;
    routes.retain(|route| {
        let first = route.first();
        first.is_default() && first.table == Route::MAIN_TABLE && route.is_unicast()
    });
    Ok(routes)
}

fn of(routes: &[WholeRoute], family: IpFamily) -> impl Iterator<Item = &WholeRoute> {
    routes.iter().filter(move |route| route.first().dst.is_ipv4() == (family == IpFamily::V4))
}

fn metric(route: &WholeRoute) -> u32 {
    route.first().priority.unwrap_or(0)
}
