//! What ADD and DEL change of policies.

use std::collections::BTreeSet;

use nft::{Batch, Element, Nft, Target, Verdict};
use sys::Result;

use super::{Direction, LINKS, Named, Policed, chain, links};
use crate::rules::TABLE;
use crate::rules::firewall::layout::{BEHIND, link_of};
use crate::{Attached, Owner};

/// Adds to `batch` what an attachment's policy needs, and what policies of others need of its link.
/// Call it inside [`Nft::transact`], with the table and the maps in the batch.
///
/// # Errors
/// The kernel could not be asked.
pub(in crate::rules::firewall) fn add(
    attached: &Attached,
    owner: &Owner,
    nft: &Nft,
    batch: &mut Batch,
) -> Result<()> {
    let Some(link) = attached.link.as_deref() else { return Ok(()) };
    let own = Named::of(Owner::network_label(&owner.network));
    let is_named = nft.set_is(&own.set())?.is_some();
    let Some(policed) = Policed::of(&attached.policy, &owner.network) else {
        // A network that no policy names has none either.
        return if is_named { join(nft, batch, &own, link, attached, None) } else { Ok(()) };
    };
    for named in &policed.sets {
        if nft.set_is(&named.set())?.is_some() {
            continue;
        }
        batch.add_set(&named.set(), Some(&named.label));
        let mut links = links_of(nft, &named.label)?;
        if named.label == own.label {
            links.insert(link.to_owned());
        }
        let elements: Vec<Element> = links.iter().map(|link| named.element(link)).collect();
        batch.create_elements(&named.set(), &elements);
    }
    let mut changed = Vec::new();
    for filled in policed.chains() {
        if !filled.drifts(nft)?.is_empty() {
            filled.write(batch);
            changed.push(filled.chain.name.to_owned());
        }
    }
    for (map, lead) in policed.leads(link) {
        let there = nft.element(&map, &lead)?;
        if there.as_ref() == Some(&lead) {
            continue;
        }
        // The last ADD decides, also on a bridge of two networks.
        if let Some(there) = there {
            batch.del_elements(&map, &[there]);
        }
        batch.create_elements(&map, &[lead]);
    }
    if is_named {
        join(nft, batch, &own, link, attached, Some((&policed, changed)))?;
    }
    Ok(())
}

/// Adds to `batch` what a network that has a set of links lacks, and the deletion of what an
/// earlier policy of it left. `now` is the policy, and the names of the chains that it changes.
fn join(
    nft: &Nft,
    batch: &mut Batch,
    own: &Named,
    link: &str,
    attached: &Attached,
    now: Option<(&Policed, Vec<String>)>,
) -> Result<()> {
    if nft.element(&own.set(), &own.element(link))?.is_none() {
        batch.create_elements(&own.set(), &[own.element(link)]);
    }
    let (policed, mut changed) = now.unzip();
    let changed = changed.get_or_insert_default();
    for direction in Direction::BOTH {
        if direction.rules(&attached.policy).is_empty() {
            changed.extend(end(nft, batch, direction, &own.label)?);
        }
    }
    let kept: Vec<&str> =
        policed.iter().flat_map(|policed| &policed.sets).map(|named| &*named.name).collect();
    forget_sets(nft, batch, changed, &kept)
}

/// The links of a network's attachments.
fn links_of(nft: &Nft, label: &str) -> Result<BTreeSet<String>> {
    let is_of_network = |one: &Element| {
        let rest = one.comment.as_deref().and_then(|comment| comment.strip_prefix(label));
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let behind = nft.elements(&BEHIND)?.into_iter();
    Ok(behind.filter(is_of_network).map(|one| link_of(&one)).collect())
}

/// Adds to `batch` the deletion of a network's chain, with what leads there; returns its name, if
/// it exists.
fn end(nft: &Nft, batch: &mut Batch, direction: Direction, label: &str) -> Result<Option<String>> {
    let name = direction.chain_name(label);
    if nft.chain(&chain(&name))?.is_none() {
        return Ok(None);
    }
    let to_it = Target::Verdict(Verdict::Jump(name.clone()));
    let leads = nft.elements(&direction.map())?.into_iter().filter(|lead| lead.target == to_it);
    batch.del_elements(&direction.map(), &leads.collect::<Vec<_>>());
    batch.flush_chain(&chain(&name));
    batch.del_chain(&chain(&name));
    Ok(Some(name))
}

/// Adds to `batch` the deletion of sets that no policy names: neither one of `kept`, nor one that a
/// chain looks up which is not `changed` by this transaction.
fn forget_sets(nft: &Nft, batch: &mut Batch, changed: &[String], kept: &[&str]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut named = nft.looked_up(&TABLE, |chain| !changed.iter().any(|name| name == chain))?;
    named.extend(kept.iter().copied().map(str::to_owned));
    for name in sets_there(nft)?.iter().filter(|name| !named.contains(*name)) {
        batch.flush_set(&links(name));
        batch.del_set(&links(name));
    }
    Ok(())
}

/// The names of all policies' chains.
///
/// # Errors
/// The kernel could not be asked.
pub(in crate::rules::firewall) fn chains_there(nft: &Nft) -> Result<Vec<String>> {
    let is_ours = |name: &String| {
        let rest = |direction: &Direction| name.strip_prefix(direction.map().name);
        Direction::BOTH.iter().filter_map(rest).any(|rest| rest.starts_with('-'))
    };
    Ok(nft.chains(&TABLE)?.into_iter().map(|chain| chain.name).filter(is_ours).collect())
}

/// The names of all sets of links of networks that policies name.
///
/// # Errors
/// The kernel could not be asked.
pub(in crate::rules::firewall) fn sets_there(nft: &Nft) -> Result<Vec<String>> {
    Ok(nft.set_names(&TABLE)?.into_iter().filter(|name| name.starts_with(LINKS)).collect())
}

/// Whether a policy names the network with this label, for example its own.
///
/// # Errors
/// The kernel could not be asked.
pub(in crate::rules::firewall) fn is_named(nft: &Nft, label: &str) -> Result<bool> {
    Ok(nft.set_is(&Named::of(label.to_owned()).set())?.is_some())
}

/// Adds to `batch` the deletion of what policies have of links that a network's attachments no
/// longer use; `is_last`: with all of the network's policy.
///
/// # Errors
/// The kernel could not be asked.
pub(in crate::rules::firewall) fn withdraw(
    nft: &Nft,
    batch: &mut Batch,
    label: &str,
    links: &BTreeSet<String>,
    is_last: bool,
) -> Result<()> {
    let own = Named::of(label.to_owned());
    for link in links {
        if let Some(there) = nft.element(&own.set(), &own.element(link))? {
            batch.del_elements(&own.set(), &[there]);
        }
    }
    let mut changed = Vec::new();
    for direction in Direction::BOTH {
        if is_last {
            changed.extend(end(nft, batch, direction, label)?);
            continue;
        }
        for link in links {
            let there = nft.element(&direction.map(), &direction.lead(label, link))?;
            if let Some(there) = there.filter(|there| there.comment.as_deref() == Some(label)) {
                batch.del_elements(&direction.map(), &[there]);
            }
        }
    }
    forget_sets(nft, batch, &changed, &[])
}
