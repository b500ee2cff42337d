//! VLANs of bridge ports.

use super::Netlink;
use crate::Result;

/// VLANs of a port that have the same flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortVlans {
    /// Lowest id, 1 to 4094.
    pub first: u16,
    /// Highest id; `first` for one VLAN.
    pub last: u16,
    /// Untagged frames that come in belong to it (one VLAN only).
    pub pvid: bool,
    /// Frames of it go out without a tag.
    pub untagged: bool,
}

impl Netlink {
    /// The VLANs of a port.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn port_vlans(&self, index: u32) -> Result<Vec<PortVlans>> {
        unimplemented!()
    }

    /// Adds VLANs to a port; those it has get these flags.
    ///
    /// # Errors
    /// `is_not_supported`: the kernel has no bridge VLAN filtering. Invalid ids are EINVAL.
    pub fn add_port_vlans(&self, index: u32, vlans: PortVlans) -> Result<()> {
        unimplemented!()
    }

    /// Removes VLANs from a port; the flags do not matter.
    ///
    /// # Errors
    /// `is_not_supported`: the kernel has no bridge VLAN filtering.
    pub fn delete_port_vlans(&self, index: u32, vlans: PortVlans) -> Result<()> {
        unimplemented!()
    }
}
