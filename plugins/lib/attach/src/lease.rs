//! Releases a lease and deletes the link with its address.

use cni::{Command, Error, Request};

/// IPAM plugins that only keep records. Others may need the link to release a lease: DHCP sends a
/// packet on it.
const KEEP_RECORDS: [&str; 3] = ["cluster", "host-local", "static"];

/// Deletes the link and has the IPAM plugin release its addresses.
///
/// # Errors
/// The link could not be deleted, or the IPAM plugin failed.
pub fn release(
    request: &Request,
    ipam: Option<&str>,
    delete_link: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(ipam) = ipam else { return delete_link() };
    if KEEP_RECORDS.contains(&ipam) {
        // The link first: an address becomes free only when no link answers for it.
        delete_link()?;
        return request.delegate(ipam, Command::Del);
    }
    let lease = request.delegate(ipam, Command::Del);
    // A failure is reported, so that DEL is tried again, but does not stop the other step.
    delete_link().and(lease)
}
