//! Makes recorded publications again.

use nft::{Batch, Nft};
use sys::{Result, sysctl};

use super::layout::{LOCALNET, sets};
use super::{elements, flows, guard, localnet, retired, wire};
use crate::ports::Publication;
use crate::rules::{Group, Restored, TABLE, restore as restore_group};

/// Adds to `batch` what is missing of these publications. `were_off` are the links that had
/// `route_localnet` off before; `is_dropped` if the batch has the chains of masquerade. Call it
/// inside [`Nft::transact`], then call [`raise_localnet`].
///
/// # Errors
/// The kernel could not be asked.
pub fn restore(
    publications: &[Publication],
    were_off: &[&str],
    is_dropped: bool,
    nft: &Nft,
    batch: &mut Batch,
    restored: &mut Restored,
) -> Result<()> {
    if publications.is_empty() {
        return Ok(());
    }
    let mut wanted: Vec<_> = publications.iter().flat_map(elements::of).collect();
    let links = links(publications);
    for link in &links {
        wanted.push((LOCALNET, localnet::element(link, were_off.contains(link))));
    }
    let guards: Vec<_> = publications.iter().flat_map(guard::of).collect();
    let mut chains = wire::chains(links.into_iter(), || Ok(is_dropped))?;
    chains.extend(guards.iter().map(guard::Guard::filled));
    let group = Group { table: TABLE, sets: &sets(), chains: &chains, elements: wanted };
    restore_group(nft, batch, group, restored)?;
    if batch.is_empty() { Ok(()) } else { retired::delete(nft, batch) }
}

/// Lets the links of these publications carry 127.0.0.0/8 again; the links must be protected
/// already. Returns the number of links that had it off.
///
/// # Errors
/// The parameter of an existing link could not be set.
pub fn raise_localnet(publications: &[Publication]) -> Result<usize> {
    let mut raised = 0;
    for link in links(publications) {
        match sysctl::write(&localnet::key(link), "1") {
            Ok(changed) => raised += usize::from(changed),
            // The link is gone; a DEL will follow.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(raised)
}

/// Forgets the connections that neighbours opened to the host's loopback while rules were missing.
///
/// # Errors
/// The kernel refused.
pub fn forget_strangers(publications: &[Publication], nft: &Nft) -> Result<()> {
    if links(publications).is_empty() { Ok(()) } else { flows::forget_strangers(nft) }
}

/// The links by which the host's loopback reaches containers, each once.
fn links(publications: &[Publication]) -> Vec<&str> {
    let mut links: Vec<&str> = publications.iter().flat_map(Publication::by_loopback).collect();
    links.sort_unstable();
    links.dedup();
    links
}
