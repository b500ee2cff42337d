//! The leases in the servers' files.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::Software;

/// An address, or the first one of a prefix, that a client has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// When it expires, in seconds of the epoch.
    pub expires: u64,
}

/// The leases that have not expired.
pub fn current(software: Software, path: &Path) -> Result<Vec<Lease>> {
    let text = match fs::read_to_string(path) {
        // Some software creates the file with the first lease.
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut leases = match software {
        Software::Dnsmasq => dnsmasq(&text),
        Software::Kea => kea(&text),
        Software::Isc => isc(&text),
    };
    leases.retain(|lease| lease.expires > now);
    leases.sort();
    Ok(leases)
}

/// `EXPIRES CLIENT ADDRESS NAME ID`, and for DHCPv6 a line with the server's id.
fn dnsmasq(text: &str) -> Vec<Lease> {
    let lease = |line: &str| {
        let mut words = line.split(' ');
        let expires = words.next()?.parse().ok()?;
        Some(Lease { expires, address: words.nth(1)?.parse().ok()? })
    };
    text.lines().filter_map(lease).collect()
}

/// A table with a title; of an address the last row counts. A released lease has no lifetime left.
fn kea(text: &str) -> Vec<Lease> {
    let mut lines = text.lines();
    let title: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| title.iter().position(|of| *of == name);
    let columns = (column("address"), column("valid_lifetime"), column("expire"), column("state"));
    let (Some(address), Some(lifetime), Some(expire), Some(state)) = columns else { return vec![] };
    let mut last = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
        let Ok(address) = cell(address).parse::<IpAddr>() else { continue };
        let is_given = cell(lifetime) != "0" && cell(state) == "0";
        last.insert(address, cell(expire).parse().ok().filter(|_| is_given));
    }
    last.into_iter().filter_map(|(address, expires)| Some(Lease { address, expires: expires? })).collect()
}

/// Blocks with braces; of an address the last one counts.
fn isc(text: &str) -> Vec<Lease> {
    let mut last = BTreeMap::new();
    let mut open: Option<(IpAddr, Option<u64>, bool)> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.trim().trim_end_matches(';').split([' ', ';']).collect();
        match (words.as_slice(), &mut open) {
            (["lease" | "iaaddr", address, "{", ..], _) => {
                open = address.parse().ok().map(|it| (it, None, false))
            }
            (["ends", "epoch", expires, ..], Some(lease)) => lease.1 = expires.parse().ok(),
            (["binding", "state", state, ..], Some(lease)) => lease.2 = *state == "active",
            (["}", ..], _) => {
                if let Some((address, expires, is_active)) = open.take() {
                    last.insert(address, expires.filter(|_| is_active));
                }
            }
            _ => {}
        }
    }
    last.into_iter().filter_map(|(address, expires)| Some(Lease { address, expires: expires? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(leases: &[Lease]) -> Vec<String> {
        leases.iter().map(|lease| format!("{} {}", lease.address, lease.expires)).collect()
    }

    #[test]
    fn lines_of_dnsmasq_are_read() {
        let text = "1795973812 d6:65:46:27:b6:f1 198.51.100.147 * 00:63\nduid 00:01\n\
                    1795973900 1193046 2001:db8:ff::64 * 00:03\n";
        assert_eq!(shown(&dnsmasq(text)), ["198.51.100.147 1795973812", "2001:db8:ff::64 1795973900"]);
    }

    #[test]
    fn the_last_row_of_kea_counts() {
        let text = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n\
                    198.51.100.100,ca:1d,00:63,4,1795973676,1,0,0,,0,\n\
                    198.51.100.101,ca:1e,00:64,4,1795973680,1,0,0,,0,\n\
                    198.51.100.100,ca:1d,00:63,0,1795973674,1,0,0,,0,\n";
        assert_eq!(shown(&kea(text)), ["198.51.100.101 1795973680"]);
        assert_eq!(kea(""), []);
    }

    #[test]
    fn the_last_block_of_isc_counts() {
        let block = |address: &str, ends: &str, state: &str| {
            format!(
                "lease {address} {{\n  starts epoch 1; # x\n  ends epoch {ends}; # x\n  binding state {state};\n  next binding state free;\n}}\n"
            )
        };
        let text = block("198.51.100.100", "1795973684", "active")
            + &block("198.51.100.101", "1795973690", "active")
            + &block("198.51.100.100", "1795973686", "free");
        assert_eq!(shown(&isc(&text)), ["198.51.100.101 1795973690"]);
    }
}
