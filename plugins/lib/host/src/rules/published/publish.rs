//! Making what an attachment publishes.

use super::elements::{self, attachment};
use super::layout::{PUBLISHERS, chains, sets};
use super::{ELEMENTS_MAX, Error, Publication, flows, ledger, localnet, withdraw};
use crate::nft::{Batch, Element, Nft, Set};
use crate::rules::{TABLE, ensure};
use crate::{Result, sysctl};

/// Publishes, in one transaction: all of it or nothing. What the same attachment had before is replaced. Flows that
/// would go on as before are forgotten; how many could not be is no error, and is said by the second value.
///
/// # Errors
/// [`Error::Taken`] names the owner of a port; [`Error::TooMany`]; or the kernel refused. Nothing was made then.
pub fn publish(nft: &Nft, publication: &Publication) -> Result<Result<usize>, Error> {
    let wanted = elements::of(publication);
    if wanted.len() > ELEMENTS_MAX {
        return Err(Error::TooMany(wanted.len()));
    }
    let decided = nft.transact(|nft, batch| decide(nft, batch, publication, &wanted))?;
    let replaced = decided?;
    let raised =
        publication.containers.iter().filter(|container| container.by_loopback()).try_for_each(|container| {
            match &container.link {
                Some(link) => sysctl::write(&localnet::key(link), "1").map(drop),
                None => Ok(()),
            }
        });
    if let Err(error) = raised {
        // The error that led here is the one to be told.
        let _ = withdraw(nft, &publication.owner, None);
        return Err(error.within("unable to enable route_localnet".into()).into());
    }
    let changed: Vec<_> = replaced.into_iter().filter(|gone| !wanted.contains(gone)).collect();
    Ok(flows::forget_before(nft, publication)
        .and_then(|count| Ok(count + flows::forget_after(nft, &changed, true)?)))
}

type Decision = Result<Vec<(Set<'static>, Element)>, Error>;

fn decide(
    nft: &Nft,
    batch: &mut Batch,
    publication: &Publication,
    wanted: &[(Set<'static>, Element)],
) -> Result<Decision> {
    let standing = ledger::look(nft, publication, wanted)?;
    if let Some(taken) = standing.taken {
        return Ok(Err(taken));
    }
    ensure(nft, batch, &TABLE, &sets(), &chains())?;
    let mut gone = standing.stale;
    gone.extend(own(nft, publication)?);
    // What is beside the ports is a container's address, which nobody alive can have as well.
    for (set, element) in wanted.iter().filter(|(set, _)| elements::is_beside_ports(set)) {
        if let Some(found) = nft.element(set, element)?
            && !gone.iter().any(|(other, gone)| other.name == set.name && gone.key == found.key)
        {
            gone.push((*set, found));
        }
    }
    for (set, element) in &gone {
        batch.del_elements(set, std::slice::from_ref(element));
    }
    let mut rest = wanted;
    while let Some((set, _)) = rest.first() {
        let run = rest.iter().take_while(|(other, _)| other.name == set.name).count();
        let (now, later) = rest.split_at(run);
        let elements: Vec<Element> = now.iter().map(|(_, element)| element.clone()).collect();
        batch.create_elements(set, &elements);
        rest = later;
    }
    for container in publication.containers.iter().filter(|container| container.by_loopback()) {
        if let Some(link) = &container.link {
            localnet::guard(nft, batch, link)?;
        }
    }
    Ok(Ok(gone))
}

/// What this attachment has from before: of an ADD that was repeated, or that died before it could answer.
fn own(nft: &Nft, publication: &Publication) -> Result<Vec<(Set<'static>, Element)>> {
    let label = publication.owner.label();
    let key = Element::new(elements::publisher_key(attachment(&label)));
    match nft.element(&PUBLISHERS, &key)? {
        Some(publisher) => withdraw::elements_of(nft, &publisher, None),
        None => Ok(Vec::new()),
    }
}
