//! `sbr`: packets from a container's address leave by the interface that has the address, so that
//! an answer goes back the way the question came. A chained plugin, in the container alone.

mod config;
mod plan;
#[cfg(test)]
mod tests;

use cni::{AddResult, Code, Error, Plugin, Request};
use host::piece::{self, Kernel, remove_source_routing};
use netlink::Netlink;
use sys::NetNs;

pub use crate::config::{Config, KEYS};

/// The plugin.
pub struct Sbr;

impl Plugin for Sbr {
    const NAME: &'static str = "sbr";
    const ABOUT: &'static str = "routes packets of a container by their source address";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let previous = request.prev_result()?.ok_or_else(|| {
            Error::invalid_config("This plugin must be called as chained plugin")
                .details("there is no prevResult")
        })?;
        previous.convertible_to(request.version)?;
        let plan = [plan::plan(&config, request, &previous)?];
        piece::apply(&plan, &mut Kernel::open(NetNs::open(&request.netns)?)?)?;
        Ok(previous)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let previous =
            request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
        let plan = [plan::plan(&config, request, &previous)?];
        let drifts = piece::verify(&plan, &mut Kernel::open(NetNs::open(&request.netns)?)?)?;
        attach::refuse_drift(&attach::owner(request), &drifts)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let Some(netns) = NetNs::open_if_there(&request.netns)? else { return Ok(()) };
        let sandbox = Netlink::open_in(&netns)?;
        if let Some(link) = sandbox.link_by_name(&request.ifname)?
            && attach::removal(request).is_of_another_network(&sandbox, &link)?
        {
            return Ok(());
        }
        Ok(remove_source_routing(&sandbox, &request.ifname, config::table_of(request))?)
    }

    /// All that ADD makes vanishes with the container's namespace.
    fn gc(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        Config::of(request)?;
        Netlink::open()?.rules().map(drop).map_err(|error| {
            let Error { msg, details, .. } = Error::from(error);
            Error::new(Code::NotAvailable, msg).details(details)
        })
    }
}
