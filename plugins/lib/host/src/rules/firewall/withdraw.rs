//! Deletes what attachments have, by owner.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};

use nft::{Batch, Element, Nft, Set, Value};
use sys::Result;

use super::layout::{BEHIND, LINKS, OWNED, SETS, USERS, WITHIN, link_of, removable};
use super::{permit, policy, ports};
use crate::intent::{self, By};
use crate::rules::{Left, Owned, TABLE, is_owned, owned, retire};
use crate::{Owner, Removal};

/// Deletes what an attachment has, with its record; also that under another network's name, if the
/// removal takes it. Missing objects are no error. Without nf_tables there is no socket.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn withdraw(nft: Option<&Nft>, removal: &Removal) -> Result<()> {
    let network = &removal.owner().network;
    intent::withdraw(
        |records| records.take(By::Firewall, removal).map(drop),
        || delete_if_any(nft, network, &|label| removal.takes(label)),
    )
}

/// As [`withdraw`], for all attachments of a network except `valid`.
///
/// # Errors
/// As [`withdraw`].
pub fn withdraw_all_but(nft: Option<&Nft>, network: &str, valid: &[Owner]) -> Result<()> {
    intent::remove_all_but(By::Firewall, network, &valid.iter().cloned().collect())?;
    let prefix = Owner::label_prefix(network);
    let labels: HashSet<String> = valid.iter().map(Owner::label).collect();
    delete_if_any(nft, network, &|label| Ok(label.starts_with(&prefix) && !labels.contains(label)))
}

/// Deletes what a failed ADD created.
///
/// # Errors
/// The kernel refused.
pub(crate) fn delete_own(nft: &Nft, owner: &Owner) -> Result<()> {
    let label = owner.label();
    delete(nft, &owner.network, &|other| Ok(other == label))
}

fn delete_if_any(nft: Option<&Nft>, network: &str, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<()> {
    match nft {
        Some(nft) => delete(nft, network, is_ours),
        None => permit::close_old(network),
    }
}

fn delete(nft: &Nft, network: &str, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<()> {
    let networks = RefCell::new(BTreeSet::from([Owner::network_label(network)]));
    let is_ours = |label: &str| {
        let ours = is_ours(label)?;
        if ours && let Some(network) = network_of(label) {
            networks.borrow_mut().insert(network.to_owned());
        }
        Ok(ours)
    };
    // Most hosts have none.
    if nft.set_is(&USERS)?.is_some() {
        // First: an element without its port loses nothing, a port without its element would stay.
        ports::give_back(nft, &is_ours)?;
        while nft.transact(|nft, batch| delete_some(nft, batch, &is_ours))? == Left::Some {}
    }
    networks.borrow().iter().try_for_each(|network| permit::close_if_last(nft, network))
}

/// `moor/net` of `moor/net/eth0/c1`.
fn network_of(label: &str) -> Option<&str> {
    let (rest, _) = label.rsplit_once('/')?;
    rest.rsplit_once('/').map(|(network, _)| network)
}

fn delete_some(nft: &Nft, batch: &mut Batch, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<Left> {
    let Some(ours) = owned(nft, &OWNED, is_ours)? else { return Ok(Left::Nothing) };
    if ours.is_all {
        let (chains, sets) = (policy::chains_there(nft)?, nft.set_names(&TABLE)?);
        let of_networks = policy::sets_there(nft)?;
        let mut going: Vec<_> =
            SETS.into_iter().filter(|set| sets.iter().any(|name| name == set.name)).collect();
        going.extend(of_networks.iter().map(|name| policy::links(name)));
        let chains = chains.iter().map(|name| policy::chain(name));
        let chains: Vec<_> = removable(nft)?.into_iter().chain(chains).collect();
        retire(nft, batch, &TABLE, &chains, &going)?;
        return Ok(ours.left);
    }
    let Uses { mut going, staying } = uses(nft, &USERS, &ours)?;
    going.retain(|(_, link)| !staying.iter().any(|(_, other)| other == link));
    let links: BTreeSet<String> = going.into_iter().map(|(_, link)| link).collect();
    delete_policies(nft, batch, &ours)?;
    ours.elements.iter().for_each(|(set, ours)| batch.del_elements(set, ours));
    for link in links {
        let key = Value::new().ifname(&link);
        for (set, key) in [(LINKS, key), (WITHIN, key.ifname(&link))] {
            if let Some(there) = nft.element(&set, &Element::new(key))? {
                batch.del_elements(&set, &[there]);
            }
        }
    }
    Ok(ours.left)
}

/// Who uses which link: pairs of a network's label and a link.
struct Uses {
    going: BTreeSet<(String, String)>,
    staying: BTreeSet<(String, String)>,
}

/// The uses in a set of links and owners, some of which are deleted.
fn uses(nft: &Nft, set: &Set<'_>, ours: &Owned) -> Result<Uses> {
    let of = |element: &Element| {
        let network = element.comment.as_deref().and_then(network_of).unwrap_or_default();
        (network.to_owned(), link_of(element))
    };
    let going: Vec<&Element> =
        ours.elements.iter().filter(|(of, _)| of.name == set.name).flat_map(|(_, ours)| ours).collect();
    let mut uses = Uses { going: going.iter().copied().map(of).collect(), staying: BTreeSet::new() };
    if !going.is_empty() {
        let keys: HashSet<Value> = going.iter().map(|element| element.key).collect();
        let all = nft.elements(set)?;
        uses.staying = all.iter().filter(|element| !keys.contains(&element.key)).map(of).collect();
    }
    Ok(uses)
}

/// Adds to `batch` the deletion of what policies have of links that a network no longer uses.
fn delete_policies(nft: &Nft, batch: &mut Batch, ours: &Owned) -> Result<()> {
    let behind = ours.elements.iter().filter(|(set, _)| set.name == BEHIND.name).flat_map(|(_, ours)| ours);
    let labels = behind.filter_map(|element| element.comment.as_deref().and_then(network_of));
    for network in labels.collect::<BTreeSet<_>>() {
        if !policy::is_named(nft, network)? {
            continue;
        }
        let uses = uses(nft, &BEHIND, ours)?;
        let of_it = |(other, _): &&(String, String)| other == network;
        let gone = uses.going.difference(&uses.staying).filter(of_it);
        let links = gone.map(|(_, link)| link.clone()).collect();
        let is_last = !uses.staying.iter().any(|(other, _)| other == network);
        policy::withdraw(nft, batch, network, &links, is_last)?;
    }
    Ok(())
}

/// Whether an attachment of this network, by its label, has anything.
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn has_any(nft: &Nft, network: &str) -> Result<bool> {
    let prefix = format!("{network}/");
    for set in &OWNED {
        for element in nft.elements(set)? {
            if is_owned(&element, &|label| Ok(label.starts_with(&prefix)))? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
