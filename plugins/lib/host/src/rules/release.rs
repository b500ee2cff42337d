//! Removes the rules that this suite made for living attachments, before another suite takes over:
//! its DEL does not know these rules, and a reused address would inherit a port.

use std::fmt;

use nft::Nft;
use sys::{Error, Result};

use super::{delete, firewall, published};
use crate::intent::{Record, Records};
use crate::{Owner, Removal, iptables};

/// The outcome.
#[derive(Debug, Default)]
pub struct Released {
    /// What was removed from each attachment, as text.
    pub taken: Vec<(Owner, String)>,
    /// Records that could not be read: their rules stay.
    pub unreadable: Vec<Error>,
}

impl Released {
    /// Prints the outcome on standard error, under the name of the program.
    pub fn report(&self, program: &str) {
        for error in &self.unreadable {
            eprintln!("{program}: {error:#}: nothing of it is taken away");
        }
        for (owner, what) in &self.taken {
            eprintln!("{program}: took from {} of container {}: {what}", owner.ifname, owner.container_id);
        }
        eprintln!("{program}: released {} attachments", self.taken.len());
    }
}

/// Removes the packet rules and records of all attachments, or of those of one network.
///
/// # Errors
/// The records cannot be listed; or the kernel refused, and what was removed before stays removed.
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
        firewall::withdraw(Some(nft), &removal)?;
        released.taken.push((record.owner.clone(), Words(&record).to_string()));
    }
    Ok(released)
}

/// Formats the contents of a record.
struct Words<'a>(&'a Record);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record {
            containers, masquerade, masquerade_chain, mac_filter, sources, fast_path, firewall, ..
        } = self.0;
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
        let addresses = fast_path.iter().flat_map(|(_, addresses)| addresses);
        words.extend(addresses.map(|address| format!("fast path of {address}")));
        words.extend(sources.iter().map(|(link, _)| format!("source check of {link}")));
        words.extend(mac_filter.iter().map(|(port, mac)| format!("MAC filter of {port} ({mac})")));
        words.extend(firewall.iter().map(|_| "what the firewall lets pass".to_owned()));
        f.write_str(&words.join(", "))
    }
}
