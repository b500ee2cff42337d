//! Which device an attachment gets.

use netlink::Mac;

/// How the device is found on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The link of that name.
    Name(String),
    /// The first link with that Ethernet address.
    Mac(Mac),
    /// The link of a device of sysfs, whose directory has this path.
    Path(String),
    /// The link of the PCI device at that address.
    Pci(String),
    /// The link of the auxiliary device of that name.
    Auxiliary(String),
}
