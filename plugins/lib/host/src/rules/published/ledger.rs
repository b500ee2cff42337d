//! The ledger of host ports is the maps themselves: who has a port is its element's comment.

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

/// With more separate ports than this, all published ports are listed once instead of each being looked up.
const LOOK_UPS: usize = 64;

/// What stands in a publication's way.
#[derive(Default)]
pub(super) struct Standing {
    /// What may be taken: of attachments that are dead.
    pub stale: Found,
    /// What other attachments of the same container have: it need not be made twice.
    pub shared: Held,
    /// What may not.
    pub taken: Option<Refusal>,
}

/// Looks for whatever overlaps with the ports that are wanted: an address against any address too.
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
        // A single port of any address is found by its key; for all else that may overlap the sets are searched.
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
            // The attachment's own are found by the publisher's element.
            if attachment(&owner) == attachment(&label) {
                continue;
            }
            let is_dead = match attachments.is_alive(&owner)? {
                Some(is_alive) => !is_alive,
                // Within one network an address is one container's alone.
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

/// Of the dead whose ports lead to conditions, or are in iptables, everything is taken: what is left of the ones would be
/// open to all, and of the others would lead there still.
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
