//! Addresses of links.

use ipnetwork::IpNetwork;

use super::Netlink;
use crate::Result;

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub index: u32,
    /// The address, with host bits, and its prefix length.
    pub net: IpNetwork,
    /// `IFA_F_*` of linux/if_addr.h.
    pub flags: u32,
    /// `RT_SCOPE_*` of linux/rtnetlink.h: 0 global, 253 link, 254 host.
    pub scope: u8,
}

/// An address to add.
#[derive(Clone, Copy, Debug)]
pub struct NewAddress {
    /// Index of the link.
    pub index: u32,
    /// The address, with host bits, and its prefix length.
    pub net: IpNetwork,
    /// IPv6: do not look for duplicates (IFA_F_NODAD); it can be used at once.
    pub nodad: bool,
}

impl Address {
    /// Duplicate address detection is not done: it cannot be bound yet.
    pub fn tentative(&self) -> bool {
        unimplemented!()
    }

    /// Another node has it.
    pub fn dad_failed(&self) -> bool {
        unimplemented!()
    }
}

impl Netlink {
    /// The addresses of a link, or of all.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn addresses(&self, index: Option<u32>) -> Result<Vec<Address>> {
        unimplemented!()
    }

    /// Adds an address, scope global; IPv4 with a prefix shorter than /31 gets its broadcast address.
    ///
    /// # Errors
    /// `is_exists` when the link has the same address with the same prefix length (IPv6: with any).
    pub fn add_address(&self, address: &NewAddress) -> Result<()> {
        unimplemented!()
    }

    /// Removes an address.
    ///
    /// # Errors
    /// `is_not_found` when the link does not have it, or there is no such link.
    pub fn delete_address(&self, index: u32, net: IpNetwork) -> Result<()> {
        unimplemented!()
    }
}
