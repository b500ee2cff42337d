//! Waiting for the kernel: by its events, never by sleeping, and never past a deadline.

use std::time::Instant;

use super::{Address, Link, Netlink};
use crate::Result;

impl Netlink {
    /// Waits until the link is up and, if it is a bridge port, forwards; gives it as it then is.
    ///
    /// # Errors
    /// [`crate::Error::PortState`] at the deadline; `is_not_found` when the link goes away.
    pub fn wait_for_port_forwarding(&self, index: u32, deadline: Instant) -> Result<Link> {
        unimplemented!()
    }

    /// Waits until no address of the link is tentative; gives them.
    ///
    /// # Errors
    /// [`crate::Error::DuplicateAddress`] as soon as one has failed; [`crate::Error::TentativeAddress`] at the deadline.
    pub fn wait_for_addresses(&self, index: u32, deadline: Instant) -> Result<Vec<Address>> {
        unimplemented!()
    }
}
