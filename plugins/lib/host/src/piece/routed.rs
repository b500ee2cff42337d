//! A container at the other end of a veth pair, without a segment of its own: the host routes to it,
//! and it reaches everybody else by the host.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{Netlink, NewAddress, Route};
use sys::{Error, Result};

use super::{Kernel, Part, Place, Undo, address};
use crate::{Conflict, Drift};

/// An address of the container's link, without the route to its subnet that the kernel would add:
/// nobody else of the subnet is on the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The container's link.
    pub link: String,
    /// The address and its prefix length.
    pub net: IpNetwork,
}

impl Part for OwnAddress {
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(Place::Sandbox, &self.link)?;
        let new = NewAddress { index, net: self.net, nodad: true };
        kernel.netlink(Place::Sandbox)?.add_address_without_route(&new)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        address::drifts(kernel.netlink(Place::Sandbox)?, &self.link, self.net)
    }
}

/// The host's routes to the addresses of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoutes {
    /// The host's end of the pair.
    pub link: String,
    /// The container's addresses, each with the gateway that the host uses as source; `None` lets
    /// the kernel choose.
    pub routes: Vec<(IpAddr, Option<IpAddr>)>,
}

impl HostRoutes {
    fn wanted(&self, index: u32) -> impl Iterator<Item = Route> + '_ {
        self.routes.iter().map(move |(to, source)| Route {
            index: Some(index),
            source: *source,
            ..Route::on_link((*to).into())
        })
    }
}

impl Part for HostRoutes {
    // Deleting the link undoes it.
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(Place::Host, &self.link)?;
        self.wanted(index).try_for_each(|route| match kernel.host.add_route(&route, true) {
            Err(error) if error.is_exists() => Err(taken(&kernel.host, &route, error)),
            added => added.map_err(|error| error.within("failed to add route on host".into())),
        })
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.host.link_by_name(&self.link)? else { return Ok(Vec::new()) };
        let have = kernel.host.routes(Some(link.index), Some(Route::MAIN_TABLE))?;
        let is_there = |wanted: &Route| have.iter().any(|have| have.dst == wanted.dst);
        let missing = self.wanted(link.index).filter(|wanted| !is_there(wanted));
        let what = |route: &Route| format!("the host's route to {} by {}", route.dst.ip(), self.link);
        Ok(missing.map(|route| Drift::new(what(&route), "present", "missing")).collect())
    }
}

/// The error that names who has a route to the same address, which would get this container's
/// packets.
fn taken(host: &Netlink, wanted: &Route, error: Error) -> Error {
    let routes = host.routes(None, Some(wanted.table)).unwrap_or_default();
    let other = routes.iter().find(|route| route.dst == wanted.dst && route.index != wanted.index);
    let link = other.and_then(|route| host.link_by_index(route.index?).ok().flatten());
    match link {
        Some(link) => Conflict::AddressRouted {
            address: wanted.dst.ip(),
            owner: link.alias.filter(|alias| alias.starts_with("moor/")),
            link: link.name,
        }
        .into(),
        None => error.within("failed to add route on host".into()),
    }
}
