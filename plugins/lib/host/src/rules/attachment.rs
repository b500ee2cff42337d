//! Deletes the packet rules of attachments, by owner: those of this suite, and the reference's.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::net::IpAddr;

use nft::{Nft, Table, TableInfo};
use sys::Result;

use super::{Left, TABLE, fast_path, frames, is_without_nf_tables, masquerade, reference, sources, spoof};
use crate::intent::{self, By, Record, Records};
use crate::{Owner, Removal, iptables};

/// Deletes the masquerade and the MAC filter of an attachment with their record, those of this
/// suite and the reference's; also those under another network's name, if the removal takes them.
/// Missing objects are no error. `addresses`, if known, save a search.
///
/// Returns the socket: the longer it stays open, the shorter the wait when it is closed ([`nft`]).
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn delete(removal: &Removal, addresses: &[IpAddr]) -> Result<Option<Nft>> {
    let owner = removal.owner();
    let on_record = OnceCell::new();
    let unrecord = |records: &Records| {
        // An unreadable record is ignored.
        if let Ok(Some(record)) = records.read(By::Iptables, owner)
            && removal.takes(&record.owner.label())?
        {
            let _ = on_record.set(record);
        }
        let fast_path = records.take(By::FastPath, removal);
        records.take(By::Bridge, removal).and(fast_path).map(drop)
    };
    let chains = || {
        let chain = iptables::masquerade_chain(&owner.network, &owner.container_id);
        let recorded = on_record.get().and_then(|record: &Record| record.masquerade_chain.clone());
        match recorded {
            // An empty list of addresses would match the container's other interfaces too.
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
    // Last: the record identifies the chain until the chain is gone.
    if on_record.get().is_some()
        && let Some(records) = Records::open_if_any()?
    {
        records.take(By::Iptables, removal)?;
    }
    Ok(nft)
}

/// Deletes only the rules that this suite made for an attachment.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn delete_own(nft: &Nft, owner: &Owner, addresses: &[IpAddr]) -> Result<()> {
    let label = owner.label();
    delete_ours(nft, &nft.tables()?, addresses, &|other| Ok(other == label)).map(drop)
}

/// As [`delete`], for all attachments of a network except `valid`. Uses several transactions if
/// there is much to delete, so that it succeeds despite the commits of other processes, and delays
/// none of them for long.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn delete_but(network: &str, valid: &[Owner]) -> Result<Option<Nft>> {
    let prefix = Owner::label_prefix(network);
    let labels: HashSet<String> = valid.iter().map(Owner::label).collect();
    let owners: HashSet<Owner> = valid.iter().cloned().collect();
    // First: from here on, no process makes the rules again.
    intent::remove_all_but(By::Bridge, network, &owners)?;
    intent::remove_all_but(By::FastPath, network, &owners)?;
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

/// Calls `work` with the list of tables: one request shows that a host has none, as most hosts.
fn with_tables(work: impl FnOnce(&Nft, &[TableInfo]) -> Result<()>) -> Result<Option<Nft>> {
    let asked = Nft::open().and_then(|nft| nft.tables().map(|tables| (nft, tables)));
    match asked {
        Ok((nft, tables)) => work(&nft, &tables).map(|()| Some(nft)),
        // Without nf_tables there are no rules.
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
    let [packets, of_ports] = [TABLE, spoof::TABLE].map(|table| is_in(tables, &table));
    if !packets && !of_ports {
        return Ok(Left::Nothing);
    }
    if packets {
        fast_path::delete(nft, is_ours)?;
        sources::delete(nft, is_ours)?;
    }
    if of_ports {
        frames::delete(nft, is_ours)?;
    }
    nft.transact(|nft, batch| {
        let mut left = Left::Nothing;
        if packets {
            left = left.max(masquerade::delete(nft, batch, addresses, is_ours)?);
        }
        if of_ports {
            left = left.max(spoof::delete(nft, batch, is_ours)?);
        }
        Ok(left)
    })
}

/// Whether a list of tables contains this one.
pub(super) fn is_in(tables: &[TableInfo], wanted: &Table<'_>) -> bool {
    tables.iter().any(|table| table.family == Some(wanted.family) && table.name == wanted.name)
}
