//! The sources of an attachment: how they are made, verified and removed.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::IpAddr;

use sys::{Error, Result};

use super::client::{Firewalld, Outcome};
use super::{heal, lock};
use crate::intent::{By, Record, Records};
use crate::iptables::single;
use crate::{Drift, Owner, Removal, Source, Zone, notice};

/// The addresses of an attachment, which must be sources of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Their owner.
    pub owner: Owner,
    /// The zone.
    pub zone: String,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

impl Sources {
    /// Makes and records them, and also what a reload has taken from other attachments.
    ///
    /// # Errors
    /// firewalld does not run, does not answer, or refused; nothing is left of this call.
    pub fn add(&self) -> Result<()> {
        let records = Records::open()?;
        let mut firewalld = Firewalld::require()?;
        let _lock = lock()?;
        let before = records.read(By::Zone, &self.owner).unwrap_or_default();
        heal::heal(&records, &mut firewalld, Some(&self.owner))?;
        let there = firewalld.sources(&self.zone)?;
        let mut zone = self.wanted(&records, &there)?;
        if let Some(earlier) = before.as_ref().and_then(|record| record.zone.as_ref()) {
            self.take_over(&records, &mut firewalld, earlier, &mut zone)?;
        }
        let write = |zone: &Zone| {
            let record = Record { zone: Some(zone.clone()), ..Record::new(self.owner.clone()) };
            records.write(By::Zone, &record)
        };
        write(&zone)?;
        let mut added = Vec::new();
        let made = self.make(&mut firewalld, &mut zone.sources, &there, &mut added).and_then(|()| {
            zone.settled = true;
            write(&zone)
        });
        if made.is_err() && added.iter().try_for_each(|one| firewalld.remove(&self.zone, *one)).is_ok() {
            let _ = match &before {
                Some(before) => records.write(By::Zone, before),
                None => records.remove_own(By::Zone, &self.owner),
            };
        }
        // If they could not be removed, the record remembers them for the DEL that follows.
        made
    }

    /// The zone, with what is there already.
    fn wanted(&self, records: &Records, there: &HashSet<String>) -> Result<Zone> {
        let ours = claimed(records, &self.zone, |_| true)?;
        let source = |address: &IpAddr| Source {
            address: *address,
            is_ours: !there.contains(&single(*address)) || ours.contains(address),
        };
        let sources = self.addresses.iter().map(source).collect();
        Ok(Zone { name: self.zone.clone(), settled: false, sources })
    }

    /// Keeps an earlier ADD's sources for DEL; those of another zone are removed first.
    fn take_over(
        &self,
        records: &Records,
        firewalld: &mut Firewalld,
        earlier: &Zone,
        zone: &mut Zone,
    ) -> Result<()> {
        if earlier.name != self.zone {
            return remove(records, firewalld, &self.owner, earlier);
        }
        let is_new = |source: &&Source| !self.addresses.contains(&source.address);
        zone.sources.extend(earlier.sources.iter().filter(is_new).copied());
        Ok(())
    }

    /// Makes the missing ones; `added` gets those that may exist because of this.
    fn make(
        &self,
        firewalld: &mut Firewalld,
        sources: &mut [Source],
        there: &HashSet<String>,
        added: &mut Vec<IpAddr>,
    ) -> Result<()> {
        let is_missing = |source: &&mut Source| {
            self.addresses.contains(&source.address) && !there.contains(&single(source.address))
        };
        for source in sources.iter_mut().filter(is_missing) {
            // First: a call without an answer may have been heard.
            added.push(source.address);
            match firewalld.add(&self.zone, source.address)? {
                Outcome::Added => {}
                // An administrator's, of this moment.
                Outcome::WasThere => {
                    added.pop();
                    source.is_ours = false;
                }
                Outcome::Elsewhere(other) => return Err(self.conflict(source.address, &other)),
            }
        }
        Ok(())
    }

    fn conflict(&self, address: IpAddr, other: &str) -> Error {
        let source = single(address);
        let reason = format!("it is one of zone {other:?}, where somebody has put it, and stays there");
        let object = format!("source {source} to firewalld's zone {:?}", self.zone);
        Error::new("add", object, io::Error::new(ErrorKind::AlreadyExists, reason))
    }

    /// Lists the addresses that are no sources of the zone.
    ///
    /// # Errors
    /// firewalld does not run, or does not answer.
    pub fn verify(&self) -> Result<Vec<Drift>> {
        let there = Firewalld::require()?.sources(&self.zone)?;
        let missing = self.addresses.iter().map(|address| single(*address));
        let missing = missing.filter(|source| !there.contains(source));
        let what = |source| format!("source {source} of firewalld's zone {}", self.zone);
        Ok(missing.map(|source| Drift::new(what(source), "present", "absent")).collect())
    }
}

/// The sources of a zone that this suite made, for the attachments that `is_meant` accepts.
pub(super) fn claimed(
    records: &Records,
    zone: &str,
    is_meant: impl Fn(&Owner) -> bool,
) -> Result<HashSet<IpAddr>> {
    let of = records.of(By::Zone)?.into_iter().filter(|record| is_meant(&record.owner));
    let zones = of.filter_map(|record| record.zone).filter(|of| of.name == zone);
    Ok(zones.flat_map(|zone| zone.ours().collect::<Vec<_>>()).collect())
}

/// Removes the sources of an attachment that this suite made; `known` addresses in `zone`, if
/// nothing is recorded, because the reference made and did not record them. firewalld's failure is
/// reported in the log: then the record remembers what to remove later.
///
/// # Errors
/// The records could not be read or written, or a system call failed.
pub fn withdraw(removal: &Removal, zone: Option<&str>, known: &[IpAddr]) -> Result<()> {
    let records = Records::open_if_any()?;
    if let Some(records) = &records
        && let Some(record) = records.read(By::Zone, removal.owner()).unwrap_or_default()
    {
        if !removal.takes(&record.owner.label())? {
            return Ok(());
        }
        return give_up(records, record);
    }
    if let Some(records) = &records {
        // An unreadable one.
        records.take(By::Zone, removal)?;
    }
    if let Some(zone) = zone.filter(|_| !known.is_empty())
        && let Err(error) = remove_of_reference(records.as_ref(), zone, known)
    {
        if !is_firewallds(&error) {
            return Err(error);
        }
        notice(format_args!("firewall: {error:#}"));
    }
    Ok(())
}

/// As [`withdraw`], for all attachments of a network except `valid`.
///
/// # Errors
/// As [`withdraw`].
pub fn withdraw_all_but(network: &str, valid: &[Owner]) -> Result<()> {
    let Some(records) = Records::open_if_any()? else { return Ok(()) };
    let valid: HashSet<Owner> = valid.iter().cloned().collect();
    let stale = records.all_but(By::Zone, network, &valid)?;
    stale.into_iter().try_for_each(|record| give_up(&records, record))
}

/// From here on the sources are not wanted, even if firewalld cannot be asked now.
fn give_up(records: &Records, mut record: Record) -> Result<()> {
    let owner = record.owner.clone();
    if let Some(zone) = &mut record.zone {
        zone.settled = false;
    }
    records.write(By::Zone, &record)?;
    let removed = Firewalld::open().and_then(|firewalld| {
        // Without firewalld there are no sources.
        let (Some(mut firewalld), Some(zone)) = (firewalld, &record.zone) else { return Ok(()) };
        let _lock = lock()?;
        remove(records, &mut firewalld, &owner, zone)
    });
    match removed {
        Ok(()) => records.remove_own(By::Zone, &owner),
        Err(error) if is_firewallds(&error) => {
            notice(format_args!(
                "firewall: {error:#}: the sources of container {} are removed by the next ADD, GC or reapply",
                owner.container_id
            ));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Whether firewalld or its bus is the cause, and not a system call of this process.
fn is_firewallds(error: &Error) -> bool {
    error.reason().is_some_and(|reason| !matches!(reason, dbus::Error::Io { .. }))
}

/// Removes the sources of a zone that this suite made for the owner, and for nobody else.
pub(super) fn remove(records: &Records, firewalld: &mut Firewalld, owner: &Owner, zone: &Zone) -> Result<()> {
    let others = claimed(records, &zone.name, |other| other != owner)?;
    let mut going = zone.ours().filter(|address| !others.contains(address));
    going.try_for_each(|address| firewalld.remove(&zone.name, address))
}

/// What is neither permanent nor of a recorded attachment.
fn remove_of_reference(records: Option<&Records>, zone: &str, known: &[IpAddr]) -> Result<()> {
    let Some(mut firewalld) = Firewalld::open()? else { return Ok(()) };
    let there = firewalld.sources(zone)?;
    if !known.iter().any(|address| there.contains(&single(*address))) {
        return Ok(());
    }
    let recorded: HashSet<IpAddr> = match records {
        Some(records) => {
            let zones = records.of(By::Zone)?.into_iter().filter_map(|record| record.zone);
            zones.flat_map(|zone| zone.sources).map(|source| source.address).collect()
        }
        None => HashSet::new(),
    };
    for address in known.iter().filter(|a| there.contains(&single(**a)) && !recorded.contains(a)) {
        if !firewalld.is_permanent(*address)? {
            firewalld.remove(zone, *address)?;
        }
    }
    Ok(())
}
