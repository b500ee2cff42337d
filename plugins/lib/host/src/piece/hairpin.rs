//! A container's access to its own published port if br_netfilter is on. The kernel then rewrites
//! the destination while the frame is still in the bridge, and forwards it there: it must leave by
//! the port that it arrived on.

use netlink::PortChange;
use sys::{Result, sysctl};

use super::{Kernel, Part, Undo};
use crate::Drift;

/// Bridge ports in hairpin mode, if this host needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hairpin {
    /// Links of the host; one that is not a bridge port stays as it is.
    pub links: Vec<String>,
}

impl Part for Hairpin {
    // Deleting the link undoes it.
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        // Without br_netfilter these parameters do not exist, and packets to the host's address are
        // routed.
        let is_on = |family| {
            sysctl::read(&format!("net/bridge/bridge-nf-call-{family}tables")).is_ok_and(|on| on == "1")
        };
        if !is_on("ip") && !is_on("ip6") {
            return Ok(());
        }
        for name in &self.links {
            let Some(link) = kernel.host.link_by_name(name)? else { continue };
            if link.port.is_some_and(|port| !port.hairpin) {
                let change = PortChange { hairpin: Some(true), ..PortChange::default() };
                kernel.host.set_bridge_port(link.index, &change)?;
            }
        }
        Ok(())
    }

    // The bridge belongs to another plugin, and its CHECK verifies the port.
    fn verify(&self, _: &mut Kernel) -> Result<Vec<Drift>> {
        Ok(Vec::new())
    }
}
