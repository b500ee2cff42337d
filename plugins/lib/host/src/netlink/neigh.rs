//! Neighbour entries (ARP, NDP).

use std::net::IpAddr;

use super::Netlink;
use crate::{Mac, Result};

/// State of an entry that we set (linux/neighbour.h, `NUD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Confirmed now, ages like any other.
    Reachable,
    /// Believed until used.
    Stale,
    /// Never aged, never replaced by what the link says.
    Permanent,
}

impl Netlink {
    /// Sets a neighbour entry, replacing what was there.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set_neighbour(&self, index: u32, ip: IpAddr, mac: Mac, state: NeighbourState) -> Result<()> {
        unimplemented!()
    }

    /// Removes a neighbour entry.
    ///
    /// # Errors
    /// `is_not_found` when there is none.
    pub fn delete_neighbour(&self, index: u32, ip: IpAddr) -> Result<()> {
        unimplemented!()
    }
}
