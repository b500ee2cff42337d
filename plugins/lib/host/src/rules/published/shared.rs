//! Ports that several attachments of one container publish. A runtime passes a container's ports to
//! the ADD of each of its networks. The first attachment gets them; when it is removed, the next
//! one takes over.

use std::collections::{BTreeMap, HashSet};

use nft::{Batch, Element, Nft, Set};
use sys::{IpFamily, Result};

use super::elements::{self, Found, container, sets_of};
use super::layout::PUBLISHERS;
use crate::intent::Records;
use crate::ports::{Mapping, Publication};
use crate::rules::restore::owner;

/// Ports, each with its family.
pub(super) type Held = Vec<(IpFamily, Mapping)>;

/// The publication without the ports that other attachments of the container have.
pub(super) fn without(publication: &Publication, held: &[(IpFamily, Mapping)]) -> Publication {
    let mut rest = publication.clone();
    for container in &mut rest.containers {
        let family = IpFamily::of(container.address);
        for (_, taken) in held.iter().filter(|(of, _)| *of == family) {
            container.mappings = container.mappings.iter().flat_map(|mapping| cut(mapping, taken)).collect();
        }
    }
    rest
}

/// The `wanted` elements of a publication, without ports that other attachments of the container
/// have.
pub(super) fn elements_without(
    publication: &Publication,
    wanted: &[(Set<'static>, Element)],
    held: &[(IpFamily, Mapping)],
) -> Found {
    let is_of_ports = |(set, _): &(Set<'static>, Element)| elements::is_of_ports(set);
    let mut all = elements::of(&without(publication, held));
    all.retain(is_of_ports);
    all.extend(wanted.iter().filter(|element| !is_of_ports(element)).cloned());
    let count = all.iter().filter(|(set, _)| !elements::is_of_conditions(set)).count();
    if let Some((_, publisher)) = all.last_mut() {
        // The publisher's own element is not counted.
        *publisher = with_count(publisher, |_| count - 1);
    }
    all
}

/// A publisher with another number of elements.
fn with_count(publisher: &Element, count: impl Fn(usize) -> usize) -> Element {
    let comment = publisher.comment.as_deref().unwrap_or_default();
    let mut words: Vec<String> = comment.split(' ').map(str::to_owned).collect();
    if let Some(word) = words.get_mut(1) {
        *word = count(elements::count(comment).unwrap_or_default()).to_string();
    }
    publisher.clone().comment(words.join(" "))
}

/// What is left of a mapping: the ports before and after those that are taken. (Ports at one
/// address and ports at any address are in different maps, so both can exist.)
fn cut(mapping: &Mapping, taken: &Mapping) -> Vec<Mapping> {
    if mapping.proto != taken.proto || mapping.address != taken.address || !mapping.overlaps(taken) {
        return vec![*mapping];
    }
    let (first, last) = mapping.ports;
    let mut left = Vec::new();
    if first < taken.ports.0 {
        left.push(Mapping { ports: (first, taken.ports.0 - 1), ..*mapping });
    }
    if last > taken.ports.1 {
        let begin = taken.ports.1 + 1;
        left.push(Mapping { ports: (begin, last), target: mapping.target + (begin - first), ..*mapping });
    }
    left
}

/// Whether two labels (or comments that begin with them) are of one container.
pub(super) fn is_same_container(one: &str, other: &str) -> bool {
    container(one) == container(other)
}

/// Adds to `batch` the handover of deleted ports to other attachments of the same containers, if
/// their records have them. `rest` are the remaining publishers.
pub(super) fn hand_over(nft: &Nft, batch: &mut Batch, gone: &Found, rest: &[Element]) -> Result<()> {
    let publishers = gone.iter().filter(|(set, _)| set.name == PUBLISHERS.name);
    let going: HashSet<&str> =
        publishers.filter_map(|(_, publisher)| owner(publisher)).map(container).collect();
    let is_heir =
        |publisher: &&Element| owner(publisher).is_some_and(|label| going.contains(container(label)));
    let heirs: Vec<&Element> = rest.iter().filter(is_heir).collect();
    if heirs.is_empty() {
        return Ok(());
    }
    let Some(records) = Records::open_if_any()? else { return Ok(()) };
    let (mut records, _) = records.all()?;
    // The oldest attachment takes over.
    records.reverse();
    let mut held = BTreeMap::new();
    for record in records.into_iter().filter(|record| !record.containers.is_empty()) {
        let label = record.owner.label();
        let Some(publisher) = heirs.iter().find(|publisher| owner(publisher) == Some(&label)) else {
            continue;
        };
        let publication = Publication {
            owner: record.owner,
            containers: record.containers,
            chain: record.chain,
            chosen: Vec::new(),
            netns: None,
        };
        let of_container = container(&label).to_owned();
        if !held.contains_key(&of_container) {
            held.insert(of_container.clone(), holdings(nft, &label, gone)?);
        }
        let Some(held) = held.get_mut(&of_container) else { continue };
        let taken = without(&publication, held);
        held.extend(mappings(&taken));
        take_over(batch, publisher, elements::of(&taken));
    }
    Ok(())
}

fn mappings(publication: &Publication) -> Held {
    let containers = publication.containers.iter();
    let of = |container: &crate::ports::Container| {
        let family = IpFamily::of(container.address);
        container.mappings.iter().map(|mapping| (family, *mapping)).collect::<Vec<_>>()
    };
    containers.flat_map(of).collect()
}

/// The ports of a container's attachments, without those that are deleted.
fn holdings(nft: &Nft, label: &str, gone: &Found) -> Result<Held> {
    let mut held = Held::new();
    for family in IpFamily::BOTH {
        let sets = sets_of(family);
        for set in [sets.ports, sets.ports_at, sets.ranges, sets.ranges_at, sets.elsewhere] {
            let stays = |element: &Element| {
                !gone.iter().any(|(of, gone)| of.name == set.name && gone.key == element.key)
            };
            let of_container =
                |element: &Element| owner(element).is_some_and(|of| is_same_container(of, label));
            for element in
                nft.elements(&set)?.iter().filter(|element| of_container(element) && stays(element))
            {
                held.extend(elements::read(&set, element).map(|(mapping, _)| (family, mapping)));
            }
        }
    }
    Ok(held)
}

/// Adds to `batch` the ports of an attachment that already has its other elements.
fn take_over(batch: &mut Batch, publisher: &Element, all: Found) {
    let ports: Vec<(Set<'static>, Element)> =
        all.into_iter().filter(|(set, _)| elements::is_of_ports(set)).collect();
    let counted = ports.iter().filter(|(set, _)| !elements::is_of_conditions(set)).count();
    if ports.is_empty() {
        return;
    }
    for (set, element) in &ports {
        batch.create_elements(set, std::slice::from_ref(element));
    }
    let changed = with_count(publisher, |before| before + counted);
    batch.del_elements(&PUBLISHERS, std::slice::from_ref(publisher));
    batch.create_elements(&PUBLISHERS, &[changed]);
}
