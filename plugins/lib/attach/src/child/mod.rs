//! Attachments by a link on a parent: the common part of macvlan, ipvlan and vlan.

mod host_access;
mod plan;

use std::net::IpAddr;

use cni::{AddResult, Code, Command, DnsConf, Error, Request, ValidAttachments};
use host::piece::{self, ChildKind, Feature, Kernel, Making, Place};
use ipnetwork::IpNetwork;
use netlink::{Mac, Netlink};

use crate::conflict::{self, Detection};
use crate::single::{self, Attached};
use crate::{Master, Parent, ipam_type, lease, mtu, only_link, owner, refuse_drift, require, valid_owners};

pub use plan::plan;

/// The wanted attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The kind of its link.
    pub kind: ChildKind,
    /// The link's Ethernet address; `None`: the kernel's choice.
    pub mac: Option<Mac>,
    /// The link's MTU in bytes; `None`: the parent's.
    pub mtu: Option<u32>,
    /// Whether the kernel detects duplicates of its IPv6 addresses.
    pub dad: bool,
    /// Whether a family without any route gets a default route on the link.
    pub default_route: bool,
    /// `Some`: host and container can reach each other; the host uses these addresses for it, or
    /// its own.
    pub host_access: Option<Vec<IpAddr>>,
    /// How duplicates of all addresses are detected, if they are.
    pub detection: Option<Detection>,
}

/// Refuses an interface name that the container has already, before an address is requested.
///
/// # Errors
/// The container has an interface of this name.
pub fn refuse_taken(kernel: &Kernel, ifname: &str, driver: &str) -> Result<(), Error> {
    match kernel.netlink(Place::Sandbox)?.link_by_name(ifname)? {
        None => Ok(()),
        Some(_) => Err(Error::internal(format!(
            "failed to create {driver}: the container has an interface {ifname:?} already: file exists"
        ))),
    }
}

/// The source of an attachment's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// This IPAM plugin, which must return at least one address.
    Ipam(String),
    /// A result that is known already, or is empty (layer 2).
    Known(Box<AddResult>),
}

/// ADD: creates the link, calls the IPAM plugin if there is one, and creates the rest.
///
/// # Errors
/// A step failed; link and lease are deleted again.
pub fn add(
    request: &Request,
    kernel: &mut Kernel,
    child: &Child,
    parent: &Parent,
    addresses: Addresses,
    dns: Option<&DnsConf>,
) -> Result<AddResult, Error> {
    let links = [plan::link(child, &owner(request), parent)];
    let complete = |result| single::without_link(request, result, dns);
    parent.report_down_master(child.kind.driver());
    match addresses {
        Addresses::Ipam(ipam) => {
            mtu::refuse_for_config(request, Some(child.mtu.unwrap_or(parent.mtu)))?;
            conflict::with_lease(request, &ipam, child.detection, kernel, &links, |making, result| {
                if result.ips.is_empty() {
                    return Err(Error::internal("IPAM plugin returned missing IP config"));
                }
                finish(request, making, child, parent, complete(result)?)
            })
        }
        Addresses::Known(result) => {
            conflict::without_lease(kernel, &links, complete(*result)?, |making, result| {
                finish(request, making, child, parent, result)
            })
        }
    }
}

/// Creates the rest, after the link.
fn finish(
    request: &Request,
    making: &mut Making<'_>,
    child: &Child,
    parent: &Parent,
    mut result: AddResult,
) -> Result<AddResult, Error> {
    let owner = owner(request);
    let own: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
    mtu::refuse_for(Some(child.mtu.unwrap_or(parent.mtu)), &own)?;
    let shim = host_access::shim(making.kernel().host(), child, &owner, parent, &own)?;
    making.add(&plan::rest(child, &owner, parent, &result, &own, shim)).map_err(conflict::to_cni_error)?;
    result.interfaces = vec![single::link(request, child.mac.or(parent.mac))];
    Ok(result)
}

/// CHECK: verifies everything that ADD created.
///
/// # Errors
/// The attachment has drifted, or `prevResult` does not contain it.
pub fn check(
    request: &Request,
    kernel: &mut Kernel,
    child: &Child,
    parent: &Parent,
    previous: &AddResult,
) -> Result<(), Error> {
    let owner = owner(request);
    let Attached { mac, addresses: own } = Attached::of(request, previous)?;
    let child = Child { mac, ..child.clone() };
    parent.report_down_master(child.kind.driver());
    let shim = host_access::shim(kernel.host(), &child, &owner, parent, &own)?;
    refuse_drift(&owner, &piece::verify(&plan(&child, &owner, parent, previous, &own, shim), kernel)?)
}

/// DEL: deletes the link by its owner, links that the host had only for it, and the lease. It reads
/// nothing else of the configuration.
///
/// # Errors
/// The link could not be deleted, or the IPAM plugin failed.
pub fn del(request: &Request, driver: &str) -> Result<(), Error> {
    let ipam = ipam_type(request)?;
    let mut shared = Ok(());
    let lease = lease::release(request, ipam.as_deref(), || {
        only_link::delete(request, driver)?;
        shared = release_shared(request);
        Ok(())
    });
    // A failure is reported, so that DEL is tried again, but does not stop the other steps.
    shared.and(lease)
}

fn release_shared(request: &Request) -> Result<(), Error> {
    if !may_share(request) {
        return Ok(());
    }
    Ok(piece::release(&Netlink::open()?, &owner(request))?)
}

/// Whether there may be links that attachments share: some were created since the machine started,
/// or there is no record of that and the configuration asks for them.
fn may_share(request: &Request) -> bool {
    piece::made_any()
        || Master::of(request).is_ok_and(|master| {
            master.vlan.is_some()
                || master.internal
                || master.host_access.is_some()
                || master.name.is_some_and(|name| name.contains('.'))
        })
}

/// GC: deletes leases, and links that the host had only for stale attachments. The attachments' own
/// links vanish with the containers' namespaces.
///
/// # Errors
/// A link could not be deleted, or the IPAM plugin failed.
pub fn gc(request: &Request) -> Result<(), Error> {
    let ipam = ipam_type(request)?;
    let shared = match request.valid_attachments()? {
        ValidAttachments::Only(valid) if may_share(request) => {
            let owners = valid_owners(request, valid);
            let released =
                Netlink::open().and_then(|host| piece::release_but(&host, &request.network, &owners));
            released.map_err(Error::from)
        }
        _ => Ok(()),
    };
    let leases = match ipam {
        Some(ipam) => request.delegate(&ipam, Command::Gc),
        None => Ok(()),
    };
    shared.and(leases)
}

/// STATUS: whether the kernel has such links, whether there is a usable parent or one could be
/// created, as far as this can be checked without a container, and the STATUS of the IPAM plugin.
///
/// # Errors
/// Code 50, or the IPAM plugin failed.
pub fn status(
    request: &Request,
    driver: &'static str,
    ipam: Option<&str>,
    master: &Master,
) -> Result<(), Error> {
    let host = Netlink::open()?;
    require(&host, &[Feature::Links(driver)])?;
    if master.place == Place::Host {
        let parent = Parent::find(&host, master)
            .map_err(|error| Error { code: Code::NotAvailable as u32, ..error })?;
        if let Some(why) = parent.why_down() {
            return Err(Error::new(Code::NotAvailable, why));
        }
        if let Some(on_demand) = &parent.on_demand {
            require(&host, &[on_demand.feature()])?;
        }
    }
    match ipam {
        Some(ipam) => request.delegate(ipam, Command::Status),
        None => Ok(()),
    }
}
