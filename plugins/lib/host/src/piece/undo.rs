//! Undoing what a failed ADD created.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{Handle, Netlink, PolicyRule, WholeRoute};
use sys::Result;

use super::vrf::{self, PortState};
use super::{
    Kernel, LinkSettings, Place, host_routes, release_overlay, set_back, shaping, shared, source, tables,
};
use crate::Owner;
use crate::device;
use crate::intent::By;
use crate::iptables::{MasqueradeChain, Ports};
use crate::rules::{self, fast_path, firewall, published};

/// An undo step. Objects on a link (addresses, routes, its parameters) go with the link.
pub(super) enum Undo {
    /// Delete a link of the host that only this attachment uses. By name, which is known before the
    /// index.
    Link(String),
    /// Delete a link of the container that only this attachment uses.
    SandboxLink(String),
    /// Delete a link that others may have started to use.
    SharedLink(String),
    /// Remove addresses from a link that others may have started to use.
    SharedAddresses(u32, Vec<IpNetwork>),
    /// Give an attachment's device back to the host.
    Device(Owner),
    /// Delete shared links without users.
    UnusedLinks,
    /// Delete the host's routes to the attachment with that tag, and its shim if these were the
    /// last.
    HostRoutes(u32),
    /// Delete the host's routes to the attachment with that tag through the link of its gateways.
    WayBack(u32),
    /// Remove the record of an attachment's packet rules.
    Record(By, Owner),
    /// Delete the packet rules of an attachment with these addresses.
    Rules(Owner, Vec<IpAddr>),
    /// Delete the fast path of an attachment.
    FastPath(Owner),
    /// Delete what an attachment has in the firewall.
    Firewall(Owner),
    /// Remove the published ports of an attachment.
    Published(Owner),
    /// Delete the iptables chains that lead ports to a container.
    PortChains(Vec<Ports>),
    /// Delete the discipline of that number from a link of the host.
    Shaper(String, Handle),
    /// Remove the redirection from a link of the host to an IFB link.
    Redirect {
        /// The link of the host.
        link: String,
        /// The IFB link.
        to: String,
        /// The place for filters too, if it has none.
        takes_empty: bool,
    },
    /// Delete an attachment's iptables rules.
    MasqueradeChain(MasqueradeChain),
    /// Set back what a link of the container had.
    LinkSettings(u32, LinkSettings),
    /// Set back parameters of the container's namespace.
    Parameters(Vec<(String, String)>),
    /// Delete a rule of the container, and the routes of a link in its table.
    SourceRule(PolicyRule, Option<u32>),
    /// Put routes of the container back into the main table.
    MainRoutes(Vec<WholeRoute>),
    /// Delete a VRF of the container that nobody uses.
    UnusedVrf(String),
    /// Delete the links and rules of an overlay network without containers.
    OverlayLinks(String),
    /// Take a link of the container out of its VRF, and give it back what it had before.
    VrfPort(u32, PortState),
}

/// Runs the steps backwards. Their errors are dropped: ADD's own error must be reported, and the
/// DEL that every runtime sends after a failed ADD tries again.
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
            Undo::Device(owner) => kernel.netlink(Place::Sandbox).and_then(|sandbox| {
                device::give_back(&kernel.host, Some(sandbox), &owner, &device::Hint::default())
            }),
            Undo::UnusedLinks => shared::sweep(&kernel.host, |_, _| false),
            Undo::HostRoutes(tag) => shared::sweep(&kernel.host, |_, of| of == tag),
            Undo::WayBack(tag) => {
                shared::lock().and_then(|_lock| host_routes::delete_tagged(&kernel.host, tag))
            }
            Undo::MasqueradeChain(chain) => chain.delete().and_then(|()| {
                kernel.records().and_then(|records| records.remove_own(By::Iptables, &chain.owner))
            }),
            Undo::Shaper(link, handle) => found(&kernel.host, &link).and_then(|link| match link {
                Some(link) => shaping::take_back(&kernel.host, link, handle),
                None => Ok(()),
            }),
            Undo::Redirect { link, to, takes_empty } => found(&kernel.host, &link).and_then(|link| {
                let to = found(&kernel.host, &to)?;
                link.map_or(Ok(()), |link| shaping::withdraw(&kernel.host, link, to.as_slice(), takes_empty))
            }),
            Undo::SourceRule(rule, filled) => {
                kernel.netlink(Place::Sandbox).and_then(|sandbox| source::withdraw(sandbox, &rule, filled))
            }
            Undo::MainRoutes(routes) => {
                kernel.netlink(Place::Sandbox).and_then(|sandbox| source::return_to_main(sandbox, &routes))
            }
            Undo::UnusedVrf(name) => tables::lock().and_then(|_lock| {
                kernel.netlink(Place::Sandbox).and_then(|sandbox| vrf::delete_unused(sandbox, &name))
            }),
            Undo::VrfPort(index, state) => {
                kernel.netlink(Place::Sandbox).and_then(|sandbox| vrf::release(sandbox, index, &state))
            }
            Undo::OverlayLinks(network) => {
                // Held by this process, too.
                kernel.leave_overlay_links();
                release_overlay(&kernel.host, &network)
            }
            Undo::Published(owner) => kernel.nft().and_then(|nft| published::take_back(nft, &owner)),
            Undo::FastPath(owner) => kernel.nft().and_then(|nft| fast_path::delete_own(nft, &owner)),
            Undo::Firewall(owner) => kernel.nft().and_then(|nft| firewall::delete_own(nft, &owner)),
            Undo::PortChains(chains) => Ports::delete(&chains),
            Undo::Record(by, owner) => kernel.records().and_then(|records| records.remove_own(by, &owner)),
            Undo::LinkSettings(index, before) => {
                kernel.netlink(Place::Sandbox).and_then(|sandbox| before.set(sandbox, index))
            }
            Undo::Parameters(before) => {
                kernel.within(Place::Sandbox, || set_back(&before)).and_then(|done| done)
            }
            Undo::Rules(owner, addresses) => {
                kernel.nft().and_then(|nft| rules::delete_own(nft, &owner, &addresses))
            }
        };
    }
}

fn found(netlink: &Netlink, name: &str) -> Result<Option<u32>> {
    Ok(netlink.link_by_name(name)?.map(|link| link.index))
}

fn delete(netlink: &Netlink, name: &str, may: impl FnOnce(u32) -> bool) -> Result<()> {
    match netlink.link_by_name(name)? {
        Some(link) if may(link.index) => netlink.delete_link(link.index),
        _ => Ok(()),
    }
}

/// Whether a shared link has no users: no other process works on one, and it has no ports.
fn unused(kernel: &Kernel, index: u32) -> bool {
    kernel.alone()
        && kernel.host.links().is_ok_and(|links| links.iter().all(|link| link.master != Some(index)))
}
