//! `vrf`: puts a container's interface into a VRF, with its addresses and routes. A chained plugin,
//! in the container alone.

mod config;
mod plan;
#[cfg(test)]
mod tests;

use cni::{AddResult, Error, Plugin, Request, Version};
use host::piece::{self, Feature, Kernel, leave_vrf};
use netlink::Netlink;
use sys::NetNs;

pub use crate::config::{Config, KEYS};

/// The plugin.
pub struct Vrf;

const DRIVER: &str = "vrf";

impl Plugin for Vrf {
    const NAME: &'static str = DRIVER;
    const ABOUT: &'static str = "puts a container's interface into a VRF";
    const VERSIONS: &'static [Version] =
        &[Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let previous = request.prev_result()?.ok_or_else(|| {
            Error::invalid_config("missing prevResult from earlier plugin")
                .details("vrf follows the plugin that makes the interface")
        })?;
        previous.convertible_to(request.version)?;
        let plan = [plan::plan(&config, &request.ifname)];
        piece::apply(&plan, &mut Kernel::open(NetNs::open(&request.netns)?)?)?;
        Ok(previous)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
        let plan = [plan::plan(&config, &request.ifname)];
        let drifts = piece::verify(&plan, &mut Kernel::open(NetNs::open(&request.netns)?)?)?;
        attach::refuse_drift(&attach::owner(request), &drifts)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let Some(netns) = NetNs::open_if_there(&request.netns)? else { return Ok(()) };
        let name = config::name_of(request);
        Ok(leave_vrf(netns, &attach::removal(request), name.as_deref())?)
    }

    /// All that ADD makes vanishes with the container's namespace.
    fn gc(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        Config::of(request)?;
        attach::require(&Netlink::open()?, &[Feature::Links(DRIVER)])
    }
}
