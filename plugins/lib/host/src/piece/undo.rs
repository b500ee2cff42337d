//! Taking back what a failed ADD made.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::Netlink;
use sys::Result;

use super::{Kernel, Place, host_routes, shared};
use crate::Owner;
use crate::intent::By;
use crate::iptables::{MasqueradeChain, Ports};
use crate::rules::{self, published};

/// How to take one thing back. What hangs on a link (addresses, routes, its parameters) goes with the link.
pub(super) enum Undo {
    /// Delete a link of the host that is this attachment's alone. By name: it is known before the index is.
    Link(String),
    /// Delete a link of the container's that is this attachment's alone.
    SandboxLink(String),
    /// Delete a link that others may have begun to use.
    SharedLink(String),
    /// Remove addresses from a link that others may have begun to use.
    SharedAddresses(u32, Vec<IpNetwork>),
    /// Delete the links that attachments share and that nobody uses any more.
    UnusedLinks,
    /// Delete the host's routes to the attachment of that tag, and its shim if it was the last one's.
    HostRoutes(u32),
    /// Delete the host's routes to the attachment of that tag by the link of its gateways.
    WayBack(u32),
    /// Remove the record of an attachment's packet rules.
    Record(By, Owner),
    /// Delete the packet rules of an attachment; its addresses are these.
    Rules(Owner, Vec<IpAddr>),
    /// Take back the ports that an attachment publishes.
    Published(Owner),
    /// Delete chains of iptables that lead ports to a container.
    PortChains(Vec<Ports>),
    /// Delete an attachment's rules of iptables.
    MasqueradeChain(MasqueradeChain),
}

/// Runs them backwards. An error here has nowhere to go: the ADD's own is what must be told, and the DEL that every
/// runtime sends after a failed ADD looks once more.
pub(super) fn run(undo: Vec<Undo>, kernel: &mut Kernel) {
    for step in undo.into_iter().rev() {
        let _ = match step {
            Undo::Link(name) => delete(&kernel.host, &name, |_| true),
            Undo::SandboxLink(name) => {
                kernel.netlink(Place::Sandbox).and_then(|sandbox| delete(sandbox, &name, |_| true))
            }
            Undo::SharedLink(name) => delete(&kernel.host, &name, |index| unused(kernel, index)),
            Undo::SharedAddresses(index, nets) if unused(kernel, index) => {
                nets.into_iter().try_for_each(|net| kernel.host.delete_address(index, net))
            }
            Undo::SharedAddresses(..) => Ok(()),
            Undo::UnusedLinks => shared::sweep(&kernel.host, |_, _| false),
            Undo::HostRoutes(tag) => shared::sweep(&kernel.host, |_, of| of == tag),
            Undo::WayBack(tag) => {
                shared::lock().and_then(|_lock| host_routes::delete_tagged(&kernel.host, tag))
            }
            Undo::MasqueradeChain(chain) => chain.delete().and_then(|()| {
                kernel.records().and_then(|records| records.remove_own(By::Iptables, &chain.owner))
            }),
            Undo::Published(owner) => kernel.nft().and_then(|nft| published::take_back(nft, &owner)),
            Undo::PortChains(chains) => Ports::delete(&chains),
            Undo::Record(by, owner) => kernel.records().and_then(|records| records.remove_own(by, &owner)),
            Undo::Rules(owner, addresses) => {
                kernel.nft().and_then(|nft| rules::delete_own(nft, &owner, &addresses))
            }
        };
    }
}

fn delete(netlink: &Netlink, name: &str, may: impl FnOnce(u32) -> bool) -> Result<()> {
    match netlink.link_by_name(name)? {
        Some(link) if may(link.index) => netlink.delete_link(link.index),
        _ => Ok(()),
    }
}

/// Whether a shared link serves nobody: no other process is at work on one, and it has no ports.
fn unused(kernel: &Kernel, index: u32) -> bool {
    kernel.alone()
        && kernel.host.links().is_ok_and(|links| links.iter().all(|link| link.master != Some(index)))
}
