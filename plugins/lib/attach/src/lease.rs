//! Giving a lease back, and the link that it is for.

use cni::{Command, Error, Request};

/// IPAM plugins that only keep records. The others may need the link to give a lease back: DHCP sends a packet by it.
const KEEP_RECORDS: [&str; 2] = ["host-local", "static"];

/// Deletes the link and has the IPAM plugin release its addresses.
///
/// # Errors
/// The link could not be deleted, or the IPAM plugin's own.
pub fn release(
    request: &Request,
    ipam: Option<&str>,
    delete_link: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(ipam) = ipam else { return delete_link() };
    if KEEP_RECORDS.contains(&ipam) {
        // The link first: an address is free when nobody can answer for it any more.
        delete_link()?;
        return request.delegate(ipam, Command::Del);
    }
    let lease = request.delegate(ipam, Command::Del);
    // What could not be done must be tried again, but keeps nothing else from being done.
    delete_link().and(lease)
}
