//! Runs every reader of rtnetlink messages, for the fuzzer.

use crate::link::{read, vlan};
use crate::{addr, nsid, route, tc};

/// Reads a payload as every kind of answer that we request: no content may make a reader panic.
pub fn payload(payload: &[u8]) {
    let _ = (read::link(payload), addr::read(payload), vlan::read(payload, 1), nsid::read(payload));
    tc::read_any(payload);
    for family in [libc::AF_INET, libc::AF_INET6] {
        let _ = u8::try_from(family).map(|family| route::read::routes(family, payload));
    }
}
