//! The container's side of an attachment, for every plugin that puts a link into a container: the
//! addresses and routes of a result as pieces, their owner, and the error for a drift. It connects
//! `cni`, which does not know the kernel, with `host`, which does not know CNI.

mod check;
pub mod child;
pub mod conflict;
mod container;
mod forwarding;
pub mod lease;
mod master;
pub mod mtu;
pub mod only_link;
mod outside;
mod parent;
mod previous;
pub mod single;
mod subnets;
mod veth_mtu;

use std::collections::HashSet;

use cni::{Attachment, Code, Error, Request};
use host::piece::Feature;
use host::{Drift, Owner, Removal};
use netlink::{Mac, Netlink};
use serde::Deserialize;

pub use check::drifts;
pub use container::{addresses, parameters, result_routes, routes, settled, without_start_delay};
pub use forwarding::host_forwarding;
pub use master::{KEYS as MASTER_KEYS, Master};
pub use outside::{KEYS as OUTSIDE_KEYS, Masquerading, Outside};
pub use parent::Parent;
pub use previous::{container_link, host_veth, previous_addresses, previous_mac};
pub use subnets::{first_address, ipam_gateways};
pub use veth_mtu::{KEYS as VETH_MTU_KEYS, VethMtu, veth_mtu};

/// The owner of a request's objects.
pub fn owner(request: &Request) -> Owner {
    Owner::new(&request.network, &request.container_id, &request.ifname)
}

/// The owners that a GC request keeps: the attachments of its network that are valid.
pub fn valid_owners(request: &Request, valid: HashSet<Attachment>) -> Vec<Owner> {
    valid.into_iter().map(|valid| Owner::new(&request.network, valid.container_id, valid.ifname)).collect()
}

/// What the DEL of a request's attachment may delete. A `prevResult` that cannot be read counts as
/// absent.
pub fn removal(request: &Request) -> Removal {
    let result = request.prev_result().ok().flatten().unwrap_or_default();
    let on_host =
        result.interfaces.into_iter().filter(|link| link.sandbox.as_deref().unwrap_or("").is_empty());
    Removal::new(owner(request), &request.netns, on_host.map(|link| link.name).collect())
}

/// The IPAM plugin that DEL and GC must call. Only this key is read, so that nothing else in the
/// configuration can make them fail.
///
/// # Errors
/// `failed to load netconf: ...` when the key is not a string.
pub fn ipam_type(request: &Request) -> Result<Option<String>, Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Conf {
        ipam: Option<Ipam>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Ipam {
        r#type: Option<String>,
    }
    let conf: Conf = request.config()?;
    Ok(conf.ipam.and_then(|ipam| ipam.r#type).filter(|name| !name.is_empty()))
}

/// Parses the MAC address of a result's link; `None` when it is invalid.
pub fn mac_of(mac: Option<&str>) -> Option<Mac> {
    mac.and_then(|mac| mac.parse().ok())
}

/// The configured MAC address of a link.
///
/// # Errors
/// What is wrong with it. The kernel refuses an address that no link may have too, but later and
/// only with "Cannot assign requested address".
pub fn link_mac(text: &str) -> Result<Mac, &'static str> {
    let mac: Mac = text.parse().map_err(|_| "invalid MAC address")?;
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        return Err("a link's MAC address is neither zero nor a multicast address");
    }
    Ok(mac)
}

/// Fails if CHECK found any drift of the attachment.
///
/// # Errors
/// See [`drifted`].
pub fn refuse_drift(owner: &Owner, drifts: &[Drift]) -> Result<(), Error> {
    if drifts.is_empty() { Ok(()) } else { Err(drifted(owner, drifts)) }
}

/// The error that names every drift, code 999.
pub fn drifted(owner: &Owner, drifts: &[Drift]) -> Error {
    let drifts: Vec<String> = drifts.iter().map(ToString::to_string).collect();
    Error::internal(format!(
        "attachment {} of container {} has drifted: {}",
        owner.ifname,
        owner.container_id,
        drifts.join("; ")
    ))
}

/// STATUS: whether the kernel has the features that the configuration needs.
///
/// # Errors
/// Code 50 for the first missing feature, with the text of ADD's error.
pub fn require(host: &Netlink, features: &[Feature]) -> Result<(), Error> {
    host::piece::require(host, features).map_err(|error| {
        let code = if error.is_not_supported() { Code::NotAvailable } else { Code::Internal };
        Error { code: code as u32, ..Error::from(error) }
    })
}
