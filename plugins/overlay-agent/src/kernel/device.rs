//! The VXLAN device of a network.

use netlink::{Link, Netlink};
use sys::Result;

/// The device as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The name of the network's bridge.
    pub bridge: String,
}

impl Device {
    /// The device, if it is there.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn find(&self, links: &Netlink) -> Result<Option<Link>> {
        let link = links.link_by_name(&self.name)?;
        Ok(link.filter(|link| link.kind.as_deref() == Some("vxlan")))
    }
}
