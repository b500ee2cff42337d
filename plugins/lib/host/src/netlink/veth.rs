//! A veth pair, made by one request.

use std::os::fd::BorrowedFd;

use super::Netlink;
use crate::{Mac, Result};

/// The near end of a pair, in the socket's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; none: the kernel draws one.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes; none: 1500.
    pub mtu: Option<u32>,
    /// Index of the bridge it becomes a port of.
    pub master: Option<u32>,
    /// Set up.
    pub up: bool,
    /// The far end.
    pub peer: VethPeer<'a>,
}

/// The far end of a pair.
#[derive(Clone, Copy, Debug)]
pub struct VethPeer<'a> {
    /// Its final name.
    pub name: &'a str,
    /// Its Ethernet address; none: the kernel draws one.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes; none: 1500.
    pub mtu: Option<u32>,
    /// The namespace it is born in ([`crate::NetNs`] is `AsFd`); none: the socket's own.
    pub netns: Option<BorrowedFd<'a>>,
    /// Set up. Leave it for later when addresses come first.
    pub up: bool,
}

impl Netlink {
    /// Makes the pair in one request: there is no instant at which one end is in the wrong place.
    ///
    /// # Errors
    /// `is_exists` when either name is taken in its namespace; whatever else the kernel said. Nothing was made.
    pub fn create_veth(&self, veth: &Veth<'_>) -> Result<()> {
        unimplemented!()
    }
}
