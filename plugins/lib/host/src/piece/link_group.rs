//! Deletion of many links by one request, as a link group (IFLA_GROUP).
//!
//! To delete a link, the kernel waits for RCU grace periods; for a group it waits once. The number
//! of the group is drawn for one deletion, so that no two processes share it. Membership proves
//! nothing: a link joins only after it was found to be garbage, and the group is deleted only if
//! another listing shows no other link in it. What a killed process leaves in its group is garbage
//! as before, and nothing else uses the number.

use netlink::{Link, LinkChange, Netlink};
use sys::{Result, random};

/// The lowest of our groups, and the bits that are drawn: 2^29 numbers above those that
/// administrators use, and without the group of shared links.
const LOWEST: u32 = 0x2000_0000;
const DRAWN: u32 = LOWEST - 1;

/// The maximum number of links that one request deletes. Meanwhile, for some 50 ms, the kernel
/// changes no other link.
const AT_ONCE: usize = 64;

/// Deletes those of these links for which `is_garbage` holds, if there are several. Returns whether
/// it tried: then list the links again, since some may be left.
pub(super) fn delete(host: &Netlink, links: &[Link], is_garbage: impl Fn(&Link) -> bool) -> bool {
    let garbage: Vec<&Link> = links.iter().filter(|link| is_garbage(link)).collect();
    let Some(group) = unused(links).filter(|_| garbage.len() > 1) else { return false };
    for some in garbage.chunks(AT_ONCE) {
        if !matches!(delete_as(host, group, some, &is_garbage), Ok(true)) {
            for link in some {
                let _ = set_group(host, link.index, link.group);
            }
            break;
        }
    }
    true
}

/// Whether a group is one that a deletion drew: what a killed one left is in it.
pub(super) fn is_drawn(group: u32) -> bool {
    (LOWEST..=LOWEST | DRAWN).contains(&group)
}

/// A group that none of these links is in.
fn unused(links: &[Link]) -> Option<u32> {
    let drawn = u32::from_ne_bytes(random::bytes().ok()?);
    let group = LOWEST | drawn & DRAWN;
    links.iter().all(|link| link.group != group).then_some(group)
}

/// Puts links into the group and deletes it; returns `false`, and deletes nothing, if it has other
/// members too.
fn delete_as(
    host: &Netlink,
    group: u32,
    links: &[&Link],
    is_garbage: &impl Fn(&Link) -> bool,
) -> Result<bool> {
    links.iter().try_for_each(|link| unless_gone(set_group(host, link.index, group)))?;
    let joined = |member: &Link| links.iter().any(|link| link.index == member.index);
    let members = host.links()?.into_iter().filter(|link| link.group == group);
    if !members.into_iter().all(|member| joined(&member) && is_garbage(&member)) {
        return Ok(false);
    }
    unless_gone(host.delete_link_group(group))?;
    Ok(true)
}

fn set_group(host: &Netlink, index: u32, group: u32) -> Result<()> {
    host.set_link(index, &LinkChange { group: Some(group), ..LinkChange::default() })
}

fn unless_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared;
    use super::{is_drawn, unused};

    #[test]
    fn the_group_is_not_the_default_an_administrators_or_that_of_shared_links() {
        for _ in 0..1000 {
            let group = unused(&[]).unwrap();
            assert!(is_drawn(group) && group > 1 << 16, "{group}");
            assert!(!is_drawn(shared::GROUP) && !is_drawn(0));
        }
    }
}
