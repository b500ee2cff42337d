//! The host's routes to a container with a gateway outside of its subnet.

use std::net::IpAddr;

use netlink::{Netlink, Route};
use sys::{Error, Result};

use super::{Kernel, Part, Place, Undo, host_routes, shared};
use crate::Drift;

/// Routes of the host to a container through the link with its gateways, if no subnet of theirs
/// contains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayBack {
    /// The bridge, or the host's link in a VLAN of it.
    pub link: String,
    /// The container's addresses, each with the gateway that the host uses as source; `None` lets
    /// the kernel choose.
    pub routes: Vec<(IpAddr, Option<IpAddr>)>,
    /// [`crate::Owner::tag`] of the attachment: the metric that identifies its routes.
    pub tag: u32,
}

impl WayBack {
    fn wanted(&self, index: u32) -> impl Iterator<Item = Route> + '_ {
        self.routes.iter().map(move |(to, source)| Route {
            index: Some(index),
            source: *source,
            priority: Some(self.tag),
            protocol: host_routes::PROTOCOL,
            ..Route::on_link((*to).into())
        })
    }

    fn missing(&self, host: &Netlink, index: u32) -> Result<Vec<Route>> {
        let have = host_routes::list(host, index)?;
        let there = |wanted: &Route| {
            have.iter().any(|have| {
                (have.dst, have.priority) == (wanted.dst, wanted.priority) && host_routes::leads(have)
            })
        };
        Ok(self.wanted(index).filter(|wanted| !there(wanted)).collect())
    }
}

impl Part for WayBack {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let failed = |error: Error| error.within("failed to add the host's route to the container".into());
        let index = kernel.index(Place::Host, &self.link)?;
        let _lock = shared::lock().map_err(failed)?;
        undo.push(Undo::WayBack(self.tag));
        self.wanted(index).try_for_each(|route| host_routes::add(&kernel.host, &route)).map_err(failed)
    }

    // The kernel deletes a route with its source address, and the route does not return with it:
    // that is the host's doing, so it is restored and reported, not a drift.
    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.host.link_by_name(&self.link)? else { return Ok(Vec::new()) };
        let missing = self.missing(&kernel.host, link.index)?;
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = shared::lock()?;
        for route in &missing {
            if host_routes::add(&kernel.host, route).is_ok() {
                eprintln!("the host's route to {} was missing: made again", route.dst.ip());
            }
        }
        let missing = self.missing(&kernel.host, link.index)?;
        let drift =
            |route: &Route| Drift::new(format!("the host's route to {}", route.dst), "present", "missing");
        Ok(missing.iter().map(drift).collect())
    }
}
