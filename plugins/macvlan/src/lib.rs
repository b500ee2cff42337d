//! `macvlan`: gives a container a link with its own MAC address on a parent link of the host.

mod config;
#[cfg(test)]
mod tests;

use attach::Parent;
use attach::child::{self, Addresses};
use cni::{AddResult, Command, Error, Plugin, Request};
use host::piece::Kernel;
use sys::NetNs;

pub use crate::config::{Config, KEYS};

/// The plugin.
pub struct Macvlan;

const DRIVER: &str = "macvlan";

impl Plugin for Macvlan {
    const NAME: &'static str = DRIVER;
    const ABOUT: &'static str = "gives a container a MAC address of its own on a link of the host";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        if config.ipam.is_none() {
            AddResult::default().convertible_to(request.version)?;
        }
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        let parent = parent(&config, &kernel)?;
        let child = config.child(&parent)?;
        child::refuse_taken(&kernel, &request.ifname, DRIVER)?;
        let addresses = match &config.ipam {
            Some(ipam) => Addresses::Ipam(ipam.clone()),
            None => Addresses::Known(Box::default()),
        };
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
        let parent = parent(&config, &kernel)?;
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
        child::status(request, DRIVER, config.ipam.as_deref(), &config.master)
    }
}

fn parent(config: &Config, kernel: &Kernel) -> Result<Parent, Error> {
    Parent::find(kernel.netlink(config.master.place)?, &config.master)
}
