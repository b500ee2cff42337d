//! CHECK: every element, chain, rule and parameter of a publication.

use std::collections::BTreeMap;

use nft::{Data, Element, Nft, Set, Target};
use sys::{Result, sysctl};

use super::elements::Found;
use super::layout::PUBLISHERS;
use super::withdraw::LOOK_UPS;
use super::{elements, guard, ledger, localnet, shared, wire};
use crate::Drift;
use crate::ports::Publication;
use crate::rules::masquerade;

/// All differences between a publication and the kernel's state.
///
/// # Errors
/// The kernel could not be asked.
pub fn verify(nft: &Nft, publication: &Publication) -> Result<Vec<Drift>> {
    let mut drifts = Vec::new();
    let guards = guard::of(publication);
    let chains = wire::chains(publication.by_loopback(), || masquerade::drops_loopback(nft))?;
    for filled in chains.into_iter().chain(guards.iter().map(guard::Guard::filled)) {
        drifts.append(&mut filled.drifts(nft)?);
    }
    let wanted = elements::of(publication);
    let mut missing = differences(nft, &wanted)?;
    if !missing.is_empty() {
        // Other attachments of the container may have its ports.
        let standing = ledger::look(nft, publication, &wanted)?;
        if !standing.shared.is_empty() {
            missing = differences(nft, &shared::elements_without(publication, &wanted, &standing.shared))?;
        }
    }
    drifts.append(&mut missing);
    for link in publication.by_loopback() {
        let key = localnet::key(link);
        let actual = sysctl::read(&key).unwrap_or_else(|error| format!("unreadable ({error:#})"));
        if actual != "1" {
            drifts.push(Drift::new(format!("sysctl {key}"), "1", actual));
        }
    }
    Ok(drifts)
}

fn differences(nft: &Nft, wanted: &Found) -> Result<Vec<Drift>> {
    let mut drifts = Vec::new();
    for (set, element, found) in look_up(nft, wanted)? {
        let found = found.filter(|found| found.key == element.key && found.end == element.end);
        let what = || format!("element {} of {set}", element.show(set));
        match found {
            None => drifts.push(Drift::new(what(), target(set, element), "absent")),
            Some(found) if found.target != element.target => {
                drifts.push(Drift::new(what(), target(set, element), target(set, &found)));
            }
            Some(found) if found.comment != element.comment && set.name != PUBLISHERS.name => {
                drifts.push(Drift::new(
                    format!("owner of {}", what()),
                    element.comment.clone().unwrap_or_default(),
                    found.comment.unwrap_or_default(),
                ))
            }
            Some(_) => {}
        }
    }
    Ok(drifts)
}

/// Each element, and the kernel's element with its key.
fn look_up<'a>(
    nft: &Nft,
    wanted: &'a Found,
) -> Result<Vec<(&'a Set<'static>, &'a Element, Option<Element>)>> {
    let mut all = Vec::with_capacity(wanted.len());
    for of_set in wanted.chunk_by(|(a, _), (b, _)| a.name == b.name) {
        let mut listed = BTreeMap::new();
        if let Some((set, _)) = of_set.first().filter(|_| of_set.len() > LOOK_UPS) {
            listed.extend(nft.elements(set)?.into_iter().map(|element| (element.key, element)));
        }
        for (set, element) in of_set {
            let found = match of_set.len() > LOOK_UPS {
                true => listed.remove(&element.key),
                false => nft.element(set, element)?,
            };
            all.push((set, element, found));
        }
    }
    Ok(all)
}

fn target(set: &Set<'_>, element: &Element) -> String {
    let types = match set.data {
        Data::Value(types) | Data::Range(types) => types,
        _ => &[],
    };
    match &element.target {
        Target::Verdict(verdict) => verdict.to_string(),
        Target::Value(value) => value.show(types),
        Target::Range(first, last) => format!("{} - {}", first.show(types), last.show(types)),
        _ => "present".into(),
    }
}
