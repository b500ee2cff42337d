//! A device of the host in a container.

use netlink::Mac;
use sys::Result;

use super::{Kernel, Part, Place, Undo};
use crate::device::take;
use crate::{Drift, Owner};

/// A link of the host that moved to the container; see [`crate::device`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// Its name on the host.
    pub name: String,
    /// The attachment that has it, under its interface name.
    pub owner: Owner,
    /// The path of the container's namespace.
    pub netns: String,
    /// Whether its addresses and routes come back with it.
    pub restore: bool,
    /// Its Ethernet address, if it is known.
    pub mac: Option<Mac>,
}

impl Part for HostDevice {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        undo.push(Undo::Device(self.owner.clone()));
        let sandbox = (kernel.netlink(Place::Sandbox)?, kernel.netns()?);
        take(&kernel.host, sandbox, &self.owner, &self.netns, (&self.name, self.restore))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let name = &self.owner.ifname;
        let Some(link) = kernel.netlink(Place::Sandbox)?.link_by_name(name)? else {
            return Ok(vec![Drift::new(format!("interface {name}"), "present", "missing")]);
        };
        let actual = link.mac.map_or_else(|| "none".into(), |mac| mac.to_string());
        let drift = self
            .mac
            .and_then(|mac| Drift::unless_equal(format!("MAC address of {name}"), mac.to_string(), actual));
        Ok(drift.into_iter().collect())
    }
}
