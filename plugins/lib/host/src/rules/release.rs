//! Taking away what we made for attachments that live on, before another suite takes over: its DEL knows nothing of our
//! rules, and a freed address would inherit a port.

use std::fmt;

use nft::Nft;
use sys::{Error, Result};

use super::{delete, published};
use crate::intent::{Record, Records};
use crate::{Owner, Removal, iptables};

/// What came of it.
#[derive(Debug, Default)]
pub struct Released {
    /// What was taken from each attachment, in words.
    pub taken: Vec<(Owner, String)>,
    /// Records that could not be read: what they are of stays.
    pub unreadable: Vec<Error>,
}

impl Released {
    /// Reports it on standard error, in the name of the program that did it.
    pub fn tell(&self, program: &str) {
        for error in &self.unreadable {
            eprintln!("{program}: {error:#}: nothing of it is taken away");
        }
        for (owner, what) in &self.taken {
            eprintln!("{program}: took from {} of container {}: {what}", owner.ifname, owner.container_id);
        }
        eprintln!("{program}: released {} attachments", self.taken.len());
    }
}

/// Takes the packet rules and records of all attachments away, or of one network's.
///
/// # Errors
/// The records cannot be listed; or the kernel refused, and what was taken before stays away.
pub fn release(nft: &Nft, network: Option<&str>) -> Result<Released> {
    let (mut records, unreadable) = match Records::open_if_any()? {
        Some(records) => records.all()?,
        None => return Ok(Released::default()),
    };
    records.retain(|record| network.is_none_or(|network| record.owner.network == network));
    let mut released = Released { taken: Vec::new(), unreadable };
    for record in records {
        let removal = Removal::new(record.owner.clone(), "", Vec::new());
        let ports = published::withdraw(nft, &removal, None)?;
        iptables::withdraw_from_old_tables(&ports.chains, &|chain| {
            published::is_in_use(nft, &record.owner, chain)
        })?;
        delete(&removal, &[])?;
        released.taken.push((record.owner.clone(), Words(&record).to_string()));
    }
    Ok(released)
}

/// What a record is of.
struct Words<'a>(&'a Record);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { containers, masquerade, masquerade_chain, mac_filter, .. } = self.0;
        let mut words: Vec<String> = Vec::new();
        for container in containers {
            for mapping in container.merged() {
                let (first, last) = mapping.ports;
                words.push(format!("host ports {first} to {last} of {}", container.address));
            }
        }
        let addresses = masquerade.iter().map(|(addresses, _)| addresses);
        for address in addresses.chain(masquerade_chain.iter().map(|(_, addresses)| addresses)).flatten() {
            words.push(format!("masquerade of {address}"));
        }
        words.extend(mac_filter.iter().map(|(port, mac)| format!("MAC filter of {port} ({mac})")));
        f.write_str(&words.join(", "))
    }
}
