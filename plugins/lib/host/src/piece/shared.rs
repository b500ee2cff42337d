//! Links of the host that attachments share and that we made: known as ours from birth on, counted by the kernel, and
//! taken away with the last attachment. There are parents ([`super::OnDemand`]) and shims ([`super::Shim`]).
//!
//! What is in use is not written down anywhere, so that no record can be lost or be wrong: whether links are on a
//! parent the kernel says, and the host's routes by a shim carry their owners' tags. So a container that died without
//! a DEL counts no more, and whatever was killed at whatever instant, the next DEL or GC of anybody puts it right.
//! Making a shared link and beginning to use it is one step under a lock, looking and deleting is another.

use std::fs::File;
use std::path::Path;

use super::shim;
use crate::netlink::{Link, Netlink};
use crate::owner::fnv1a;
use crate::{Owner, Result, file};

/// The group of links (IFLA_GROUP) that is ours: "moor". A link is born in its group, and only then gets an alias.
pub(super) const GROUP: u32 = 0x6d6f_6f72;

/// The lock's file: it is held for as long as making or deleting takes the kernel.
const LOCK: &str = "/run/moor/shared-links.lock";

/// RT_SCOPE_LINK (linux/rtnetlink.h).
const SCOPE_LINK: u8 = 253;

/// Whether we made that link, to be shared by attachments.
pub fn is_ours(link: &Link) -> bool {
    link.group == GROUP
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
    if parent.master.is_some() || host.is_built_upon(index)? {
        return Ok(());
    }
    // Somebody may have come to use it as what it is, a link of the host.
    let on_it = |link: &Link| link.peer_index == Some(index) && link.peer_netns_id.is_none();
    if host.links()?.iter().any(on_it)
        || host.addresses(Some(index))?.iter().any(|address| address.scope != SCOPE_LINK)
    {
        return Ok(());
    }
    delete(host, index)
}

pub(super) fn delete(host: &Netlink, index: u32) -> Result<()> {
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
