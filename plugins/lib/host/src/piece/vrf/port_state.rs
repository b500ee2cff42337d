//! What a link has, and loses when it enters or leaves a VRF.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink::{Address, Link, Netlink, NotReady, Route, Saved, WholeRoute};
use sys::Result;

use crate::notice;

/// linux/rtnetlink.h: the kernel makes these routes again by itself.
const BY_REDIRECT: u8 = 1;
const LOCAL_TABLE: u32 = 255;
/// How long IPv6 addresses may take until routes can use them, if duplicate detection does not run.
const PATIENCE: Duration = Duration::from_secs(10);

/// The addresses and routes of a link that do not come back by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::piece) struct PortState {
    addresses: Vec<Saved>,
    /// The IPv6 addresses among them that packets are sent from.
    sources: Vec<IpAddr>,
    routes: Vec<WholeRoute>,
    is_up: bool,
}

impl PortState {
    /// What the link has now.
    pub(super) fn of(netlink: &Netlink, link: &Link) -> Result<Self> {
        let mut addresses = netlink.save(link)?;
        addresses.retain(Saved::is_address);
        let is_source = |address: &Address| {
            address.net.is_ipv6() && address.scope == 0 && address.is_permanent() && !address.is_transient()
        };
        let now = netlink.addresses(Some(link.index))?;
        let sources = now.iter().filter(|address| is_source(address)).map(|address| address.net.ip());
        let all = netlink.whole_routes(Some(link.index))?;
        let mut routes: Vec<WholeRoute> =
            all.iter().filter(|route| is_lost(route)).filter_map(|route| route.through(link.index)).collect();
        routes.sort_by_key(WholeRoute::has_gateway);
        Ok(Self { addresses, sources: sources.collect(), routes, is_up: link.up() && link.carrier() })
    }

    /// Gives all of it to the link again; the routes of table `from` go to table `to`.
    pub(super) fn restore(&self, netlink: &Netlink, index: u32, from: u32, to: u32) -> Result<()> {
        self.addresses.iter().try_for_each(|address| or_there(netlink.restore(index, address)))?;
        self.wait(netlink, index)?;
        self.moved(from, to).iter().try_for_each(|route| or_there(netlink.append_route(route)))
    }

    /// As [`Self::restore`], for a link that may vanish at any time: what is impossible is reported.
    pub(super) fn restore_what_is_possible(&self, netlink: &Netlink, index: u32, from: u32, to: u32) {
        let report = |done: Result<()>| {
            if let Err(error) = done {
                notice(format_args!("{error:#}"));
            }
        };
        self.addresses.iter().for_each(|address| report(or_there(netlink.restore(index, address))));
        self.moved(from, to).iter().for_each(|route| report(or_there(netlink.append_route(route))));
    }

    fn moved(&self, from: u32, to: u32) -> Vec<WholeRoute> {
        let moved = |route: &WholeRoute| match route.first().table == from {
            true => route.in_table(to),
            false => route.clone(),
        };
        self.routes.iter().map(moved).collect()
    }

    /// Waits until the IPv6 addresses can be used. Without a carrier they cannot, and nothing is
    /// waited for.
    fn wait(&self, netlink: &Netlink, index: u32) -> Result<()> {
        if self.sources.is_empty() || !self.is_up {
            return Ok(());
        }
        match netlink.wait_for_addresses(index, &self.sources, false, Instant::now() + PATIENCE) {
            Err(error) if matches!(error.reason(), Some(NotReady::TentativeAddress { .. })) => {
                notice(format_args!("{error}"));
                Ok(())
            }
            waited => waited,
        }
    }
}

fn is_lost(route: &WholeRoute) -> bool {
    let by_kernel = [Route::BY_KERNEL, Route::BY_ADVERTISEMENT, BY_REDIRECT];
    route.is_unicast() && route.first().table != LOCAL_TABLE && !by_kernel.contains(&route.first().protocol)
}

fn or_there(added: Result<()>) -> Result<()> {
    added.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
}
