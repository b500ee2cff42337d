//! Whether the owner of an element is alive. An attachment is dead if it is gone, but not merely
//! because another attachment has its address or port: two networks may have the same subnet.

use std::cell::OnceCell;
use std::collections::HashSet;

use netlink::Netlink;
use nft::{Element, Set};
use sys::Result;

use super::published::container;
use super::restore::owner;
use crate::intent::{By, Records};
use crate::{Conflict, Owner};

/// What is known about attachments. The kernel is asked at most once, when the answer is needed.
#[derive(Default)]
pub(super) struct Attachments {
    labels: OnceCell<HashSet<String>>,
}

impl Attachments {
    /// Whether the attachment is alive: a link of the host has its label, or the namespace in its
    /// record may exist. `None` if it has neither a link nor a record.
    pub(super) fn is_alive(&self, label: &str) -> Result<Option<bool>> {
        let labels = match self.labels.get() {
            Some(labels) => labels,
            None => {
                let links = Netlink::open()?.links()?;
                self.labels.get_or_init(|| links.into_iter().filter_map(|link| link.alias).collect())
            }
        };
        if labels.contains(label) {
            return Ok(Some(true));
        }
        let Some(owner) = Owner::of_label(label) else { return Ok(None) };
        let Some(records) = Records::open_if_any()? else { return Ok(None) };
        // By their heads: a record that this release cannot read may be of a living attachment.
        let of = |by| records.head(by, &owner).filter(|head| head.owner == owner);
        let netns = of(By::Portmap).and_then(|head| head.netns);
        // An attachment to a bridge is gone if its veth is gone.
        Ok(netns.map(|netns| !netns.is_gone()).or_else(|| of(By::Bridge).map(|_| false)))
    }
}

/// Requires that another attachment's element can be replaced by one of `label`: its container is
/// the same, or gone.
pub(super) fn ensure_dead(label: &str, set: &Set<'_>, element: &Element) -> Result<()> {
    match owner(element) {
        Some(owner)
            if container(owner) != container(label)
                && Attachments::default().is_alive(owner)? == Some(true) =>
        {
            let owner = owner.to_owned();
            Err(Conflict::AddressInUse { address: element.key.show(set.key), owner }.into())
        }
        _ => Ok(()),
    }
}
