//! Containers behind the host's firewall: what they may send, and networks that are isolated from
//! each other.
//!
//! ```text
//! set firewall4       { type ipv4_addr; elements = { 10.1.2.3 comment "moor/net/eth0/c1" } }
//! set isolated-links  { type ifname; elements = { "br0" comment "moor/net" } }
//! set isolated-within { type ifname . ifname; elements = { "br0" . "br0" comment "moor/net" } }
//! set isolated-by     { type ifname . mark;
//!                       elements = { "br0" . 0x1a2b3c4d comment "moor/net/eth0/c1" } }
//! set isolated-ports  { type ifname; elements = { "veth01234567" comment "moor/net/eth0/c1" } }
//! set behind          { type ifname . mark;
//!                       elements = { "br0" . 0x1a2b3c4d comment "moor/net/eth0/c1" } }
//! chain firewall      { type filter hook forward priority filter;
//!                       jump admin
//!                       ct state established,related accept
//!                       iifname vmap @policy-egress; oifname vmap @policy-ingress
//!                       iifname @isolated-links oifname @isolated-links
//!                           iifname . oifname != @isolated-within ct status ! dnat drop
//!                       ip saddr @firewall4 accept; ip6 saddr @firewall6 accept }
//! ```
//!
//! A packet costs the same for any number of networks. An isolated link is in the sets as long as
//! an element of `isolated-by` names it, one for each attachment. Whether neighbours on a bridge
//! reach each other by frames is a setting of their ports; `isolated-within` is for packets that
//! the host routes back, or that br_netfilter shows it.
//!
//! The chain `admin` is the administrator's: it is created empty, and never changed. An accept in
//! any of these chains is none in another table: see [`crate::Ways`].

mod layout;
mod permit;
mod policy;
mod ports;
mod withdraw;

use nft::{Batch, Nft};
use sys::Result;

use super::alive::ensure_dead;
use super::{Group, Restored, TABLE, ensure, restore};
use crate::intent::Records;
use crate::{Attached, Conflict, Drift, Isolation, Owner};
use layout::{ACCEPTED4, ACCEPTED6, COMMENTED, LINKS, WITHIN, chain, elements, ensure_admin, unwanted};
use policy::Policed;

pub(super) use layout::SETS;
pub use ports::{PortUse, port_use};
pub(crate) use ports::{forget_port, isolate};
pub(crate) use withdraw::delete_own;
pub use withdraw::{withdraw, withdraw_all_but};

impl Attached {
    /// Adds the elements, and deletes those of an earlier policy of the network. Commits nothing if
    /// everything is there.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&self, owner: &Owner, nft: &Nft) -> Result<()> {
        nft.transact(|nft, batch| {
            let wanted = elements(self, owner);
            if !wanted.is_empty() {
                ensure_admin(nft, batch)?;
                ensure(nft, batch, &TABLE, &COMMENTED, &[chain()])?;
            }
            for (set, element) in wanted {
                match nft.element(&set, &element)? {
                    Some(there) if there.comment == element.comment => continue,
                    Some(_) if is_shared(set.name) => continue,
                    Some(there) => {
                        // Two networks may have one subnet: the address is accepted once.
                        if is_accepted(set.name) && is_alive(&owner.label(), &set, &there)? {
                            continue;
                        }
                        batch.del_elements(&set, &[there]);
                    }
                    None => {}
                }
                batch.create_elements(&set, &[element]);
            }
            policy::add(self, owner, nft, batch)?;
            self.delete_unwanted(owner, nft, batch)
        })
    }

    fn delete_unwanted(&self, owner: &Owner, nft: &Nft, batch: &mut Batch) -> Result<()> {
        for (set, element) in unwanted(self, owner) {
            let there = nft.element(&set, &element)?;
            // A bridge has one policy, that of the last ADD; but an open network does not end the
            // isolation of another one on its bridge.
            let goes = |comment: &Option<String>| {
                self.isolation == Isolation::Isolated || *comment == element.comment
            };
            if let Some(there) = there.filter(|there| goes(&there.comment)) {
                batch.del_elements(&set, &[there]);
            }
        }
        Ok(())
    }

    /// Differences between the expected and the actual state, without ports and ways. A later ADD
    /// decides what the policy of its link is, also for the containers that were there before.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, owner: &Owner, nft: &Nft) -> Result<Vec<Drift>> {
        let wanted = elements(self, owner);
        let mut drifts = match wanted.is_empty() {
            true => Vec::new(),
            false => chain().drifts(nft)?,
        };
        let mut of_link = Vec::new();
        for (set, element) in wanted {
            let what = format!("element {} of {set}", element.show(&set));
            let is_shared = is_shared(set.name);
            match nft.element(&set, &element)? {
                None if is_shared => of_link.push(Drift::new(what, "present", "absent")),
                None => drifts.push(Drift::new(what, "present", "absent")),
                Some(there) if is_shared || is_accepted(set.name) || there.comment == element.comment => {}
                Some(there) => {
                    let actual = there.comment.unwrap_or_else(|| "nobody's".into());
                    drifts.push(Drift::new(what, owner.label(), actual));
                }
            }
        }
        for (set, element) in unwanted(self, owner) {
            let there = nft.element(&set, &element)?;
            if there.is_some_and(|there| there.comment == element.comment) {
                let what = format!("element {} of {set}", element.show(&set));
                of_link.push(Drift::new(what, "absent", "present"));
            }
        }
        of_link.append(&mut policy::drifts(self, owner, nft)?);
        if !of_link.is_empty() && !self.is_superseded(owner)? {
            drifts.append(&mut of_link);
        }
        Ok(drifts)
    }

    /// Whether another attachment of this link, or of this network, has another policy on record.
    fn is_superseded(&self, owner: &Owner) -> Result<bool> {
        let Some(records) = Records::open_if_any()? else { return Ok(false) };
        let (all, _) = records.all()?;
        let mut attached = all.into_iter().filter_map(|record| Some((record.firewall?, record.owner)));
        Ok(attached.any(|(other, its)| {
            other.link == self.link && other.isolation != self.isolation
                || (other.link == self.link || its.network == owner.network) && other.policy != self.policy
        }))
    }

    /// Adds to `batch` what is missing of all of these, the latest first. Call it inside
    /// [`Nft::transact`].
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn restore(
        all: &[(&Self, &Owner)],
        nft: &Nft,
        batch: &mut Batch,
        restored: &mut Restored,
    ) -> Result<()> {
        let mut wanted = Vec::new();
        let mut links = Vec::new();
        for (attached, owner) in all {
            let is_latest = !links.contains(&attached.link.as_ref());
            links.push(attached.link.as_ref());
            // The latest ADD decides what a link's policy is.
            let all = elements(attached, owner).into_iter();
            wanted.extend(all.filter(|(set, _)| is_latest || !is_shared(set.name)));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        ensure_admin(nft, batch)?;
        let policies = Policed::of_all(all);
        wanted.extend(policy::elements(&policies, all));
        let sets: Vec<_> = COMMENTED.into_iter().chain(policies.iter().flat_map(Policed::sets)).collect();
        let chains: Vec<_> = policies.iter().flat_map(Policed::chains).chain([chain()]).collect();
        restore(nft, batch, Group { table: TABLE, sets: &sets, chains: &chains, elements: wanted }, restored)
    }
}

/// Whether all attachments of a network share the elements of this set.
fn is_shared(set: &str) -> bool {
    set == LINKS.name || set == WITHIN.name
}

fn is_accepted(set: &str) -> bool {
    set == ACCEPTED4.name || set == ACCEPTED6.name
}

/// Whether an element is that of another container that is alive.
fn is_alive(label: &str, set: &nft::Set<'_>, element: &nft::Element) -> Result<bool> {
    match ensure_dead(label, set, element) {
        Err(error) if matches!(error.reason(), Some(Conflict::AddressInUse { .. })) => Ok(true),
        done => done.map(|()| false),
    }
}
