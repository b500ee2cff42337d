//! Making what an attachment publishes.

use std::collections::BTreeMap;

use nft::{Batch, Element, Nft, Set};
use sys::{Result, sysctl};

use super::elements::{self, Found, attachment};
use super::guard::{self, Guard};
use super::layout::{PUBLISHERS, chains, sets};
use super::withdraw::{chains_of, elements_of, withdraw};
use super::{ELEMENTS_MAX, Error, RUNS_MAX, flows, ledger, localnet, reference, retired, shared};
use crate::Removal;
use crate::intent::{By, Record, Records};
use crate::ports::Publication;
use crate::rules::alive::Attachments;
use crate::rules::reapply::reapply;
use crate::rules::restore::owner;
use crate::rules::{TABLE, ensure};

/// Publishes, in one transaction: all of it or nothing, and puts it on record. What the same attachment had before is
/// replaced. Flows that would go on as before are forgotten; how many could not be is no error, and is said by the
/// second value.
///
/// # Errors
/// [`Error::Taken`] names the owner of a port; [`Error::TooMany`]; or the kernel refused. Nothing was made then.
pub fn publish(nft: &Nft, publication: &Publication) -> Result<Result<usize>, Error> {
    let wanted = elements::of(publication);
    let guards = guard::of(publication);
    let runs = publication.containers.iter().map(|container| container.merged().len()).sum();
    if runs > RUNS_MAX || wanted.len() > ELEMENTS_MAX {
        return Err(if runs > RUNS_MAX { Error::TooMany(runs) } else { Error::TooManyMoved(wanted.len()) });
    }
    let mut mended = false;
    let (records, replaced, localnet) = loop {
        let records = Records::open()?;
        let others = (!mended).then_some(&records);
        match nft.transact(|nft, batch| decide(nft, batch, publication, &wanted, &guards, others))?? {
            Decision::Made { replaced, localnet } => break (records, replaced, localnet),
            Decision::Flushed => {
                // Others' ports are theirs all the same: the ledger first.
                drop(records);
                reapply(nft)?;
                mended = true;
            }
        }
    };
    if let Err(error) = raise(publication).and_then(|()| record(&records, publication, localnet)) {
        // The error that led here is the one to be told.
        let _ = withdraw(nft, &Removal::new(publication.owner.clone(), "", Vec::new()), None);
        return Err(error.into());
    }
    let wanted: BTreeMap<_, _> =
        wanted.iter().map(|(set, element)| ((set.name, element.key), element)).collect();
    let (same, changed): (Found, Found) = replaced
        .into_iter()
        .partition(|(set, gone)| wanted.get(&(set.name, gone.key)).is_some_and(|kept| *kept == gone));
    let forget = || {
        let mut count = flows::forget_before(nft, publication)?;
        count += flows::forget_after(nft, &changed, true)?;
        // Clients of UDP that are kept out from now on.
        if !guards.is_empty() {
            count += flows::forget_after(nft, &same, false)?;
        }
        Ok(count)
    };
    Ok(forget())
}

/// Whether the ports can be had, before something is made for them that [`publish`] would have to be told of.
///
/// # Errors
/// As [`publish`].
pub fn ensure_free(nft: &Nft, publication: &Publication) -> Result<(), Error> {
    match ledger::look(nft, publication, &elements::of(publication))?.taken {
        Some(taken) => Err(taken),
        None => Ok(()),
    }
}

fn raise(publication: &Publication) -> Result<()> {
    for link in by_loopback(publication) {
        sysctl::write(&localnet::key(link), "1")
            .map_err(|error| error.within("unable to enable route_localnet".into()))?;
    }
    Ok(())
}

/// The links by which the host's loopback reaches the containers.
fn by_loopback(publication: &Publication) -> impl Iterator<Item = &str> {
    let containers = publication.containers.iter().filter(|container| container.by_loopback());
    containers.filter_map(|container| container.link.as_deref())
}

fn record(records: &Records, publication: &Publication, localnet: Vec<String>) -> Result<()> {
    let record = Record {
        containers: publication.containers.clone(),
        chain: publication.chain.clone(),
        chosen: publication.chosen.clone(),
        localnet,
        netns: publication.netns.clone(),
        ..Record::new(publication.owner.clone())
    };
    records.write(By::Portmap, &record)
}

/// What a publication's transaction came to.
enum Decision {
    /// It is made.
    Made {
        /// What was there before and goes.
        replaced: Found,
        /// The links whose `route_localnet` is off but for published ports.
        localnet: Vec<String>,
    },
    /// There are no rules, and yet there are records of others: somebody flushed them. Nothing is made.
    Flushed,
}

fn decide(
    nft: &Nft,
    batch: &mut Batch,
    publication: &Publication,
    wanted: &[(Set<'static>, Element)],
    guards: &[Guard],
    others: Option<&Records>,
) -> Result<Result<Decision, Error>> {
    let standing = ledger::look(nft, publication, wanted)?;
    if let Some(taken) = standing.taken {
        return Ok(Err(taken));
    }
    let rest = (!standing.shared.is_empty()).then(|| shared::elements_without(publication, &standing.shared));
    let wanted = rest.as_deref().unwrap_or(wanted);
    let is_new = ensure(nft, batch, &TABLE, &sets(), &chains())?;
    if is_new
        && let Some(records) = others
        && records.has_others(By::Portmap, &publication.owner)?
    {
        *batch = Batch::new();
        return Ok(Ok(Decision::Flushed));
    }
    let mut gone = standing.stale;
    gone.extend(own(nft, publication)?);
    // What is beside the ports is a container's address.
    let attachments = Attachments::default();
    for (set, element) in wanted.iter().filter(|(set, _)| elements::is_beside_ports(set)) {
        if let Some(found) = nft.element(set, element)?
            && !gone.iter().any(|(other, gone)| other.name == set.name && gone.key == found.key)
        {
            if let Some(owner) = owner(&found)
                && !shared::is_same_container(owner, &publication.owner.label())
                && attachments.is_alive(owner)? == Some(true)
            {
                let address = element.show(set);
                return Ok(Err(Error::AddressInUse { address, owner: owner.to_owned() }));
            }
            gone.push((*set, found));
        }
    }
    // Of the dead, and of this one when its ports were in iptables and are no more.
    let mut chains_of_gone = chains_of(&gone);
    chains_of_gone.retain(|chain| publication.chain.as_ref() != Some(chain));
    reference::delete_chains(nft, batch, &chains_of_gone)?;
    let mut stale = guard::there(nft, &gone)?;
    stale.retain(|name| !guards.iter().any(|guard| guard.filled().chain.name == *name));
    elements::delete(batch, &gone);
    guard::delete(batch, stale.iter());
    if is_new {
        retired::delete(nft, batch)?;
    }
    for filled in guards.iter().map(Guard::filled) {
        if !filled.drifts(nft)?.is_empty() {
            filled.write(batch);
        }
    }
    for (set, elements) in elements::by_set(wanted) {
        batch.create_elements(&set, &elements);
    }
    let mut localnet = Vec::new();
    for link in by_loopback(publication) {
        if localnet::guard(nft, batch, link)? {
            localnet.push(link.to_owned());
        }
    }
    Ok(Ok(Decision::Made { replaced: gone, localnet }))
}

/// What this attachment has from before: of an ADD that was repeated, or that died before it could answer.
fn own(nft: &Nft, publication: &Publication) -> Result<Found> {
    let label = publication.owner.label();
    let key = Element::new(elements::publisher_key(attachment(&label)));
    match nft.element(&PUBLISHERS, &key)? {
        Some(publisher) => elements_of(nft, &publisher, None),
        None => Ok(Found::new()),
    }
}
