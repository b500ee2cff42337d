//! `tap`: gives a container a TAP device, for a program that reads its frames: a virtual machine
//! monitor.

mod config;
mod plan;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use attach::single::{self, Attached};
use attach::{child, conflict, ipam_type, lease, mtu, only_link, owner, refuse_drift};
use cni::{AddResult, Code, Command, Error, Plugin, Request};
use host::piece::{self, Kernel, Making};
use ipnetwork::IpNetwork;
use netlink::{Mac, Netlink};
use sys::NetNs;

pub use crate::config::{Config, KEYS};
use crate::plan::{CREATE, DRIVER};

/// The plugin.
pub struct Tap;

impl Plugin for Tap {
    const NAME: &'static str = DRIVER;
    const ABOUT: &'static str = "gives a container a TAP device, for a virtual machine in it";
    const COMMANDS: &'static [(&'static str, &'static str)] =
        &[(CREATE, "creates the device for ADD, in its SELinux context")];

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        if config.ipam.is_none() {
            AddResult::default().convertible_to(request.version)?;
        }
        refuse_context(&config, Code::InvalidConfig)?;
        mtu::refuse_for_config(request, config.mtu)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        child::refuse_taken(&kernel, &request.ifname, DRIVER)?;
        let mac = config.mac.map_or_else(Mac::random, Ok)?;
        let device = [plan::device(&config, &owner(request), Some(mac))];
        let complete = |result| single::without_link(request, result, config.dns.as_ref());
        match &config.ipam {
            None => conflict::without_lease(
                &mut kernel,
                &device,
                complete(AddResult::default())?,
                |making, result| finish(request, &config, mac, making, result),
            ),
            Some(ipam) => {
                conflict::with_lease(request, ipam, None, &mut kernel, &device, |making, result| {
                    if result.ips.is_empty() {
                        return Err(Error::internal("IPAM plugin returned missing IP config"));
                    }
                    finish(request, &config, mac, making, complete(result)?)
                })
            }
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        if let Some(ipam) = &config.ipam {
            request.delegate(ipam, Command::Check)?;
        }
        let previous =
            request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
        let Attached { mac, addresses } = Attached::of(request, &previous)?;
        let owner = owner(request);
        let plan = plan::plan(&config, &owner, mac, &previous, &addresses);
        refuse_drift(&owner, &piece::verify(&plan, &mut kernel)?)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let ipam = ipam_type(request)?;
        lease::release(request, ipam.as_deref(), || delete_device(request))
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        only_link::gc(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        refuse_context(&config, Code::NotAvailable)?;
        piece::require_taps().map_err(|error| Error::new(Code::NotAvailable, format!("{error:#}")))?;
        match &config.ipam {
            Some(ipam) => request.delegate(ipam, Command::Status),
            None => Ok(()),
        }
    }

    fn command(&self, _: &str, arguments: &[OsString]) -> Result<(), Error> {
        let arguments: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
        Ok(piece::create_tap_at_stdin(&arguments)?)
    }
}

/// Refuses a context that no device of this host can have.
fn refuse_context(config: &Config, code: Code) -> Result<(), Error> {
    match &config.context {
        Some(context) if !piece::has_tap_contexts() => {
            Err(Error::new(code, format!("selinuxContext {context:?}: this host does not run SELinux")))
        }
        _ => Ok(()),
    }
}

/// Creates the rest, after the device.
fn finish(
    request: &Request,
    config: &Config,
    mac: Mac,
    making: &mut Making<'_>,
    mut result: AddResult,
) -> Result<AddResult, Error> {
    let own: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
    mtu::refuse_for(config.mtu, &own)?;
    making.add(&plan::rest(&owner(request), &result, &own))?;
    result.interfaces = vec![single::link(request, Some(mac))];
    Ok(result)
}

fn delete_device(request: &Request) -> Result<(), Error> {
    let Some(netns) = NetNs::open_if_there(&request.netns)? else { return Ok(()) };
    let remembered = Attached::remembered(request).and_then(|attached| attached.mac);
    Ok(piece::delete_tap(&Netlink::open_in(&netns)?, &owner(request), remembered)?)
}
