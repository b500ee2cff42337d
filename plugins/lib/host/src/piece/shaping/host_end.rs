//! The host's end of a container's veth pair. The kernel is asked, not the result of the previous
//! plugin: names in it may be of links that others have made since.

use netlink::{Link, Netlink};
use sys::Result;

use super::super::{Kernel, Place};
use crate::removal::{is_in_this_namespace, is_pair};

/// What the other end of a container's interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEnd {
    /// A link of the host.
    Link(Box<Link>),
    /// A link with that index of another namespace.
    Elsewhere(u32),
    /// The interface has no other end; its kind.
    NoPair(Option<String>),
    /// The container has no such interface.
    NoInterface,
}

/// Finds the other end of a container's interface.
///
/// # Errors
/// The kernel could not be asked.
pub fn host_end(kernel: &Kernel, ifname: &str) -> Result<HostEnd> {
    find(kernel.host(), kernel.netlink(Place::Sandbox)?, ifname)
}

/// The same, with a socket in each namespace.
pub(super) fn find(host: &Netlink, sandbox: &Netlink, ifname: &str) -> Result<HostEnd> {
    let Some(link) = sandbox.link_by_name(ifname)? else { return Ok(HostEnd::NoInterface) };
    if link.kind.as_deref() != Some("veth") {
        return Ok(HostEnd::NoPair(link.kind));
    }
    let index = link.peer_index.unwrap_or(0);
    let peer = host.link_by_index(index)?.filter(|peer| is_pair(peer, &link));
    Ok(match peer {
        // Without an id the peer is in the container itself.
        Some(peer) if link.peer_netns_id.is_some() && is_in_this_namespace(sandbox, &link)? => {
            HostEnd::Link(Box::new(peer))
        }
        _ => HostEnd::Elsewhere(index),
    })
}
