//! Whether the owner of an element is alive. Dead is an attachment that is gone, not one whose address or port somebody
//! else has: two networks may have one subnet.

use std::cell::OnceCell;
use std::collections::HashSet;

use netlink::Netlink;
use sys::Result;

use crate::Owner;
use crate::intent::{By, Records};

/// What is known of attachments. The kernel is asked once, and only when it matters.
#[derive(Default)]
pub(super) struct Attachments {
    labels: OnceCell<HashSet<String>>,
}

impl Attachments {
    /// Whether the attachment is alive, by the label of its veth on the host, or else by the namespace that its record
    /// names; `None` when neither is there to tell.
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
        let of = |by| records.read(by, &owner).ok().flatten().filter(|record| record.owner == owner);
        let netns = of(By::Portmap).and_then(|record| record.netns);
        // One on a bridge whose veth is gone is gone itself.
        Ok(netns.map(|netns| netns.is_there()).or_else(|| of(By::Bridge).map(|_| false)))
    }
}
