//! Overlay networks: containers of several hosts on one wire, by VXLAN.
//!
//! A network has two links on a host, which its attachments share: a bridge, and a VXLAN device
//! that is a port of it. They come with the network's first attachment and go with its last one.
//! The kernel counts the users: the ports of the bridge. An ADD holds the lock of these links
//! shared until its veth pair is a port; whoever takes them away holds it alone.

mod addresses;
mod device;
mod links;
mod peers;
mod port;
mod removal;
mod rules;

use std::fs::File;
use std::io;
use std::path::Path;

use netlink::Link;
use sys::file::{self, Hold};
use sys::{Error, Result};

use super::link_group;
use super::shared::GROUP;
use crate::Owner;
use crate::owner::hash;

pub use addresses::OverlayAddresses;
pub use links::OverlayLinks;
pub use peers::{OverlayPeers, forget_members, members_on_record, set_members};
pub use port::OverlayPort;
pub use removal::{overlay_networks, release_overlay};
pub use rules::{AddressFilter, OverlayRules};

/// The lock file; nothing is written to it.
const LOCK: &str = "/run/moor/overlay-links.lock";

/// The name of a network's bridge.
pub fn overlay_bridge(network: &str) -> String {
    name("mo", network)
}

/// The name of a network's VXLAN device.
pub fn overlay_device(network: &str) -> String {
    name("mx", network)
}

/// The alias of both.
pub(super) fn alias(network: &str) -> String {
    Owner::network_label(network)
}

fn name(prefix: &str, network: &str) -> String {
    format!("{prefix}{:010x}", hash(network) & 0xff_ffff_ffff)
}

/// Keeps these links from being taken away.
pub(super) fn use_links() -> Result<File> {
    lock(Hold::Shared)
}

/// Waits, with a limit, until nobody is about to use these links.
fn links_alone() -> Result<File> {
    lock(Hold::Alone)
}

fn lock(hold: Hold) -> Result<File> {
    file::make_private_dir(Path::new(file::RUN_DIR), 1)?;
    file::lock_as(Path::new(LOCK), 0o600, hold)
}

/// Whether a link is the network's bridge or device, made by us. The group alone does not prove it.
/// In the group of a deletion, it is what a killed one left, and its alias proves it.
/// A link without an alias comes from an ADD that was killed before it could set one, and is down.
fn is_ours(link: &Link, kind: &str, network: &str) -> bool {
    let labelled = match &link.alias {
        Some(have) => *have == alias(network),
        None => !link.up(),
    };
    let is_left = link.alias.is_some() && link_group::is_drawn(link.group);
    (link.group == GROUP || is_left) && link.kind.as_deref() == Some(kind) && labelled
}

/// The error for a link of our name that is not ours.
fn taken(link: &Link, wanted: &str) -> Error {
    let kind = link.kind.as_deref().unwrap_or("device");
    let owner = link.alias.as_deref().map(|alias| format!(" of {alias:?}")).unwrap_or_default();
    Error::Kernel {
        op: "use",
        object: format!("\"{}\"", link.name),
        message: Some(format!(
            "it is a {kind}{owner}, and no {wanted} of ours: delete it (ip link del {})",
            link.name
        )),
        source: io::Error::from_raw_os_error(libc::EEXIST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay() {
        // In use on running nodes.
        assert_eq!(
            (overlay_bridge("front"), overlay_device("front")),
            (name("mo", "front"), name("mx", "front"))
        );
        assert_eq!(overlay_bridge("front").len(), 12);
        assert_ne!(overlay_bridge("front"), overlay_bridge("back"));
    }
}
