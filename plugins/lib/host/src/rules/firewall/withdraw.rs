//! Deletes what attachments have, by owner.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};

use nft::{Batch, Element, Nft};
use sys::Result;

use super::layout::{LINKS, OWNED, SETS, USERS, WITHIN, link_of, removable};
use super::{permit, ports};
use crate::intent::{self, By};
use crate::rules::{Left, TABLE, is_owned, owned, retire};
use crate::{Owner, Removal};
use nft::Value;

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
        retire(nft, batch, &TABLE, &removable(nft)?, &SETS)?;
        return Ok(ours.left);
    }
    let going = ours.elements.iter().filter(|(set, _)| set.name == USERS.name);
    let mut links: BTreeSet<String> = going.flat_map(|(_, users)| users.iter().map(link_of)).collect();
    if !links.is_empty() {
        let mut going: HashSet<Value> = HashSet::new();
        for (set, users) in &ours.elements {
            if set.name == USERS.name {
                going.extend(users.iter().map(|user| user.key));
            }
        }
        for user in nft.elements(&USERS)?.iter().filter(|user| !going.contains(&user.key)) {
            links.remove(&link_of(user));
        }
    }
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
