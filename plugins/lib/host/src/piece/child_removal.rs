//! The stacked or dummy links that a DEL deletes from the container's namespace.
//!
//! A container may rename its link, and give it any alias and Ethernet address. It cannot change
//! the link's index, which ADD derived from the owner ([`Owner::link_index`]); so the index proves
//! the owner. A link with an index that the kernel chose comes from the reference's ADD, or from
//! one that found the index taken: its name, alias, Ethernet address and IP addresses are checked,
//! and each may show that it is ours. An alias alone does not show that it is another owner's.

use std::net::IpAddr;

use netlink::{Link, Mac, Netlink};
use sys::Result;

use super::birth_name;
use crate::Owner;

/// The runtime's cached result about the attachment's link.
#[derive(Clone, Debug, Default)]
pub struct RememberedLink {
    /// Its Ethernet address, if it has one of its own.
    pub mac: Option<Mac>,
    /// Its IP addresses.
    pub addresses: Vec<IpAddr>,
}

/// Deletes the owner's links of that driver from the container's namespace `sandbox`, whatever
/// their names. Links of other kinds and owners stay.
///
/// # Errors
/// The kernel could not be asked, or refused: then a link may still answer for the attachment's
/// addresses.
pub fn delete_child(
    sandbox: &Netlink,
    owner: &Owner,
    driver: &str,
    remembered: &RememberedLink,
) -> Result<()> {
    let links = sandbox.links()?;
    for link in links.iter().filter(|link| link.kind.as_deref() == Some(driver)) {
        if !is_ours(sandbox, link, owner, remembered)? {
            continue;
        }
        match sandbox.delete_link(link.index) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn is_ours(sandbox: &Netlink, link: &Link, owner: &Owner, remembered: &RememberedLink) -> Result<bool> {
    let label = link.alias.as_deref().filter(|alias| alias.starts_with("moor/"));
    if link.index == owner.link_index() {
        return Ok(true);
    }
    if Owner::has_link_index(link.index) {
        // Another owner's label; but the network may have been renamed, if the runtime remembers
        // exactly this link.
        if !label.is_some_and(|label| owner.is_in(label)) {
            return Ok(false);
        }
    } else if match label {
        Some(label) => label == owner.label(),
        // A link with its birth name comes from an ADD that was killed before it could rename it.
        None => link.name == owner.ifname || link.name == birth_name(owner),
    } {
        return Ok(true);
    }
    if remembered.mac.is_some() && link.mac == remembered.mac {
        return Ok(true);
    }
    if remembered.addresses.is_empty() {
        return Ok(false);
    }
    let has = |ip: IpAddr| remembered.addresses.contains(&ip);
    Ok(sandbox.addresses(Some(link.index))?.iter().any(|address| has(address.net.ip())))
}
