//! Makes all recorded rules again.

use std::collections::HashSet;
use std::fmt;

use netlink::Netlink;
use nft::Nft;
use sys::{Error, Result};

use super::{Addressed, FastPath, Guarded, Masqueraded, Overlaid, Restored, Sources, fast_path, published};
use crate::intent::{By, Record, Records};
use crate::ports::Publication;
use crate::{Attached, Owner, firewalld};

/// The outcome.
#[derive(Debug, Default)]
pub struct Reapplied {
    /// The number of attachments with recorded rules.
    pub recorded: usize,
    /// What was missing and is made again.
    pub restored: Restored,
    /// The number of links that got `route_localnet` back.
    pub localnet: usize,
    /// The number of sources that are in firewalld's zones again.
    pub sources: usize,
    /// Records that could not be read.
    pub unreadable: Vec<Error>,
    /// Owners of ports in iptables: if these are flushed, they are not made again.
    pub elsewhere: Vec<String>,
}

impl Reapplied {
    /// Prints the outcome on standard error, under the name of the program: failures first.
    pub fn report(&self, program: &str) {
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
        if self.restored.is_nothing() && self.localnet == 0 && self.sources == 0 {
            return f.write_str("everything is there");
        }
        write!(
            f,
            "rebuilt {elements} elements of {} attachments, {chains} chains, route_localnet of {} links",
            owners.len(),
            self.localnet
        )?;
        match self.sources {
            0 => Ok(()),
            sources => write!(f, ", {sources} sources of firewalld"),
        }
    }
}

/// Makes all rules again that are recorded but missing, in one transaction. Existing rules stay; if
/// nothing is missing, nothing is committed. Rules without a record are neither made again nor
/// deleted.
///
/// # Errors
/// The records cannot be listed; or the kernel refused, and nothing was made.
pub fn reapply(nft: &Nft) -> Result<Reapplied> {
    // Until this ends, no other process adds or deletes an attachment's rules.
    let Some(records) = Records::open_alone_if_any()? else { return Ok(Reapplied::default()) };
    let (mut all, mut unreadable) = records.all()?;
    all.retain(|record| record.masquerade_chain.is_none() && record.accepted.is_empty());
    let recorded = all.len();
    let in_zones = firewalld::regain(&records).unwrap_or_else(|error| {
        unreadable.push(error);
        0
    });
    all.retain(|record| record.zone.is_none());
    if all.is_empty() {
        return Ok(Reapplied { recorded, sources: in_zones, unreadable, ..Reapplied::default() });
    }
    forget_the_dead(&mut all);
    forget_gone_links(&mut all)?;
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
    let sources: Vec<Sources<'_>> = all
        .iter()
        .zip(&labels)
        .filter_map(|(record, label)| {
            let (link, addresses) = record.sources.as_ref()?;
            Some(Sources { link, addresses, label })
        })
        .collect();
    let addressed: Vec<Addressed<'_>> = all
        .iter()
        .zip(&labels)
        .filter_map(|(record, label)| {
            let (port, mac, addresses) = record.frames.as_ref()?;
            Some(Addressed { port, mac: *mac, addresses, label })
        })
        .collect();
    let networks: Vec<String> =
        all.iter().map(|record| Owner::network_label(&record.owner.network)).collect();
    let overlaid: Vec<Overlaid<'_>> = all
        .iter()
        .zip(&networks)
        .filter_map(|(record, label)| Some(Overlaid { network: record.overlay.as_ref()?, label }))
        .collect();
    let guard = records.guard();
    let fast_paths: Vec<FastPath<'_>> = all
        .iter()
        .zip(&labels)
        .filter_map(|(record, label)| {
            let (links, addresses) = record.fast_path.as_ref()?;
            Some(FastPath { addresses, links, label })
        })
        .collect();
    let uplinks = if fast_paths.is_empty() { Vec::new() } else { fast_path::uplinks(&Netlink::open()?)? };
    let attached: Vec<(&Attached, &Owner)> = all
        .iter()
        .filter_map(|record| record.firewall.as_ref().map(|attached| (attached, &record.owner)))
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
        Sources::restore(&sources, nft, batch, &mut restored)?;
        Addressed::restore(&addressed, nft, batch, &mut restored)?;
        Overlaid::restore(&overlaid, &guard, nft, batch, &mut restored)?;
        published::restore(&publications, &localnet, !masqueraded.is_empty(), nft, batch, &mut restored)?;
        Attached::restore(&attached, nft, batch, &mut restored)?;
        FastPath::restore(&fast_paths, &uplinks, nft, batch, &mut restored)?;
        Ok(restored)
    })?;
    if !restored.is_nothing() {
        published::forget_strangers(&publications, nft)?;
    }
    for (attached, owner) in &attached {
        if let Err(error) = attached.ways.open(&owner.network, nft) {
            unreadable.push(error.within(format!("network {} in another firewall's chain", owner.network)));
        }
    }
    let localnet = published::raise_localnet(&publications)?;
    let elsewhere = all.iter().zip(labels).filter(|(record, _)| record.chain.is_some());
    let elsewhere = elsewhere.map(|(_, label)| label).collect();
    Ok(Reapplied { recorded, restored, localnet, sources: in_zones, unreadable, elsewhere })
}

/// As [`reapply`], if the attachment is recorded: for a CHECK that finds its rules missing. `None`
/// without a readable record: rules that were never made, or not by this suite, are not made again.
///
/// # Errors
/// As [`reapply`].
pub fn mend(nft: &Nft, by: By, owner: &Owner) -> Result<Option<Reapplied>> {
    let on_record = match Records::open_if_any()? {
        Some(records) => [by, By::FastPath].iter().any(|by| matches!(records.read(*by, owner), Ok(Some(_)))),
        None => false,
    };
    if on_record { reapply(nft).map(Some) } else { Ok(None) }
}

/// The newest record of an address is that of its owner. An older one is of an attachment that
/// still awaits its DEL, and nothing may lead there.
fn forget_the_dead(newest_first: &mut [Record]) {
    let mut published = HashSet::new();
    let mut masqueraded = HashSet::new();
    let mut fast = HashSet::new();
    let mut accepted = HashSet::new();
    for record in newest_first {
        record.containers.retain(|container| published.insert(container.address));
        if let Some((addresses, _)) = &mut record.masquerade {
            addresses.retain(|address| masqueraded.insert(*address));
        }
        if let Some(attached) = &mut record.firewall {
            attached.accepted.retain(|address| accepted.insert(*address));
        }
        if let Some((_, addresses)) = &mut record.fast_path {
            addresses.retain(|address| fast.insert(*address));
        }
    }
}

/// A flowtable takes only links that exist.
fn forget_gone_links(all: &mut [Record]) -> Result<()> {
    let mut there = None;
    for (links, _) in all.iter_mut().filter_map(|record| record.fast_path.as_mut()) {
        let there = match &there {
            Some(there) => there,
            None => {
                let links = Netlink::open()?.links()?.into_iter();
                there.insert(links.map(|link| link.name).collect::<HashSet<String>>())
            }
        };
        links.retain(|link| there.contains(link));
    }
    Ok(())
}
