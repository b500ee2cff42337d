//! Rules of overlay networks: who may send frames into one (the guard), and that networks do not
//! reach each other by this host (isolation). Both come with the first overlay network of a host
//! and go with its last one, in one transaction.
//!
//! ```text
//! set overlay-ports    { type inet_service; elements = { 4789 } }
//! set overlay-members4 { type ipv4_addr; elements = { 192.0.2.11 } }           (and 6)
//! chain overlay-members { ip saddr @overlay-members4 notrack accept; …; drop }
//! chain overlay-guard { type filter hook prerouting priority -310;
//!     meta l4proto udp udp dport @overlay-ports @th,96,8 0x6d goto overlay-members }
//! chain overlay-untracked { type filter hook output priority -310;
//!     meta l4proto udp udp dport @overlay-ports @th,96,8 0x6d notrack }
//!
//! set overlay-bridges    { type ifname; elements = { "mo0123456789" comment "moor/net" } }
//! set overlay-within     { type ifname . ifname; elements = { "mo…" . "mo…" } }
//! set overlay-internal   { type ifname }
//! set overlay-addresses4 { type ipv4_addr; elements = { 10.9.0.1, 10.9.0.65 } }  (and 6)
//! set overlay-at4        { type ifname . ipv4_addr }                             (and 6)
//! chain overlay-forward { type filter hook forward priority -5; … }
//! chain overlay-input   { type filter hook input priority -5;
//!     iifname @overlay-bridges ip daddr @overlay-addresses4
//!         iifname . ip daddr != @overlay-at4 drop }
//! ```
//!
//! The ids of our networks begin with byte 6d, which is 96 bits behind the begin of the UDP header.
//! VXLAN with another id is others'. Fragments are whole by then (priority -400), because these
//! rules look at connections, too; so none can hide its id in a second fragment. Packets of members
//! are not tracked, so no address translation of others touches them.

mod isolation;
mod layout;

use std::net::IpAddr;

use nft::{Batch, Element, Nft, Set, Value};
use sys::Result;

use super::{Group, Restored, TABLE, ensure, owned, restore, retire};
use crate::intent::Guard;
use crate::{Drift, OverlayNetwork};

pub(super) use layout::SETS;
use layout::{CHAINS, COMMENTED, MEMBERS4, MEMBERS6, PORTS, chains};

/// An overlay network with its label, `moor/<network>`.
#[derive(Clone, Copy, Debug)]
pub struct Overlaid<'a> {
    /// The network.
    pub network: &'a OverlayNetwork,
    /// Its label.
    pub label: &'a str,
}

impl Overlaid<'_> {
    /// Adds what is missing, and removes what an earlier state of the network left. A new guard
    /// has the members on record.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&self, nft: &Nft, guard: &Guard) -> Result<()> {
        nft.transact(|nft, batch| {
            if ensure(nft, batch, &TABLE, &COMMENTED, &chains())? {
                fill(nft, batch, guard)?;
            }
            let mut wanted = isolation::elements(self.network, self.label);
            wanted.push((PORTS, Element::new(Value::new().port(self.network.port))));
            for set in isolation::SETS.iter().chain([&PORTS]) {
                let have = nft.elements(set)?;
                let of_set = || wanted.iter().filter(|(of, _)| of.name == set.name).map(|(_, one)| one);
                let stale = |have: &&Element| {
                    have.comment.as_deref() == Some(self.label) && of_set().all(|one| one.key != have.key)
                };
                let stale: Vec<Element> = have.iter().filter(stale).cloned().collect();
                batch.del_elements(set, &stale);
                let new: Vec<Element> =
                    of_set().filter(|one| have.iter().all(|have| have.key != one.key)).cloned().collect();
                batch.create_elements(set, &new);
            }
            Ok(())
        })
    }

    /// Adds to `batch` what is missing of all of these. Call it inside [`Nft::transact`].
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn restore(
        all: &[Self],
        guard: &Guard,
        nft: &Nft,
        batch: &mut Batch,
        restored: &mut Restored,
    ) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        let mut elements = members(guard);
        for one in all {
            elements.extend(isolation::elements(one.network, one.label));
            elements.push((PORTS, Element::new(Value::new().port(one.network.port))));
        }
        // Several attachments name one network.
        let mut known = std::collections::HashSet::new();
        elements.retain(|(set, element)| known.insert((set.name, element.key)));
        let group = Group { table: TABLE, sets: &COMMENTED, chains: &chains(), elements };
        restore(nft, batch, group, restored)
    }

    /// Differences between the expected and the actual state.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, nft: &Nft) -> Result<Vec<Drift>> {
        let mut drifts = Vec::new();
        for chain in chains() {
            drifts.append(&mut chain.drifts(nft)?);
        }
        if drifts.iter().any(|drift| drift.actual == "absent") {
            return Ok(drifts);
        }
        let mut wanted = isolation::elements(self.network, self.label);
        wanted.push((PORTS, Element::new(Value::new().port(self.network.port))));
        for (set, element) in wanted {
            if nft.element(&set, &element)?.is_none() {
                drifts.push(Drift::new(
                    format!("element {} of {set}", element.show(&set)),
                    "present",
                    "absent",
                ));
            }
        }
        Ok(drifts)
    }
}

/// Deletes what a network has, by its label, and everything with the host's last network.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub(crate) fn delete(nft: &Nft, label: &str) -> Result<()> {
    // Most hosts have none.
    if nft.set_is(&layout::BRIDGES)?.is_none() {
        return Ok(());
    }
    nft.transact(|nft, batch| {
        let is_ours = |of: &str| Ok(of == label);
        let owned = owned(nft, &isolation::SETS, &is_ours)?;
        let others = nft.elements(&layout::BRIDGES)?.iter().any(|one| one.comment.as_deref() != Some(label));
        if others {
            for (set, ours) in owned.into_iter().flat_map(|owned| owned.elements) {
                batch.del_elements(&set, &ours);
            }
            return Ok(());
        }
        let mut there = Vec::new();
        for chain in CHAINS {
            there.extend(nft.chain(&chain)?.map(|_| chain));
        }
        retire(nft, batch, &TABLE, &there, &SETS)
    })
}

/// Makes the members of the guard these alone, in one transaction. `false`: there is no guard, as
/// the host has no overlay network.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub(crate) fn set_members(nft: &Nft, guard: &Guard) -> Result<bool> {
    if nft.set_is(&layout::BRIDGES)?.is_none() {
        return Ok(false);
    }
    nft.transact(|nft, batch| {
        if !ensure(nft, batch, &TABLE, &COMMENTED, &chains())? && nft.set_is(&layout::BRIDGES)?.is_none() {
            return Ok(false);
        }
        fill(nft, batch, guard)?;
        Ok(true)
    })
}

/// Adds to `batch` what makes the members these alone.
fn fill(nft: &Nft, batch: &mut Batch, guard: &Guard) -> Result<()> {
    let wanted = members(guard);
    for set in [MEMBERS4, MEMBERS6] {
        let have = nft.elements(&set)?;
        let of_set = || wanted.iter().filter(|(of, _)| of.name == set.name).map(|(_, one)| one);
        let stale: Vec<Element> =
            have.iter().filter(|have| of_set().all(|one| one.key != have.key)).cloned().collect();
        let new: Vec<Element> =
            of_set().filter(|one| have.iter().all(|have| have.key != one.key)).cloned().collect();
        batch.del_elements(&set, &stale);
        batch.create_elements(&set, &new);
    }
    Ok(())
}

fn members(guard: &Guard) -> Vec<(Set<'static>, Element)> {
    let of = |member: &IpAddr| if member.is_ipv4() { MEMBERS4 } else { MEMBERS6 };
    guard.members.iter().map(|member| (of(member), Element::new(Value::new().addr(*member)))).collect()
}
