//! Deleting what an attachment has, or what those have that are no more: by owner, whoever made it.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::net::IpAddr;

use nft::{Nft, Table, TableInfo};
use sys::Result;

use super::{Left, TABLE, is_without_nf_tables, masquerade, reference, spoof};
use crate::intent::{self, By, Record, Records};
use crate::{Owner, Removal, iptables};

/// Deletes the masquerade and the MAC filter of an attachment, with their record, ours and those that the reference
/// made; also what another network's name is on, if the removal takes that. What is not there is no error. `addresses`,
/// where they are known, make it quick.
///
/// Gives back the socket: the longer it stays open, the less its end waits ([`nft`]).
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn delete(removal: &Removal, addresses: &[IpAddr]) -> Result<Option<Nft>> {
    let owner = removal.owner();
    let on_record = OnceCell::new();
    let unrecord = |records: &Records| {
        // One that cannot be read tells nothing.
        if let Ok(Some(record)) = records.read(By::Iptables, owner)
            && removal.takes(&record.owner.label())?
        {
            let _ = on_record.set(record);
        }
        records.take(By::Bridge, removal).map(drop)
    };
    let chains = || {
        let chain = iptables::masquerade_chain(&owner.network, &owner.container_id);
        let recorded = on_record.get().and_then(|record: &Record| record.masquerade_chain.clone());
        match recorded {
            // Without addresses, those of the container's other interfaces would be meant too.
            Some(recorded) if recorded.0 == chain && addresses.is_empty() => vec![recorded],
            recorded => recorded.into_iter().chain([(chain, addresses.to_vec())]).collect::<Vec<_>>(),
        }
    };
    let delete = || {
        with_tables(|nft, tables| {
            delete_ours(nft, tables, addresses, &|label| removal.takes(label)).map(drop)?;
            reference::delete(nft, tables, removal, &chains())
        })
    };
    let done = intent::withdraw(unrecord, delete);
    let old = iptables::unmasquerade_in_old_tables(&chains());
    let nft = done.and_then(|nft| old.map(|()| nft))?;
    // Last: until the chain is gone, it is to be found.
    if on_record.get().is_some()
        && let Some(records) = Records::open_if_any()?
    {
        records.take(By::Iptables, removal)?;
    }
    Ok(nft)
}

/// Deletes only what we made for an attachment.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn delete_own(nft: &Nft, owner: &Owner, addresses: &[IpAddr]) -> Result<()> {
    let label = owner.label();
    delete_ours(nft, &nft.tables()?, addresses, &|other| Ok(other == label)).map(drop)
}

/// As [`delete`], for all attachments of a network but these. It takes many transactions where there is much to delete,
/// so that it also gets through beside others who commit, and holds nobody up.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn delete_but(network: &str, valid: &[Owner]) -> Result<Option<Nft>> {
    let prefix = Owner::label_prefix(network);
    let labels: HashSet<String> = valid.iter().map(Owner::label).collect();
    let owners: HashSet<Owner> = valid.iter().cloned().collect();
    // First: from here on nothing makes the rules anew.
    intent::remove_all_but(By::Bridge, network, &owners)?;
    let stale = match Records::open_if_any()? {
        Some(records) => records.all_but(By::Iptables, network, &owners)?,
        None => Vec::new(),
    };
    let chains: Vec<_> = stale.iter().filter_map(|record| record.masquerade_chain.clone()).collect();
    let done = with_tables(|nft, tables| {
        let is_stale = |label: &str| Ok(label.starts_with(&prefix) && !labels.contains(label));
        while delete_ours(nft, tables, &[], &is_stale)? == Left::Some {}
        reference::delete_but(nft, tables, network, valid, &chains)
    });
    let old = match chains.is_empty() {
        true => Ok(()),
        false => iptables::unmasquerade_in_old_tables(&chains),
    };
    let nft = done.and_then(|nft| old.map(|()| nft))?;
    if !stale.is_empty() {
        intent::remove_all_but(By::Iptables, network, &owners)?;
    }
    Ok(nft)
}

/// Most hosts have none of the tables that are looked into; one question tells.
fn with_tables(work: impl FnOnce(&Nft, &[TableInfo]) -> Result<()>) -> Result<Option<Nft>> {
    let asked = Nft::open().and_then(|nft| nft.tables().map(|tables| (nft, tables)));
    match asked {
        Ok((nft, tables)) => work(&nft, &tables).map(|()| Some(nft)),
        // Then there are no rules.
        Err(error) if is_without_nf_tables(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn delete_ours(
    nft: &Nft,
    tables: &[TableInfo],
    addresses: &[IpAddr],
    is_ours: &dyn Fn(&str) -> Result<bool>,
) -> Result<Left> {
    let [packets, frames] = [TABLE, spoof::TABLE].map(|table| is_in(tables, &table));
    if !packets && !frames {
        return Ok(Left::Nothing);
    }
    nft.transact(|nft, batch| {
        let mut left = Left::Nothing;
        if packets {
            left = left.max(masquerade::delete(nft, batch, addresses, is_ours)?);
        }
        if frames {
            left = left.max(spoof::delete(nft, batch, is_ours)?);
        }
        Ok(left)
    })
}

/// Whether a listing has this table.
pub(super) fn is_in(tables: &[TableInfo], wanted: &Table<'_>) -> bool {
    tables.iter().any(|table| table.family == Some(wanted.family) && table.name == wanted.name)
}
