//! Links of the host that attachments share and that we made: known as ours from birth on, counted by the kernel, and
//! taken away with the last attachment. There are parents ([`super::OnDemand`]) and shims ([`super::Shim`]).
//!
//! What is in use is not written down anywhere, so that no record can be lost or be wrong: whether links are on a
//! parent the kernel says, and the host's routes by a shim carry their owners' tags. So a container that died without
//! a DEL counts no more, and whatever was killed at whatever instant, the next DEL or GC of anybody puts it right.
//! Making a shared link and beginning to use it is one step under a lock, looking and deleting is another.

use std::fs::File;
use std::path::Path;

use netlink::{Link, Netlink, Route};
use sys::{Result, file};

use super::on_demand::{INTERNAL_ALIAS, INTERNAL_LETTER, VLAN_ALIAS};
use super::{host_routes, shim};
use crate::Owner;
use crate::owner::fnv1a;

/// The group of links (IFLA_GROUP) that is ours: "moor". A link is born in its group, and only then gets an alias.
pub(super) const GROUP: u32 = 0x6d6f_6f72;

/// The lock's file: it is held for as long as making or deleting takes the kernel.
const LOCK: &str = "/run/moor/shared-links.lock";

/// Whether we made that link, to be shared by attachments. The group alone does not show it, since anybody may use that
/// number: the link also has the alias and the name that we give. One without an alias is of an ADD that was killed before
/// it could give it one, and is not up yet.
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

/// A VLAN's name is its parent's and its id, or what people call it.
fn is_named_by_its_id(link: &Link) -> bool {
    link.vlan.is_some_and(|vlan| link.name.ends_with(&format!(".{}", vlan.id)))
}

/// Whether a link is ours, and the host's own beside containers'.
pub(super) fn is_shim(link: &Link) -> bool {
    is_ours(link) && shim::is_one(link)
}

/// Whether there may be shared links that we made: whether, as far as is remembered, any was made since the machine
/// has started.
pub fn made_any() -> bool {
    Path::new(LOCK).exists()
}

/// A link name of 15 bytes: `moor`, a letter that tells the use, and a hash of what it is for.
pub fn shared_name(letter: char, what: &str) -> String {
    format!("moor{letter}{:010x}", fnv1a(what.bytes()) & 0xff_ffff_ffff)
}

/// Whether [`shared_name`] may have made that name.
fn is_shared_name(name: &str, letter: char) -> bool {
    let hash = name.strip_prefix("moor").and_then(|rest| rest.strip_prefix(letter));
    hash.is_some_and(|hash| hash.len() == 10 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Waits, with a bound, until nobody makes or deletes shared links; nobody will before this is dropped.
pub(super) fn lock() -> Result<File> {
    file::make_private_dir(Path::new(file::RUN_DIR), 1)?;
    file::lock(Path::new(LOCK), 0o600)
}

/// DEL, when the attachment's own link is gone: the host's routes to it, and what was only there for it.
///
/// # Errors
/// The kernel could not be asked, or refused. As much as can be deleted is.
pub fn release(host: &Netlink, owner: &Owner) -> Result<()> {
    let tag = owner.tag();
    sweep(host, |_, of| of == tag)
}

/// GC: the host's routes to all attachments of the network but these, and what nobody uses.
///
/// # Errors
/// As for [`release`].
pub fn release_but(host: &Netlink, network: &str, valid: &[Owner]) -> Result<()> {
    let alias = shim::alias(network);
    let tags: Vec<u32> = valid.iter().map(Owner::tag).collect();
    sweep(host, |shim, of| shim.alias.as_deref() == Some(&alias) && !tags.contains(&of))
}

/// Deletes the host's routes of which `is_gone` says so, knowing the shim and the owner's tag; then the shims without
/// routes; then the parents with nothing on them.
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
    // A VLAN of a VLAN was made after it.
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

/// What somebody has come to use a link of ours for as what it is, a link of the host: routes and traffic control.
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
