//! DEL and GC of an attachment with one link, in the container, that shares nothing with others.

use cni::{Command, Error, Request};
use host::piece::{self, RememberedLink};
use ipnetwork::IpNetwork;
use netlink::Netlink;
use sys::NetNs;

use crate::single::Attached;
use crate::{ipam_type, lease, owner};

/// DEL: deletes the link by its owner, and the lease. It reads nothing else of the configuration.
///
/// # Errors
/// The link could not be deleted, or the IPAM plugin failed.
pub fn del(request: &Request, driver: &str) -> Result<(), Error> {
    let ipam = ipam_type(request)?;
    lease::release(request, ipam.as_deref(), || delete(request, driver))
}

/// Deletes the link of that driver by its owner, if it is there.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn delete(request: &Request, driver: &str) -> Result<(), Error> {
    match NetNs::open_if_there(&request.netns)? {
        Some(netns) => {
            let remembered = remembered(request, driver);
            Ok(piece::delete_child(&Netlink::open_in(&netns)?, &owner(request), driver, &remembered)?)
        }
        None => Ok(()),
    }
}

/// The addresses of the attachment's link in the runtime's result. An ipvlan or VLAN link has the
/// MAC address of its parent, which identifies nothing.
fn remembered(request: &Request, driver: &str) -> RememberedLink {
    let Attached { mac, addresses } = Attached::remembered(request).unwrap_or_default();
    RememberedLink {
        mac: mac.filter(|_| matches!(driver, "macvlan" | "dummy")),
        addresses: addresses.iter().map(IpNetwork::ip).collect(),
    }
}

/// GC: deletes leases. The links vanish with the containers' namespaces.
///
/// # Errors
/// The IPAM plugin failed.
pub fn gc(request: &Request) -> Result<(), Error> {
    match ipam_type(request)? {
        Some(ipam) => request.delegate(&ipam, Command::Gc),
        None => Ok(()),
    }
}
