//! `host-device`: gives a container a device of the host, and the host its device back.

mod config;
mod device;
mod find;
mod plan;
mod sysfs;
#[cfg(test)]
mod tests;

use attach::single::{self, Attached};
use attach::{conflict, lease};
use cni::{AddResult, Command, Error, Plugin, Request, ValidAttachments};
use host::device::Hint;
use host::notice;
use host::piece::{self, Kernel, Making};
use ipnetwork::IpNetwork;
use netlink::Netlink;
use sys::NetNs;

pub use crate::config::{Config, KEYS};

/// The plugin.
pub struct HostDevice;

impl Plugin for HostDevice {
    const NAME: &'static str = "host-device";
    const ABOUT: &'static str = "gives a container a device of the host";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        if config.ipam.is_none() {
            AddResult::default().convertible_to(request.version)?;
        }
        let netns = NetNs::open(&request.netns)?;
        if config.dpdk {
            return without_link(request, &config);
        }
        let mut kernel = Kernel::open(netns)?;
        attach::child::refuse_taken(&kernel, &request.ifname, Self::NAME)?;
        // Another device's repair is no condition of this attachment.
        if let Err(error) = host::device::repair(kernel.host()) {
            notice(format_args!("{error:#}"));
        }
        let owner = attach::owner(request);
        let link = find::device(kernel.host(), &config, &owner)?;
        let links = [plan::device(&config, &owner, &request.netns, &link.name, link.mac)];
        let finish = |making: &mut Making<'_>, result: AddResult| {
            let mut result = single::without_link(request, result, config.dns.as_ref())?;
            let own: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
            let pieces = plan::rest(&request.ifname, &result, &own, config.dad, link.carrier());
            making.add(&pieces).map_err(conflict::to_cni_error)?;
            result.interfaces = vec![single::link(request, link.mac)];
            Ok(result)
        };
        match &config.ipam {
            Some(ipam) => conflict::with_lease(request, ipam, None, &mut kernel, &links, |making, result| {
                if result.ips.is_empty() {
                    return Err(Error::internal("IPAM plugin returned missing IP config"));
                }
                finish(making, result)
            }),
            None => conflict::without_lease(&mut kernel, &links, AddResult::default(), finish),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        if let Some(ipam) = &config.ipam {
            request.delegate(ipam, Command::Check)?;
        }
        let previous =
            request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
        if config.dpdk {
            return Ok(());
        }
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        let Attached { mac, addresses: own } = Attached::of(request, &previous)?;
        let owner = attach::owner(request);
        let mut pieces = vec![plan::device(&config, &owner, &request.netns, "", mac)];
        pieces.extend(plan::rest(&request.ifname, &previous, &own, config.dad, true));
        attach::refuse_drift(&owner, &piece::verify(&pieces, &mut kernel)?)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let ipam = attach::ipam_type(request)?;
        lease::release(request, ipam.as_deref(), || give_back(request))
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ipam = attach::ipam_type(request)?;
        let devices = give_back_stale(request);
        let leases = match ipam {
            Some(ipam) => request.delegate(&ipam, Command::Gc),
            None => Ok(()),
        };
        devices.and(leases)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let ipam = attach::ipam_type(request)?;
        host::device::repair(&Netlink::open()?)?;
        match ipam {
            Some(ipam) => request.delegate(&ipam, Command::Status),
            None => Ok(()),
        }
    }
}

/// ADD of a device that a program drives: there is nothing to move.
fn without_link(request: &Request, config: &Config) -> Result<AddResult, Error> {
    let result = match &config.ipam {
        Some(ipam) => request.delegate_add(ipam)?,
        None => AddResult::default(),
    };
    let completed = single::without_link(request, result, config.dns.as_ref());
    if let (Err(_), Some(ipam)) = (&completed, &config.ipam) {
        // The ADD's own error is the one to report.
        let _ = request.delegate(ipam, Command::Del);
    }
    Ok(AddResult { interfaces: vec![single::link(request, None)], ..completed? })
}

/// DEL: the device is found by its owner, and the configuration is only a hint.
fn give_back(request: &Request) -> Result<(), Error> {
    let mac = Attached::remembered(request).and_then(|attached| attached.mac);
    let hint = Hint { device: config::device_name(request), mac };
    let sandbox = match NetNs::open_if_there(&request.netns)? {
        Some(netns) => Some(Netlink::open_in(&netns)?),
        None => None,
    };
    Ok(host::device::give_back(&Netlink::open()?, sandbox.as_ref(), &attach::owner(request), &hint)?)
}

/// GC: gives back the devices of attachments that are not valid any more, and completes the return
/// of those that the kernel gave back.
fn give_back_stale(request: &Request) -> Result<(), Error> {
    let host = Netlink::open()?;
    let stale = match request.valid_attachments()? {
        ValidAttachments::Only(valid) => {
            let valid = attach::valid_owners(request, valid);
            host::device::give_back_all_but(&host, &request.network, &valid)
        }
        _ => Ok(()),
    };
    Ok(stale.and(host::device::repair(&host))?)
}
