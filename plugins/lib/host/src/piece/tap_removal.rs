//! The TAP device that a DEL deletes from the container's namespace.
//!
//! A container may have TAP devices of its own, of any name. ADD derives the index of ours from the
//! owner ([`Owner::link_index`]), and the container cannot change it. A device with an index that
//! the kernel chose comes from an ADD that found the index taken, and has our label; or from the
//! reference's, and then only the runtime's result shows that it is this attachment's.

use netlink::{Link, Mac, Netlink};
use sys::Result;

use super::tap::KIND;
use crate::Owner;

/// Deletes the owner's TAP device from the container's namespace `sandbox`, whatever its name;
/// `remembered` is its Ethernet address in the runtime's result.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn delete_tap(sandbox: &Netlink, owner: &Owner, remembered: Option<Mac>) -> Result<()> {
    for link in sandbox.links()?.iter().filter(|link| is_ours(link, owner, remembered)) {
        match sandbox.delete_link(link.index) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn is_ours(link: &Link, owner: &Owner, remembered: Option<Mac>) -> bool {
    if link.kind.as_deref() != Some(KIND) || !link.tun.is_some_and(|info| info.tap) {
        return false;
    }
    if link.index == owner.link_index() {
        return true;
    }
    let is_remembered = remembered.is_some() && link.mac == remembered;
    match link.alias.as_deref().filter(|alias| alias.starts_with("moor/")) {
        Some(label) if label == owner.label() => !Owner::has_link_index(link.index) || is_remembered,
        // The network may have been renamed since.
        Some(label) => owner.is_in(label) && is_remembered,
        None => is_remembered && !Owner::has_link_index(link.index),
    }
}
