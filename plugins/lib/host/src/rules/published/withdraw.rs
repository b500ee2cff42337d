//! Taking back what an attachment published, and only that.

use std::cell::OnceCell;
use std::collections::HashSet;

use super::elements::{self, Found, attachment};
use super::guard;
use super::layout::{PUBLISHERS, V4, V6, chains, owned};
use super::localnet::Lowered;
use super::{Container, Mapping, flows, localnet, reference, retired};
use crate::intent::{self, By};
use crate::nft::{Batch, Chain, Element, Nft, Set};
use crate::rules::{TABLE, retire};
use crate::{Owner, Result};

/// With more elements than this, everybody's are listed instead of each being looked up.
pub(super) const LOOK_UPS: usize = 1024;

/// What may have been published: it saves a search through everybody's ports when it is right, and does no harm when
/// it is wrong.
#[derive(Clone, Debug, Default)]
pub struct Hint {
    /// By containers with an IPv4 address.
    pub v4: Vec<Mapping>,
    /// By containers with an IPv6 address.
    pub v6: Vec<Mapping>,
}

/// What is to be known of what was taken back.
#[derive(Debug)]
pub struct Withdrawn {
    /// How many flows were forgotten.
    pub flows: Result<usize>,
    /// Chains of iptables that had the ports: they are gone, but for those in tables of the older kind
    /// ([`crate::iptables::withdraw_from_old_tables`]).
    pub chains: Vec<String>,
}

impl Withdrawn {
    fn of(nft: &Nft, gone: &Found) -> Self {
        Self { flows: flows::forget_after(nft, gone, false), chains: chains_of(gone) }
    }
}

pub(super) fn chains_of(gone: &Found) -> Vec<String> {
    let publishers = gone.iter().filter(|(set, _)| set.name == PUBLISHERS.name);
    let chains = publishers.filter_map(|(_, publisher)| elements::chain(publisher.comment.as_deref()?));
    chains.map(str::to_owned).collect()
}

impl Hint {
    /// What is on record.
    fn of(containers: &[Container]) -> Self {
        let of = |v4| {
            let of_family = containers.iter().filter(|container| container.address.is_ipv4() == v4);
            of_family.flat_map(|container| container.mappings.iter().copied()).collect()
        };
        Self { v4: of(true), v6: of(false) }
    }
}

/// Takes back what the attachment published, under whatever name its network had then; with the last one of all goes
/// everything else. Flows of UDP to its ports are forgotten.
///
/// The error is of the rules; that of the flows is in what is given back: the ports are free then.
///
/// # Errors
/// The kernel refused.
pub fn withdraw(nft: &Nft, owner: &Owner, hint: Option<&Hint>) -> Result<Withdrawn> {
    let label = owner.label();
    let attachment = attachment(&label);
    let key = Element::new(elements::publisher_key(attachment));
    let find = |nft: &Nft| {
        let publisher = nft.element(&PUBLISHERS, &key)?;
        Ok(publisher.filter(|found| attachment_of(found) == Some(attachment)).into_iter().collect())
    };
    // One that cannot be read tells nothing, and goes all the same.
    let recorded = OnceCell::new();
    let gone = intent::withdraw(
        |records| {
            if let Ok(Some(record)) = records.read(By::Portmap, owner) {
                let _ = recorded.set(record);
            }
            records.remove(By::Portmap, owner)
        },
        || {
            let known = recorded.get().map(|record| Hint::of(&record.containers));
            let gone = transact(nft, find, hint.or(known.as_ref()))?;
            if let Some(record) = recorded.get() {
                localnet::lower_unguarded(nft, &record.localnet)?;
            }
            Ok(gone)
        },
    )?;
    Ok(Withdrawn::of(nft, &gone))
}

/// Takes back what was published by every attachment of the network but these.
///
/// # Errors
/// As [`withdraw`].
pub fn withdraw_all_but(nft: &Nft, network: &str, valid: &[Owner]) -> Result<Withdrawn> {
    let prefix = Owner::label_prefix(network);
    let labels: HashSet<String> = valid.iter().map(Owner::label).collect();
    let stale = |publisher: &Element| {
        let label = publisher.comment.as_deref().and_then(|comment| comment.split_once(' '));
        label.is_some_and(|(label, _)| label.starts_with(&prefix) && !labels.contains(label))
    };
    let find = |nft: &Nft| {
        let mut publishers = nft.elements(&PUBLISHERS)?;
        publishers.retain(stale);
        Ok(publishers)
    };
    let gone = intent::withdraw(
        |records| records.remove_all_but(By::Portmap, network, valid),
        || transact(nft, find, None),
    )?;
    Ok(Withdrawn::of(nft, &gone))
}

fn transact(nft: &Nft, find: impl Fn(&Nft) -> Result<Vec<Element>>, hint: Option<&Hint>) -> Result<Found> {
    let mut lowered = Lowered::default();
    let done = nft.transact(|nft, batch| {
        lowered.raise();
        let publishers = find(nft)?;
        if publishers.is_empty() {
            return Ok(Vec::new());
        }
        let mut gone = Found::new();
        for publisher in &publishers {
            gone.extend(elements_of(nft, publisher, hint)?);
        }
        reference::delete_chains(nft, batch, &chains_of(&gone))?;
        if nft.elements(&PUBLISHERS)?.len() == publishers.len() {
            lowered.lower(nft)?;
            retire_all(nft, batch, &guard::there(nft, &gone)?)?;
        } else {
            let guards = guard::there(nft, &gone)?;
            elements::delete(batch, &gone);
            guard::delete(batch, guards.iter());
        }
        Ok(gone)
    });
    if done.is_err() {
        lowered.raise();
    }
    done
}

fn retire_all(nft: &Nft, batch: &mut Batch, guards: &[String]) -> Result<()> {
    // Base chains first: they lead to the others.
    let mut chains: Vec<Chain<'_>> = chains().iter().rev().map(|filled| filled.chain).collect();
    chains.extend(guards.iter().map(|name| guard::chain(name)));
    retire(nft, batch, &TABLE, &chains, &retired::sets_there(nft)?)
}

/// Everything of a publisher, itself last. Where what it hints at is not all that it counts, everybody's is searched.
pub(super) fn elements_of(nft: &Nft, publisher: &Element, hint: Option<&Hint>) -> Result<Found> {
    let Some(comment) = publisher.comment.as_deref() else { return Ok(Found::new()) };
    let owner = attachment(comment);
    let is_ours = |element: &Element| attachment_of(element) == Some(owner);
    let mut found = Found::new();
    let of_owner = |set: Set<'static>| -> Result<Found> {
        let elements = nft.elements(&set)?.into_iter().filter(is_ours);
        Ok(elements.map(|element| (set, element)).collect())
    };
    if elements::chain(comment).is_some() {
        for set in [V4.elsewhere, V6.elsewhere] {
            found.append(&mut of_owner(set)?);
        }
        found.push((PUBLISHERS, publisher.clone()));
        return Ok(found);
    }
    let few = elements::count(comment).filter(|count| *count <= LOOK_UPS);
    if let (Some(hint), Some(count)) = (hint, few) {
        let mut keys = elements::beside_ports(publisher);
        keys.extend(elements::keys(true, &hint.v4));
        keys.extend(elements::keys(false, &hint.v6));
        for (set, key) in keys {
            let element = nft.element(&set, &key)?;
            let same = |found: &Element| found.key == key.key && found.end == key.end && is_ours(found);
            found.extend(element.filter(same).map(|element| (set, element)));
        }
        if found.len() != count {
            found.clear();
        }
    }
    if found.is_empty() {
        for set in owned().filter(|set| set.name != PUBLISHERS.name) {
            found.append(&mut of_owner(set)?);
        }
    } else if elements::is_conditional(comment) {
        for set in [V4.guarded, V4.guarded_at, V6.guarded, V6.guarded_at] {
            found.append(&mut of_owner(set)?);
        }
    }
    found.push((PUBLISHERS, publisher.clone()));
    Ok(found)
}

fn attachment_of(element: &Element) -> Option<&str> {
    element.comment.as_deref().map(attachment)
}
