//! Making everything anew that is on record.

use std::collections::HashSet;
use std::fmt;

use nft::Nft;
use sys::{Error, Result};

use super::published;
use super::{Guarded, Masqueraded, Restored};
use crate::Owner;
use crate::intent::{By, Record, Records};
use crate::ports::Publication;

/// What came of it.
#[derive(Debug, Default)]
pub struct Reapplied {
    /// Attachments whose rules are on record.
    pub recorded: usize,
    /// What was missing and is there again.
    pub restored: Restored,
    /// Links that have got `route_localnet` back.
    pub localnet: usize,
    /// Records that could not be read.
    pub unreadable: Vec<Error>,
    /// Owners of ports that iptables has: if somebody flushed these, they are not made again.
    pub elsewhere: Vec<String>,
}

impl Reapplied {
    /// Tells it on standard error, in the name of the program that did it: what it could not do, then what it did.
    pub fn tell(&self, program: &str) {
        for error in &self.unreadable {
            eprintln!("{program}: {error:#}: these rules are not made again");
        }
        for conflict in &self.restored.conflicts {
            eprintln!("{program}: not made again: {conflict}");
        }
        for label in self.elsewhere.iter().filter(|label| self.restored.owners.contains(*label)) {
            eprintln!("{program}: ports of {label} are in iptables: not made again; another ADD makes them");
        }
        eprintln!("{program}: {self}");
    }
}

impl fmt::Display for Reapplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restored { owners, elements, chains, .. } = &self.restored;
        write!(f, "{} records of packet rules: ", self.recorded)?;
        if self.restored.is_nothing() && self.localnet == 0 {
            return f.write_str("everything is there");
        }
        write!(
            f,
            "rebuilt {elements} elements of {} attachments, {chains} chains, route_localnet of {} links",
            owners.len(),
            self.localnet
        )
    }
}

/// Makes everything again that is on record and missing, in one transaction; what is there stays, and when nothing is
/// missing nothing is committed. What has no record does not come back, and is not deleted either.
///
/// # Errors
/// The records cannot be listed; or the kernel refused, and nothing was made.
pub fn reapply(nft: &Nft) -> Result<Reapplied> {
    // Until this ends nobody adds or deletes an attachment's rules.
    let Some(records) = Records::open_alone_if_any()? else { return Ok(Reapplied::default()) };
    let (mut all, unreadable) = records.all()?;
    all.retain(|record| record.masquerade_chain.is_none());
    let recorded = all.len();
    if all.is_empty() {
        return Ok(Reapplied { unreadable, ..Reapplied::default() });
    }
    forget_the_dead(&mut all);
    let labels: Vec<String> = all.iter().map(|record| record.owner.label()).collect();
    let masqueraded: Vec<Masqueraded<'_>> = all
        .iter()
        .zip(&labels)
        .filter_map(|(record, label)| {
            let (addresses, inside) = record.masquerade.as_ref()?;
            Some(Masqueraded { addresses, inside, label })
        })
        .collect();
    let guarded: Vec<Guarded<'_>> = all
        .iter()
        .zip(&labels)
        .filter_map(|(record, label)| {
            let (port, mac) = record.mac_filter.as_ref()?;
            Some(Guarded { port, mac: *mac, label })
        })
        .collect();
    let publications: Vec<Publication> = all
        .iter()
        .filter(|record| !record.containers.is_empty())
        .map(|record| Publication {
            owner: record.owner.clone(),
            containers: record.containers.clone(),
            chain: record.chain.clone(),
            chosen: Vec::new(),
            netns: None,
        })
        .collect();
    let localnet: Vec<&str> = all.iter().flat_map(|record| &record.localnet).map(String::as_str).collect();
    let restored = nft.transact(|nft, batch| {
        let mut restored = Restored::default();
        Masqueraded::restore(&masqueraded, nft, batch, &mut restored)?;
        Guarded::restore(&guarded, nft, batch, &mut restored)?;
        published::restore(&publications, &localnet, nft, batch, &mut restored)?;
        Ok(restored)
    })?;
    let localnet = published::raise_localnet(&publications)?;
    let elsewhere = all.iter().zip(labels).filter(|(record, _)| record.chain.is_some());
    let elsewhere = elsewhere.map(|(_, label)| label).collect();
    Ok(Reapplied { recorded, restored, localnet, unreadable, elsewhere })
}

/// Makes again what is on record, as [`reapply`], if an attachment's own rules are: those that a CHECK misses. `None`
/// without a record that can be read: what was never made, or not by us, is not ours to make.
///
/// # Errors
/// As [`reapply`].
pub fn mend(nft: &Nft, by: By, owner: &Owner) -> Result<Option<Reapplied>> {
    let on_record = match Records::open_if_any()? {
        Some(records) => matches!(records.read(by, owner), Ok(Some(_))),
        None => false,
    };
    if on_record { reapply(nft).map(Some) } else { Ok(None) }
}

/// Who has an address now is the one that wrote his record last: of one that had it before, and whose DEL has not
/// come, nothing is to lead there.
fn forget_the_dead(newest_first: &mut [Record]) {
    let mut published = HashSet::new();
    let mut masqueraded = HashSet::new();
    for record in newest_first {
        record.containers.retain(|container| published.insert(container.address));
        if let Some((addresses, _)) = &mut record.masquerade {
            addresses.retain(|address| masqueraded.insert(*address));
        }
    }
}
