//! The ledger of host ports is the maps themselves: the comment of a port's element is its owner.

use std::net::IpAddr;

use nft::{Element, Nft, Protocol, Set};
use sys::{IpFamily, Result};

use super::Refusal;
use super::elements::{self, Found, attachment, sets_of};
use super::layout::PUBLISHERS;
use super::shared::{Held, is_same_container};
use super::withdraw::elements_of;
use crate::Owner;
use crate::ports::{Mapping, Publication};
use crate::rules::alive::Attachments;

/// With more separate ports than this, all published ports are listed once instead of looked up one
/// by one.
const LOOK_UPS: usize = 64;

/// What conflicts with a publication.
#[derive(Default)]
pub(super) struct Standing {
    /// Elements of dead attachments, which may be taken.
    pub stale: Found,
    /// Ports of other attachments of the same container, which need not be created again.
    pub shared: Held,
    /// The refusal, if a port is taken.
    pub taken: Option<Refusal>,
}

/// Finds everything that overlaps with the wanted ports; an address also overlaps with any address.
pub(super) fn look(
    nft: &Nft,
    publication: &Publication,
    wanted: &[(Set<'static>, Element)],
) -> Result<Standing> {
    let label = publication.owner.label();
    let network = Owner::label_prefix(&publication.owner.network);
    let attachments = Attachments::default();
    let mut standing = Standing::default();
    for container in &publication.containers {
        let sets = sets_of(IpFamily::of(container.address));
        let mut found = Found::new();
        let singles =
            || wanted.iter().filter(|(set, _)| set.name == sets.ports.name || set.name == sets.ports_at.name);
        // A single port at any address is found by its key; for everything else that may overlap,
        // the sets are searched.
        let few = container.mappings.iter().all(|mapping| mapping.ports.0 == mapping.ports.1)
            && singles().count() <= LOOK_UPS;
        if few {
            for mapping in &container.mappings {
                let key =
                    elements::keys(IpFamily::of(container.address), &[Mapping { address: None, ..*mapping }]);
                for (set, key) in key {
                    found.extend(nft.element(&set, &key)?.map(|element| (set, element)));
                }
            }
        } else {
            found.extend(nft.elements(&sets.ports)?.into_iter().map(|element| (sets.ports, element)));
        }
        for set in [sets.ports_at, sets.ranges, sets.ranges_at, sets.elsewhere] {
            found.extend(nft.elements(&set)?.into_iter().map(|element| (set, element)));
        }
        for (set, element) in found {
            let Some((theirs, to)) = elements::read(&set, &element) else { continue };
            let Some(ours) = container.mappings.iter().find(|mapping| mapping.overlaps(&theirs)) else {
                continue;
            };
            let owner = element.comment.clone().unwrap_or_default();
            // The attachment's own elements are found by the publisher's element.
            if attachment(&owner) == attachment(&label) {
                continue;
            }
            let is_dead = match attachments.is_alive(&owner)? {
                Some(is_alive) => !is_alive,
                // Within one network, an address belongs to one container only.
                None => to == container.address && owner.starts_with(&network),
            };
            if is_dead {
                standing.stale.push((set, element));
            } else if is_same_container(&owner, &label) {
                standing.shared.push((IpFamily::of(container.address), theirs));
            } else {
                standing.taken.get_or_insert_with(|| taken(ours, container.address, &set, &element, owner));
            }
        }
    }
    complete(nft, &mut standing.stale)?;
    Ok(standing)
}

/// Takes all elements of dead attachments with ports that lead to conditions or are in iptables.
/// What remained of the former would be open to everybody, and what remained of the latter would
/// still lead to the container.
fn complete(nft: &Nft, stale: &mut Found) -> Result<()> {
    let comments = stale.iter().filter_map(|(_, element)| Some(attachment(element.comment.as_deref()?)));
    let mut dead: Vec<String> = comments.map(str::to_owned).collect();
    dead.sort_unstable();
    dead.dedup();
    for of in dead {
        let publisher = nft.element(&PUBLISHERS, &Element::new(elements::publisher_key(&of)))?;
        let Some(publisher) = publisher else { continue };
        let comment = publisher.comment.as_deref().unwrap_or_default();
        if elements::is_conditional(comment) || elements::chain(comment).is_some() {
            stale.retain(|(_, element)| element.comment.as_deref().map(attachment) != Some(&of));
            stale.append(&mut elements_of(nft, &publisher, None)?);
        }
    }
    Ok(())
}

fn taken(ours: &Mapping, container: IpAddr, set: &Set<'_>, theirs: &Element, owner: String) -> Refusal {
    let any = IpFamily::of(container).choose("0.0.0.0", "[::]");
    let address = ours.address.map_or(any.to_owned(), |address| match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    });
    let proto = Protocol(ours.proto);
    let ports = match ours.ports {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    Refusal::Taken { wanted: format!("{address}:{ports}/{proto}"), taken: theirs.show(set), owner }
}
