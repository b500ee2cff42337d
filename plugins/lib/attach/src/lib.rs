//! What every plugin that puts a link into a container does there: the addresses and routes of a result as pieces,
//! whose they are, and how a drift is told. It is where `cni`, which knows no kernel, and `host`, which knows no CNI,
//! meet; plugins with a link in a container use it beside these two.

pub mod child;
pub mod conflict;
mod container;
pub mod lease;
mod master;
pub mod mtu;
mod parent;

use std::collections::HashSet;

use cni::{Attachment, Code, Error, Request};
use host::piece::Feature;
use host::{Drift, Owner, Removal};
use netlink::{Mac, Netlink};
use serde::Deserialize;

pub use container::{addresses, routes, settled};
pub use master::Master;
pub use parent::Parent;

/// The owner of the objects that a request is about.
pub fn owner(request: &Request) -> Owner {
    Owner::new(&request.network, &request.container_id, &request.ifname)
}

/// The owners that a GC request keeps: the attachments of its network that are valid.
pub fn valid_owners(request: &Request, valid: HashSet<Attachment>) -> Vec<Owner> {
    valid.into_iter().map(|valid| Owner::new(&request.network, valid.container_id, valid.ifname)).collect()
}

/// What the DEL of a request's attachment may take. A result that cannot be read is not remembered.
pub fn removal(request: &Request) -> Removal {
    let result = request.prev_result().ok().flatten().unwrap_or_default();
    let on_host =
        result.interfaces.into_iter().filter(|link| link.sandbox.as_deref().unwrap_or("").is_empty());
    Removal::new(owner(request), &request.netns, on_host.map(|link| link.name).collect())
}

/// The IPAM plugin that DEL and GC must tell, whatever else the configuration holds: nothing else in it may stand in
/// their way.
///
/// # Errors
/// `failed to load netconf: ...` when that very key is no string.
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

/// The MAC address that a result's link has, if it is one.
pub fn mac_of(mac: Option<&str>) -> Option<Mac> {
    mac.and_then(|mac| mac.parse().ok())
}

/// CHECK's verdict on an attachment.
///
/// # Errors
/// [`drifted`], if there is any drift.
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

/// STATUS: whether the kernel has what the configuration needs of it.
///
/// # Errors
/// Code 50 for the first of these features that is missing, with ADD's own words.
pub fn require(host: &Netlink, features: &[Feature]) -> Result<(), Error> {
    host::piece::require(host, features).map_err(|error| {
        let code = if error.is_not_supported() { Code::NotAvailable } else { Code::Internal };
        Error { code: code as u32, ..Error::from(error) }
    })
}
