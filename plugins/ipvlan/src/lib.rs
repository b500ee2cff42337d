//! `ipvlan`: gives a container a link on a parent link of the host, with the parent's MAC address.

mod config;
#[cfg(test)]
mod tests;

use attach::{Master, Parent, child};
use cni::{AddResult, Command, Error, Plugin, Request};
use host::Drift;
use host::piece::{Feature, Kernel, Place};
use netlink::Netlink;
use sys::NetNs;

pub use crate::config::{Config, KEYS};

/// The plugin.
pub struct Ipvlan;

const DRIVER: &str = "ipvlan";

impl Plugin for Ipvlan {
    const NAME: &'static str = DRIVER;
    const ABOUT: &'static str =
        "gives a container addresses on a link of the host, with the same MAC address";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let previous = request.prev_result()?;
        let config = Config::of(request)?;
        let master = config.master(previous.as_ref())?;
        let addresses = config.addresses(previous)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        let parent = Parent::find(kernel.netlink(master.place)?, &master)?;
        let child = config.child(&parent)?;
        child::refuse_taken(&kernel, &request.ifname, DRIVER)?;
        child::add(request, &mut kernel, &child, &parent, addresses, config.dns.as_ref())
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        if let Some(ipam) = &config.ipam {
            request.delegate(ipam, Command::Check)?;
        }
        let previous =
            request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
        let mut master = config.master.clone();
        if master.is_unnamed() {
            // This is the parent itself: it needs no VLAN on it.
            let name = Some(master_of(&kernel, request, master.place)?);
            master = Master { name, vlan: None, ..master };
        }
        let parent = Parent::find(kernel.netlink(master.place)?, &master)?;
        child::check(request, &mut kernel, &config.child(&parent)?, &parent, &previous)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        child::del(request, DRIVER)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        child::gc(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        // After another plugin, the master is a link that it creates.
        if config.master.is_unnamed() && config.ipam.is_none() {
            return attach::require(&Netlink::open()?, &[Feature::Links(DRIVER)]);
        }
        child::status(request, DRIVER, config.ipam.as_deref(), &config.master)
    }
}

/// The master of the container's link from the kernel, for a configuration that names none: at
/// CHECK, `prevResult` is that of the whole chain, and the default route may have changed.
fn master_of(kernel: &Kernel, request: &Request, place: Place) -> Result<String, Error> {
    let missing = |what: String| {
        let drift = Drift { what, expected: "present".into(), actual: "missing".into() };
        attach::drifted(&attach::owner(request), &[drift])
    };
    let ifname = &request.ifname;
    let link = kernel.netlink(Place::Sandbox)?.link_by_name(ifname)?;
    let link = link.filter(|link| link.kind.as_deref() == Some(DRIVER));
    let link = link.ok_or_else(|| missing(format!("ipvlan interface {ifname}")))?;
    let master = kernel.netlink(place)?.link_by_index(link.peer_index.unwrap_or(0))?;
    Ok(master.ok_or_else(|| missing(format!("master of {ifname}")))?.name)
}
