//! Withdraws what an attachment published, and nothing else.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use nft::{Batch, Chain, Element, Nft, Set, Value};
use sys::{IpFamily, Result};

use super::elements::{self, Found, attachment};
use super::layout::{PUBLISHERS, V4, V6, owned};
use super::localnet::Lowered;
use super::{Forgotten, flows, guard, localnet, reference, retired, shared};
use crate::intent::{self, By, Records};
use crate::ports::{Container, Mapping};
use crate::rules::restore::owner;
use crate::rules::{TABLE, fast_path, retire};
use crate::{Owner, Removal};

/// The maximum number of publishers that one transaction withdraws: it is prepared and committed in
/// a few milliseconds.
const AT_ONCE: usize = 128;

/// With more elements than this, all elements are listed instead of looked up one by one.
pub(super) const LOOK_UPS: usize = 1024;

/// The ports that were probably published. A correct hint saves a search through all ports; a wrong
/// one does no harm.
#[derive(Clone, Debug, Default)]
pub struct Hint {
    /// By containers with an IPv4 address.
    pub v4: Vec<Mapping>,
    /// By containers with an IPv6 address.
    pub v6: Vec<Mapping>,
}

/// The outcome of a withdrawal.
#[derive(Debug)]
pub struct Withdrawn {
    /// The outcome for the flows that it led.
    pub forgotten: Forgotten,
    /// Chains of iptables that had the ports. They are deleted, except from legacy tables
    /// ([`crate::iptables::withdraw_from_old_tables`]).
    pub chains: Vec<String>,
}

impl Withdrawn {
    fn of(nft: &Nft, gone: &Found) -> Self {
        let flows = flows::forget_after(nft, gone, false);
        Self { forgotten: Forgotten { flows }, chains: chains_of(gone) }
    }
}

pub(super) fn chains_of(gone: &Found) -> Vec<String> {
    let publishers = gone.iter().filter(|(set, _)| set.name == PUBLISHERS.name);
    let chains = publishers.filter_map(|(_, publisher)| elements::chain(publisher.comment.as_deref()?));
    chains.map(str::to_owned).collect()
}

impl Hint {
    /// The recorded ports.
    fn of(containers: &[Container]) -> Self {
        let of = |family| {
            let of_family = containers.iter().filter(|container| IpFamily::of(container.address) == family);
            of_family.flat_map(|container| container.mappings.iter().copied()).collect()
        };
        Self { v4: of(IpFamily::V4), v6: of(IpFamily::V6) }
    }
}

/// Withdraws what the attachment published, with its fast path, and what another network's
/// attachment of the same interface published if the removal takes that. Ports that other
/// attachments of the container publish too lead to them from then on. The last publisher takes
/// everything else with it. UDP flows to its ports are forgotten.
///
/// An error concerns the rules. The returned value has any error of the flows: the ports are free
/// then.
///
/// # Errors
/// The kernel refused.
pub fn withdraw(nft: &Nft, removal: &Removal, hint: Option<&Hint>) -> Result<Withdrawn> {
    let label = removal.owner().label();
    let attachment = attachment(&label);
    let key = Element::new(elements::publisher_key(attachment));
    let find = |nft: &Nft| {
        let found = nft.element(&PUBLISHERS, &key)?.filter(|found| attachment_of(found) == Some(attachment));
        match found {
            Some(found) if removal.takes(owner(&found).unwrap_or_default())? => Ok(vec![found]),
            _ => Ok(Vec::new()),
        }
    };
    // An unreadable record is ignored, and is deleted all the same.
    let recorded = OnceCell::new();
    let gone = intent::withdraw(
        |records| {
            records.take(By::FastPath, removal)?;
            if let Some(record) = records.take(By::Portmap, removal)? {
                let _ = recorded.set(record);
            }
            Ok(())
        },
        || {
            let known = recorded.get().map(|record| Hint::of(&record.containers));
            let elements = |publisher: &Element| elements_of(nft, publisher, hint.or(known.as_ref()));
            fast_path::delete(nft, &|label| removal.takes(label))?;
            let gone = transact(nft, find, elements)?;
            if let Some(record) = recorded.get() {
                localnet::lower_unguarded(nft, &record.localnet)?;
            }
            Ok(gone)
        },
    )?;
    Ok(Withdrawn::of(nft, &gone))
}

/// Withdraws what all attachments of the network except `valid` published. Uses several short
/// transactions, so that it succeeds despite the commits of other processes, and delays none of
/// them for long.
///
/// # Errors
/// As [`withdraw`].
pub fn withdraw_all_but(nft: &Nft, network: &str, valid: &[Owner]) -> Result<Withdrawn> {
    let prefix = Owner::label_prefix(network);
    let labels: HashSet<String> = valid.iter().map(Owner::label).collect();
    // First: from here on, no process makes them again.
    intent::remove_all_but(By::Portmap, network, &valid.iter().cloned().collect())?;
    let mut stale = nft.elements(&PUBLISHERS)?;
    stale.retain(|publisher| {
        owner(publisher).is_some_and(|label| label.starts_with(&prefix) && !labels.contains(label))
    });
    let mut all_gone = Found::new();
    if stale.is_empty() {
        return Ok(Withdrawn::of(nft, &all_gone));
    }
    let of_owners = by_owner(nft, &stale)?;
    for some in stale.chunks(AT_ONCE) {
        // A publisher that has changed since then belongs to another ADD.
        let find = |nft: &Nft| {
            let mut still = Vec::new();
            for publisher in some {
                still.extend(nft.element(&PUBLISHERS, publisher)?.filter(|found| found == publisher));
            }
            Ok(still)
        };
        let records = Records::open_if_any()?;
        all_gone.append(&mut transact(nft, find, |publisher| known_of(nft, publisher, &of_owners))?);
        drop(records);
    }
    Ok(Withdrawn::of(nft, &all_gone))
}

/// The elements of these publishers, from one listing.
fn by_owner(nft: &Nft, publishers: &[Element]) -> Result<HashMap<String, Found>> {
    let labels = publishers.iter().filter_map(attachment_of);
    let mut of_owners: HashMap<String, Found> = labels.map(|of| (of.to_owned(), Found::new())).collect();
    for set in owned().filter(|set| set.name != PUBLISHERS.name) {
        for element in nft.elements(&set)? {
            if let Some(found) = attachment_of(&element).and_then(|of| of_owners.get_mut(of)) {
                found.push((set, element));
            }
        }
    }
    Ok(of_owners)
}

/// The listed elements that still exist; the publisher's own is last.
fn known_of(nft: &Nft, publisher: &Element, listed: &HashMap<String, Found>) -> Result<Found> {
    let mut found = Found::new();
    let of_owner = attachment_of(publisher).and_then(|of| listed.get(of));
    for (set, element) in of_owner.into_iter().flatten() {
        if nft.element(set, element)?.as_ref() == Some(element) {
            found.push((*set, element.clone()));
        }
    }
    found.push((PUBLISHERS, publisher.clone()));
    Ok(found)
}

fn transact(
    nft: &Nft,
    find: impl Fn(&Nft) -> Result<Vec<Element>>,
    elements_of: impl Fn(&Element) -> Result<Found>,
) -> Result<Found> {
    let mut lowered = Lowered::default();
    let done = nft.transact(|nft, batch| {
        lowered.raise();
        let publishers = find(nft)?;
        if publishers.is_empty() {
            return Ok(Vec::new());
        }
        let mut gone = Found::new();
        for publisher in &publishers {
            gone.extend(elements_of(publisher)?);
        }
        reference::delete_chains(nft, batch, &chains_of(&gone))?;
        let going: HashSet<Value> = publishers.iter().map(|publisher| publisher.key).collect();
        let mut rest = nft.elements(&PUBLISHERS)?;
        rest.retain(|publisher| !going.contains(&publisher.key));
        let guards = guard::there(nft, &gone)?;
        if rest.is_empty() {
            lowered.lower(nft)?;
            retire_all(nft, batch, &guards)?;
        } else {
            elements::delete(batch, &gone);
            guard::delete(batch, guards.iter());
            shared::hand_over(nft, batch, &gone, &rest)?;
        }
        Ok(gone)
    });
    if done.is_err() {
        lowered.raise();
    }
    done
}

fn retire_all(nft: &Nft, batch: &mut Batch, guards: &[String]) -> Result<()> {
    let names = retired::chains_there(nft)?;
    let chains: Vec<Chain<'_>> =
        names.iter().chain(guards).map(|name| Chain { table: TABLE, name }).collect();
    retire(nft, batch, &TABLE, &chains, &retired::sets_there(nft)?)
}

/// All elements of a publisher, its own last. If the hint does not lead to as many elements as the
/// publisher counts, all sets are searched.
pub(super) fn elements_of(nft: &Nft, publisher: &Element, hint: Option<&Hint>) -> Result<Found> {
    let Some(comment) = publisher.comment.as_deref() else { return Ok(Found::new()) };
    let attachment = attachment(comment);
    let is_ours = |element: &Element| attachment_of(element) == Some(attachment);
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
        keys.extend(elements::keys(IpFamily::V4, &hint.v4));
        keys.extend(elements::keys(IpFamily::V6, &hint.v6));
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
