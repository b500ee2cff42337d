//! The port of a container on a network's bridge.

use netlink::{Mac, PortChange};
use sys::Result;

use crate::Drift;
use crate::piece::{Kernel, Part, Place, Undo};

/// A port that neither learns nor is flooded, and has its container's MAC address as a fixed entry.
/// The VXLAN port does not learn either, so frames to containers of other hosts are unknown to the
/// bridge: it floods them, and they must reach the VXLAN port alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayPort {
    /// Name of the port.
    pub port: String,
    /// The container's MAC address.
    pub mac: Mac,
    /// Frames may leave by the port they arrived on.
    pub hairpin: bool,
}

impl Part for OverlayPort {
    // It goes with the link.
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(Place::Host, &self.port)?;
        kernel.host.set_forwarding_entry(index, self.mac)?;
        let change = PortChange {
            learning: Some(false),
            flood: Some(false),
            hairpin: self.hairpin.then_some(true),
            ..PortChange::default()
        };
        kernel.host.set_bridge_port(index, &change)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        // A missing link, or one that is not a port, is the veth's drift.
        let Some(link) = kernel.host.link_by_name(&self.port)? else { return Ok(Vec::new()) };
        let Some(port) = link.port else { return Ok(Vec::new()) };
        let on_off = |on: bool| if on { "on" } else { "off" };
        let mut drifts = Vec::new();
        for (what, actual) in [("learning", port.learning), ("flooding", port.flood)] {
            let what = format!("{what} of port {}", self.port);
            drifts.extend(Drift::unless_equal(what, "off", on_off(actual)));
        }
        if self.hairpin && !port.hairpin {
            drifts.push(Drift::new(format!("hairpin mode of port {}", self.port), "on", "off"));
        }
        let entries = kernel.host.forwarding_entries(link.index)?;
        let entry = entries.iter().find(|entry| entry.mac == self.mac);
        let actual = match entry {
            Some(entry) if entry.fixed => "fixed",
            Some(_) => "learned",
            None => "missing",
        };
        let what = format!("forwarding entry {} of port {}", self.mac, self.port);
        drifts.extend(Drift::unless_equal(what, "fixed", actual));
        Ok(drifts)
    }
}
