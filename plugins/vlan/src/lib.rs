//! `vlan`: gives a container one VLAN of a link, the master, as a link of its own.

mod config;
#[cfg(test)]
mod tests;

use attach::child::{self, Addresses};
use attach::{Parent, only_link};
use cni::{AddResult, Code, Command, Error, Plugin, Request};
use host::piece::Kernel;
use sys::NetNs;

pub use crate::config::{Config, KEYS};

/// The plugin.
pub struct Vlan;

const DRIVER: &str = "vlan";

impl Plugin for Vlan {
    const NAME: &'static str = DRIVER;
    const ABOUT: &'static str = "gives a container a VLAN of a link";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let addresses = Addresses::Ipam(config.required_ipam()?.into());
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        let parent = parent(&config, &kernel)?;
        let child = config.child(&parent)?;
        refuse_down(&config, &parent)?;
        child::refuse_taken(&kernel, &request.ifname, DRIVER)?;
        child::add(request, &mut kernel, &child, &parent, addresses, config.dns.as_ref())
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        request.delegate(config.required_ipam()?, Command::Check)?;
        let previous =
            request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
        let parent = parent(&config, &kernel)?;
        child::check(request, &mut kernel, &config.child(&parent)?, &parent, &previous)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        only_link::del(request, DRIVER)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        only_link::gc(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        child::status(request, DRIVER, Some(config.required_ipam()?), &config.master)
    }
}

fn parent(config: &Config, kernel: &Kernel) -> Result<Parent, Error> {
    Parent::find(kernel.netlink(config.master.place)?, &config.master)
}

/// Refuses a parent that is down, unless the binding is loose: the kernel does not set the VLAN's
/// link up then (vlan_dev_open), so the container would get no routes.
fn refuse_down(config: &Config, parent: &Parent) -> Result<(), Error> {
    match parent.why_down() {
        Some(why) if !config.vlan.flags.loose_binding => {
            Err(Error::new(Code::TryAgainLater, format!("failed to create {DRIVER}: {why}"))
                .details("with looseBinding it is attached meanwhile"))
        }
        _ => Ok(()),
    }
}
