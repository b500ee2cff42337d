//! Kernel parameters under `/proc/sys`, of the network namespace that the calling thread is in
//! (see [`crate::NetNs::enter`]).
//!
//! A key's components are separated by `/`, because interface names may hold dots: `net/ipv4/conf/eth0.5/arp_notify`.

use crate::Result;

/// The value, without the newline at its end.
///
/// # Errors
/// The key is malformed, or there is no such parameter (`is_not_found`), or it cannot be read.
pub fn read(key: &str) -> Result<String> {
    unimplemented!()
}

/// Writes `value` if another one is there; says whether it did.
/// A read-only `/proc/sys` is no error when the value holds already.
///
/// # Errors
/// The key is malformed, or there is no such parameter (`is_not_found`), or it cannot be written.
pub fn write(key: &str, value: &str) -> Result<bool> {
    unimplemented!()
}
