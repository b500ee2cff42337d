//! `dummy`: gives a container a link that leads nowhere, for addresses of its own.

mod config;
mod plan;
#[cfg(test)]
mod tests;

use attach::single::{self, Attached};
use attach::{child, conflict, mtu, only_link, owner};
use cni::{AddResult, Command, Error, Plugin, Request};
use host::piece::{self, Feature, Kernel};
use ipnetwork::IpNetwork;
use netlink::{Mac, Netlink};
use sys::NetNs;

use crate::config::DEFAULT_MTU;
pub use crate::config::{Config, KEYS};

/// The plugin.
pub struct Dummy;

const DRIVER: &str = "dummy";

impl Plugin for Dummy {
    const NAME: &'static str = DRIVER;
    const ABOUT: &'static str = "gives a container a link that leads nowhere";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let bytes = Some(config.mtu.unwrap_or(DEFAULT_MTU));
        mtu::refuse_for_config(request, bytes)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        child::refuse_taken(&kernel, &request.ifname, DRIVER)?;
        let owner = owner(request);
        let mac = Some(config.mac.map_or_else(Mac::random, Ok)?);
        let links = [plan::link(&owner, mac, config.mtu)];
        conflict::with_lease(request, &config.ipam, None, &mut kernel, &links, |making, result| {
            if result.ips.is_empty() {
                return Err(Error::internal("IPAM plugin returned missing IP config"));
            }
            let dns = result.dns.clone();
            let mut result = single::without_link(request, result, None)?;
            // Unlike for other plugins, the IPAM plugin's counts unless it is replaced.
            result.dns = dns;
            if let Some(dns) = &config.dns {
                dns.override_dns(&mut result);
            }
            let own: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
            mtu::refuse_for(bytes, &own)?;
            making.add(&plan::rest(&owner, &result, &own)).map_err(conflict::to_cni_error)?;
            result.interfaces = vec![single::link(request, mac)];
            Ok(result)
        })
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        request.delegate(&config.ipam, Command::Check)?;
        let previous =
            request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
        let Attached { mac, addresses: own } = Attached::of(request, &previous)?;
        let owner = owner(request);
        let plan = plan::plan(&owner, mac, config.mtu, &previous, &own);
        attach::refuse_drift(&owner, &piece::verify(&plan, &mut kernel)?)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        only_link::del(request, DRIVER)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        only_link::gc(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        attach::require(&Netlink::open()?, &[Feature::Links(DRIVER)])?;
        request.delegate(&config.ipam, Command::Status)
    }
}
