//! The commands of the plugin.

use std::net::IpAddr;

use cni::{AddResult, Error, Plugin, Request, ValidAttachments};
use leases::{Holder, Place, Roots, Store, resolv};

use crate::config::{Conf, PlaceConf, Settings};

/// The plugin.
#[derive(Clone, Debug, Default)]
pub struct HostLocal {
    /// The paths of the kernel's files and of the state of this boot.
    pub roots: Roots,
}

impl Plugin for HostLocal {
    const NAME: &'static str = "host-local";
    const ABOUT: &'static str =
        "leases addresses from ranges to containers, and keeps the leases in a directory";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let settings = settings(request)?;
        let dns = settings.resolv_conf.as_deref().map(resolv::read).transpose()?.unwrap_or_default();
        let mut result = AddResult { routes: settings.routes.clone(), dns, ..AddResult::default() };
        let holder = Holder::new(&request.container_id, &request.ifname);
        let mut store = Store::open(&self.roots, &settings.place)?;
        // Every set allocates an address, so the result can be converted to every version.
        result.ips = leases::allocate(
            &mut store,
            &settings.offer,
            &settings.requested,
            &holder,
            &request.container_id,
        )?;
        Ok(result)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let settings = settings(request)?;
        let of_a_set = |ip: &IpAddr| settings.offer.sets.iter().any(|set| set.range_of(*ip).is_some());
        let result = request.prev_result()?;
        let expected =
            result.iter().flat_map(|result| &result.ips).map(|ip| ip.address.ip()).filter(of_a_set);
        leases::check(&self.roots, &settings.place, (&request.container_id, &request.ifname), expected)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let place = place(request)?;
        leases::release(&self.roots, &place, &Holder::new(&request.container_id, &request.ifname))?;
        Ok(())
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
        leases::collect(&self.roots, &place(request)?, &valid)?;
        Ok(())
    }

    /// The directory is writable, and every set has a free address.
    fn status(&self, request: &Request) -> Result<(), Error> {
        let Settings { place, offer, .. } = settings(request)?;
        leases::writable(&place)?;
        match leases::full_set(&self.roots, &place, &offer)? {
            None => Ok(()),
            Some(full) => Err(full.to_cni_error()),
        }
    }
}

/// Checks the configuration of a request; changes nothing.
///
/// # Errors
/// The configuration is invalid.
pub fn validate(request: &Request) -> Result<(), Error> {
    settings(request).map(drop)
}

/// The checked configuration.
fn settings(request: &Request) -> Result<Settings, Error> {
    let conf: Conf = request.config()?;
    let requested_ip = leases::requested_ip(&request.args(&["IP"])?)?;
    conf.check(&request.network, request.version, requested_ip).map_err(|error| error.to_cni_error())
}

/// The place of the leases. The network's name and the directory are enough: a wrong range or
/// argument must not prevent the release of a lease.
fn place(request: &Request) -> Result<Place, Error> {
    match settings(request) {
        Ok(settings) => Ok(settings.place),
        Err(_) => {
            request.config::<PlaceConf>()?.check(&request.network).map_err(|error| error.to_cni_error())
        }
    }
}

#[cfg(test)]
mod tests;
