//! Restores recorded sources after a reload of firewalld, and removes those that no attachment
//! wants any more.

use std::collections::{HashMap, HashSet};

use sys::Result;

use super::client::{Firewalld, Outcome};
use super::lock;
use super::sources::remove;
use crate::Owner;
use crate::intent::{By, Records};
use crate::iptables::single;

/// Restores the sources of all attachments if this one is recorded; returns whether it is. For a
/// CHECK that finds its sources missing.
///
/// # Errors
/// The records could not be read, or firewalld does not answer.
pub fn mend(owner: &Owner) -> Result<bool> {
    let Some(records) = Records::open_if_any()? else { return Ok(false) };
    let record = records.read(By::Zone, owner).unwrap_or_default();
    if !record.is_some_and(|record| record.owner == *owner && record.zone.is_some_and(|zone| zone.settled)) {
        return Ok(false);
    }
    regain(&records).map(|_| true)
}

/// Restores the sources of all attachments; returns how many were missing. Without firewalld there
/// is nothing to restore.
///
/// # Errors
/// The records could not be read, or firewalld does not answer.
pub(crate) fn regain(records: &Records) -> Result<usize> {
    if records.of(By::Zone)?.is_empty() {
        return Ok(0);
    }
    let Some(mut firewalld) = Firewalld::open()? else { return Ok(0) };
    let _lock = lock()?;
    heal(records, &mut firewalld, None)
}

/// The same by a caller that holds the lock, except for one attachment.
pub(super) fn heal(records: &Records, firewalld: &mut Firewalld, except: Option<&Owner>) -> Result<usize> {
    let mut zones: HashMap<String, Option<HashSet<String>>> = HashMap::new();
    let mut restored = 0;
    for record in records.of(By::Zone)? {
        let Some(zone) = record.zone.filter(|_| Some(&record.owner) != except) else { continue };
        if !zone.settled {
            // Nobody works on it: it would hold the lock.
            remove(records, firewalld, &record.owner, &zone)?;
            records.remove_own(By::Zone, &record.owner)?;
            continue;
        }
        let there = match zones.get(&zone.name) {
            Some(there) => there,
            // A zone can be deleted; its sources have no other place.
            None => {
                let there = firewalld.sources(&zone.name).ok();
                zones.entry(zone.name.clone()).or_insert(there)
            }
        };
        let Some(there) = there else { continue };
        for address in zone.ours().filter(|address| !there.contains(&single(*address))) {
            // What an administrator has put into another zone meanwhile stays there.
            if firewalld.add(&zone.name, address)? == Outcome::Added {
                restored += 1;
            }
        }
    }
    Ok(restored)
}
