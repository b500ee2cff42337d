//! Publishes the ports of an attachment.

use std::collections::BTreeMap;

use nft::{Batch, Element, Nft};
use sys::{Result, sysctl};

use super::elements::{self, Found, attachment};
use super::guard::{self, Guard};
use super::layout::{PUBLISHERS, sets};
use super::withdraw::{chains_of, elements_of, withdraw};
use super::{
    ELEMENTS_MAX, Forgotten, RUNS_MAX, Refusal, flows, ledger, localnet, reference, retired, shared, wire,
};
use crate::intent::{By, Record, Records};
use crate::ports::Publication;
use crate::rules::alive::Attachments;
use crate::rules::reapply::reapply;
use crate::rules::restore::owner;
use crate::rules::{TABLE, ensure, masquerade};
use crate::{Owner, Removal};

/// What an attachment publishes, as elements and chains.
pub struct Wanted<'p> {
    publication: &'p Publication,
    elements: Found,
    guards: Vec<Guard>,
}

impl<'p> Wanted<'p> {
    /// The elements and chains of a publication.
    ///
    /// # Errors
    /// They are too many: [`Refusal::TooMany`], [`Refusal::TooManyMoved`].
    pub fn of(publication: &'p Publication) -> Result<Self, Refusal> {
        let runs = publication.containers.iter().map(|container| container.merged().len()).sum();
        if runs > RUNS_MAX {
            return Err(Refusal::TooMany(runs));
        }
        let elements = elements::of(publication);
        if elements.len() > ELEMENTS_MAX {
            return Err(Refusal::TooManyMoved(elements.len()));
        }
        Ok(Self { publication, elements, guards: guard::of(publication) })
    }

    /// Checks that the ports are available, before the caller creates anything else for them.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn ensure_free(&self, nft: &Nft) -> Result<()> {
        match ledger::look(nft, self.publication, &self.elements)?.taken {
            Some(taken) => Err(taken.into()),
            None => Ok(()),
        }
    }

    /// Publishes the ports in one transaction, all of them or none, and records them. Replaces what
    /// the same attachment had before. Forgets flows that would keep their previous destination.
    ///
    /// # Errors
    /// A [`Refusal`] that names the owner of a port or an address; or the kernel refused. Nothing
    /// was created.
    pub fn publish(&self, nft: &Nft) -> Result<Forgotten> {
        let publication = self.publication;
        let mut mended = false;
        let (records, replaced, localnet, was_open) = loop {
            let records = Records::open()?;
            let others = (!mended).then_some(&records);
            match nft.transact(|nft, batch| self.decide(nft, batch, others))? {
                Decision::Made { replaced, localnet, was_open } => {
                    break (records, replaced, localnet, was_open);
                }
                Decision::Flushed => {
                    // First make the other attachments' ports again: the ledger must be complete.
                    drop(records);
                    reapply(nft)?;
                    mended = true;
                }
            }
        };
        let strangers = if was_open { flows::forget_strangers(nft) } else { Ok(()) };
        let raised = strangers.and_then(|()| raise(publication));
        if let Err(error) = raised.and_then(|()| record(&records, publication, localnet)) {
            // The first error is the one to report.
            let _ = take_back(nft, &publication.owner);
            return Err(error);
        }
        Ok(Forgotten { flows: self.forget(nft, replaced) })
    }

    /// Forgets flows that led elsewhere, and flows that the `replaced` elements led.
    fn forget(&self, nft: &Nft, replaced: Found) -> Result<()> {
        let wanted: BTreeMap<_, _> =
            self.elements.iter().map(|(set, element)| ((set.name, element.key), element)).collect();
        let (same, changed): (Found, Found) = replaced
            .into_iter()
            .partition(|(set, gone)| wanted.get(&(set.name, gone.key)).is_some_and(|kept| *kept == gone));
        flows::forget_before(nft, self.publication)?;
        flows::forget_after(nft, &changed, true)?;
        // UDP clients that are excluded from now on.
        if !self.guards.is_empty() {
            flows::forget_after(nft, &same, false)?;
        }
        Ok(())
    }

    fn decide(&self, nft: &Nft, batch: &mut Batch, others: Option<&Records>) -> Result<Decision> {
        let publication = self.publication;
        let standing = ledger::look(nft, publication, &self.elements)?;
        if let Some(taken) = standing.taken {
            return Err(taken.into());
        }
        let rest = (!standing.shared.is_empty())
            .then(|| shared::elements_without(publication, &self.elements, &standing.shared));
        let wanted = rest.as_deref().unwrap_or(&self.elements);
        let chains = wire::chains(publication.by_loopback(), || masquerade::drops_loopback(nft))?;
        let is_new = ensure(nft, batch, &TABLE, &sets(), &chains)?;
        if is_new
            && let Some(records) = others
            && records.has_others(By::Portmap, &publication.owner)?
        {
            *batch = Batch::new();
            return Ok(Decision::Flushed);
        }
        let mut gone = standing.stale;
        gone.extend(own(nft, publication)?);
        // Elements beside the ports hold a container's address.
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
                    return Err(Refusal::AddressInUse { address, owner: owner.to_owned() }.into());
                }
                gone.push((*set, found));
            }
        }
        // Chains of dead attachments, and this one's if its ports were in iptables and no longer
        // are.
        let mut chains_of_gone = chains_of(&gone);
        chains_of_gone.retain(|chain| publication.chain.as_ref() != Some(chain));
        reference::delete_chains(nft, batch, &chains_of_gone)?;
        let mut stale = guard::there(nft, &gone)?;
        stale.retain(|name| !self.guards.iter().any(|guard| guard.filled().chain.name == *name));
        elements::delete(batch, &gone);
        guard::delete(batch, stale.iter());
        if is_new {
            retired::delete(nft, batch)?;
        }
        for filled in self.guards.iter().map(Guard::filled) {
            if !filled.drifts(nft)?.is_empty() {
                filled.write(batch);
            }
        }
        for (set, elements) in elements::by_set(wanted) {
            batch.create_elements(&set, &elements);
        }
        let (mut localnet, mut was_open) = (Vec::new(), false);
        for link in publication.by_loopback() {
            let protected = localnet::protect(nft, batch, link, is_new)?;
            was_open |= protected.was_open;
            if protected.was_off {
                localnet.push(link.to_owned());
            }
        }
        Ok(Decision::Made { replaced: gone, localnet, was_open })
    }
}

/// Deletes what [`Wanted::publish`] created for an attachment with a failed ADD.
///
/// # Errors
/// The kernel refused.
pub fn take_back(nft: &Nft, owner: &Owner) -> Result<()> {
    withdraw(nft, &Removal::new(owner.clone(), "", Vec::new()), None).map(drop)
}

fn raise(publication: &Publication) -> Result<()> {
    for link in publication.by_loopback() {
        sysctl::write(&localnet::key(link), "1")
            .map_err(|error| error.within("unable to enable route_localnet".into()))?;
    }
    Ok(())
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

/// The outcome of a publication's transaction.
enum Decision {
    /// The elements are created.
    Made {
        /// The previous elements, which are deleted.
        replaced: Found,
        /// The links that have `route_localnet` on only for published ports.
        localnet: Vec<String>,
        /// A link had it on without protection.
        was_open: bool,
    },
    /// No rules exist, but records of other attachments do: the rules were flushed. Nothing is
    /// created.
    Flushed,
}

/// What this attachment already has, from a repeated ADD or from an ADD that was killed before it
/// answered.
fn own(nft: &Nft, publication: &Publication) -> Result<Found> {
    let label = publication.owner.label();
    let key = Element::new(elements::publisher_key(attachment(&label)));
    match nft.element(&PUBLISHERS, &key)? {
        Some(publisher) => elements_of(nft, &publisher, None),
        None => Ok(Found::new()),
    }
}
