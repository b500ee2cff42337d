//! A container's way to its own published port where br_netfilter is on. The kernel then rewrites the destination while
//! the frame is still the bridge's, and sends it on from there: it must leave by the port that it came in by.

use netlink::PortChange;
use sys::{Result, sysctl};

use super::{Kernel, Part, Undo};
use crate::Drift;

/// Ports of bridges that send frames back to where they came from, if this host needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hairpin {
    /// Links of the host; one that is no port of a bridge is left as it is.
    pub links: Vec<String>,
}

impl Part for Hairpin {
    // Whoever deletes the link undoes it.
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        // Without br_netfilter there are no such parameters, and packets to the host's address are routed.
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

    // The bridge is another plugin's, whose CHECK knows how its port must be.
    fn verify(&self, _: &mut Kernel) -> Result<Vec<Drift>> {
        Ok(Vec::new())
    }
}
