//! A bridge port on which the bridge learns no addresses.

use netlink::{Mac, PortChange};
use sys::Result;

use super::{Kernel, Part, Place, Undo};
use crate::Drift;

/// Frames to link-local groups (01:80:c2:00:00:0x: LLDP and the like) end at the port, before any
/// packet filter of the bridge; yet the bridge learns their source address. A forged one diverts
/// its owner's traffic. So a port with a checked MAC address does not learn, and has that address
/// as a permanent entry.
///
/// A bridge that does not learn from such frames, like those that we create, does not need this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedMac {
    /// Name of the bridge.
    pub bridge: String,
    /// Name of the port.
    pub port: String,
    /// The container's MAC address.
    pub mac: Mac,
}

impl Part for FixedMac {
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        if !kernel.learns_from_link_local(&self.bridge)? {
            return Ok(());
        }
        let failed = |error: sys::Error| error.within("failed to setup spoof-check".into());
        let index = kernel.index(Place::Host, &self.port)?;
        kernel.host.set_forwarding_entry(index, self.mac).map_err(failed)?;
        let change = PortChange { learning: Some(false), ..PortChange::default() };
        kernel.host.set_bridge_port(index, &change).map_err(failed)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        // A missing link, or one that is not a port, is the veth's drift.
        let port = kernel.host.link_by_name(&self.port)?.and_then(|link| link.port);
        if !port.is_some_and(|port| port.learning) || !kernel.learns_from_link_local(&self.bridge)? {
            return Ok(Vec::new());
        }
        Ok(vec![Drift::new(format!("learning of port {}", self.port), "off", "on")])
    }
}
