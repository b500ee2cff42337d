//! Links of the host that we created and attachments share: marked as ours from the start, with
//! users counted by the kernel, and deleted with the last attachment. These are parents
//! ([`super::OnDemand`]) and shims ([`super::Shim`]).
//!
//! Usage is not recorded anywhere, so that no record can be lost or wrong: the kernel knows whether
//! links are on a parent, and the host's routes through a shim carry their owners' tags. So a
//! container that died without a DEL no longer counts, and after a kill at any point, the next DEL
//! or GC of any attachment cleans up. Creating a shared link and starting to use it is one step
//! under a lock, checking and deleting is another.

use std::fs::File;
use std::path::Path;

use netlink::{Link, Netlink, Route};
use sys::{Result, file};

use super::on_demand::{INTERNAL_ALIAS, INTERNAL_LETTER, VLAN_ALIAS};
use super::{host_routes, shim};
use crate::Owner;
use crate::owner::fnv1a;

/// Our group of links (IFLA_GROUP): "moor". A link is created in its group, and gets an alias only
/// afterwards.
pub(super) const GROUP: u32 = 0x6d6f_6f72;

/// The lock file: held while the kernel creates or deletes a link.
const LOCK: &str = "/run/moor/shared-links.lock";

/// Whether we created that link, to be shared by attachments. The group alone does not prove it,
/// since anybody may use that number: the link also has our alias and name. A link without an alias
/// comes from an ADD that was killed before it could set one, and is not up yet.
pub fn is_ours(link: &Link) -> bool {
    let labelled = |alias: &str| match &link.alias {
        Some(have) => have.starts_with(alias),
        None => !link.up(),
    };
    link.group == GROUP
        && match link.kind.as_deref() {
            Some("vlan") => labelled(VLAN_ALIAS) && (link.alias.is_some() || is_named_by_its_id(link)),
            Some("dummy") => labelled(INTERNAL_ALIAS) && is_shared_name(&link.name, INTERNAL_LETTER),
            Some("macvlan" | "ipvlan") => labelled(shim::ALIAS) && is_shared_name(&link.name, shim::LETTER),
            _ => false,
        }
}

/// A VLAN's name is its parent's name and its id, or chosen by the user.
fn is_named_by_its_id(link: &Link) -> bool {
    link.vlan.as_ref().is_some_and(|vlan| link.name.ends_with(&format!(".{}", vlan.id)))
}

/// Whether a link is ours, and is a shim.
pub(super) fn is_shim(link: &Link) -> bool {
    is_ours(link) && shim::is_one(link)
}

/// Whether shared links of ours may exist: whether any was created since the boot, as far as is
/// recorded.
pub fn made_any() -> bool {
    Path::new(LOCK).exists()
}

/// A link name of 15 bytes: `moor`, a letter for its use, and a hash of its purpose.
pub fn shared_name(letter: char, what: &str) -> String {
    format!("moor{letter}{:010x}", fnv1a(what.bytes()) & 0xff_ffff_ffff)
}

/// Whether a name has the form of [`shared_name`].
fn is_shared_name(name: &str, letter: char) -> bool {
    let hash = name.strip_prefix("moor").and_then(|rest| rest.strip_prefix(letter));
    hash.is_some_and(|hash| hash.len() == 10 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Waits, with a limit, until nobody creates or deletes shared links; nobody will before this is
/// dropped.
pub(super) fn lock() -> Result<File> {
    file::make_private_dir(Path::new(file::RUN_DIR), 1)?;
    file::lock(Path::new(LOCK), 0o600)
}

/// DEL, after the attachment's own link is gone: deletes the host's routes to it, and links that
/// only it used.
///
/// # Errors
/// The kernel could not be asked, or refused. As much as possible is deleted.
pub fn release(host: &Netlink, owner: &Owner) -> Result<()> {
    let tag = owner.tag();
    sweep(host, |_, of| of == tag)
}

/// GC: deletes the host's routes to all attachments of the network except these, and unused links.
///
/// # Errors
/// As for [`release`].
pub fn release_but(host: &Netlink, network: &str, valid: &[Owner]) -> Result<()> {
    let alias = shim::alias(network);
    let tags: Vec<u32> = valid.iter().map(Owner::tag).collect();
    sweep(host, |shim, of| shim.alias.as_deref() == Some(&alias) && !tags.contains(&of))
}

/// Deletes the host's routes for which `is_gone` holds, given the shim and the owner's tag; then
/// the shims without routes; then the parents without links on them.
pub(super) fn sweep(host: &Netlink, is_gone: impl Fn(&Link, u32) -> bool) -> Result<()> {
    if !host.links()?.iter().any(is_ours) {
        return Ok(());
    }
    let _lock = lock()?;
    let (shims, mut parents): (Vec<Link>, Vec<Link>) =
        host.links()?.into_iter().filter(is_ours).partition(shim::is_one);
    let mut done = Ok(());
    for shim in shims {
        done = done.and(shim::sweep(host, &shim, |tag| is_gone(&shim, tag)));
    }
    // A VLAN of a VLAN was created after it.
    parents.sort_by_key(|parent| std::cmp::Reverse(parent.index));
    for parent in parents {
        done = done.and(delete_unused(host, &parent));
    }
    done
}

fn delete_unused(host: &Netlink, parent: &Link) -> Result<()> {
    let index = parent.index;
    let on_it = |link: &Link| link.peer_index == Some(index) && link.peer_netns_id.is_none();
    if parent.master.is_none() && (host.is_built_upon(index)? || host.links()?.iter().any(on_it)) {
        return Ok(());
    }
    let use_of_it = if parent.master.is_some() {
        Some("is a port of another link")
    } else if host.addresses(Some(index))?.iter().any(|address| address.scope != Route::SCOPE_LINK) {
        Some("has an address")
    } else if host.has_permanent_neighbours(index)? {
        Some("has a permanent neighbour")
    } else {
        others_use(host, parent)?
    };
    delete_unless(use_of_it, host, parent)
}

/// How others use a link of ours as a link of the host: routes and traffic control.
pub(super) fn others_use(host: &Netlink, link: &Link) -> Result<Option<&'static str>> {
    let own = [Route::BY_KERNEL, host_routes::PROTOCOL];
    if host.routes(Some(link.index), None)?.iter().any(|route| !own.contains(&route.protocol)) {
        return Ok(Some("has a route that is not ours"));
    }
    Ok(host.has_qdisc(link.index)?.then_some("has a queueing discipline"))
}

/// Deletes a link that no container needs any more, or reports on standard error why it stays.
pub(super) fn delete_unless(use_of_it: Option<&str>, host: &Netlink, link: &Link) -> Result<()> {
    match use_of_it {
        None => delete(host, link.index),
        Some(why) => {
            eprintln!("link {} stays, though no container needs it any more: it {why}", link.name);
            Ok(())
        }
    }
}

fn delete(host: &Netlink, index: u32) -> Result<()> {
    match host.delete_link(index) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::shared_name;

    #[test]
    fn names_fit_and_stay() {
        let name = shared_name('d', "net");
        // In use on running nodes.
        assert_eq!((name.as_str(), name.len()), ("moord192571b218", 15));
        assert_ne!(name, shared_name('d', "net2"));
    }
}
