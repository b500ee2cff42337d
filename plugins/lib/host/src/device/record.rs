//! What a record keeps of a device.

use netlink::{Link, Mac, Netlink, Parameter, Saved};
use sys::Result;

use crate::{Namespace, Owner};

/// A device of the host as it was before it moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index; 0 is unknown.
    pub index: u32,
    /// Its driver's kind; `None` for hardware, which a container cannot make.
    pub kind: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its hardware's Ethernet address.
    pub permanent_mac: Option<Mac>,
    /// Its MTU, in bytes; 0 is unknown.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// The administrator's alias; empty if it had none.
    pub alias: String,
    /// Its kernel parameters.
    pub parameters: Vec<Parameter>,
    /// Its addresses and routes, in the order in which they are restored.
    pub restored: Vec<Saved>,
}

/// A device that an attachment has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The attachment.
    pub owner: Owner,
    /// The container's namespace.
    pub netns: Option<Namespace>,
    /// The index that the device has in the container.
    pub taken_index: u32,
    /// Whether DEL has released it without finding it: the kernel has not returned it yet.
    pub released: bool,
    /// The device as it was.
    pub device: Device,
}

impl Device {
    /// The state of a link now; with its addresses and routes if they are to come back.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn of(host: &Netlink, link: &Link, restore: bool) -> Result<Self> {
        let restored = if restore { host.save(link)? } else { Vec::new() };
        Ok(Self {
            up: link.up(),
            alias: link.alias.clone().unwrap_or_default(),
            parameters: host.parameters(link.index)?,
            restored,
            ..Self::bare(link)
        })
    }

    /// What identifies a link, and nothing that an administrator has set.
    pub(super) fn bare(link: &Link) -> Self {
        Self {
            name: link.name.clone(),
            index: link.index,
            kind: link.kind.clone(),
            mac: link.mac,
            permanent_mac: link.permanent_mac,
            mtu: link.mtu,
            up: false,
            alias: String::new(),
            parameters: Vec::new(),
            restored: Vec::new(),
        }
    }

    /// Whether a link is hardware, which the kernel returns from a dead namespace to the initial
    /// one; it destroys others.
    pub(super) fn is_hardware(&self) -> bool {
        self.kind.is_none()
    }
}

impl Record {
    /// The name that the device has on the host while another link has its own.
    pub(super) fn waiting_name(&self) -> String {
        format!("moordev{:08x}", self.owner.tag())
    }
}
