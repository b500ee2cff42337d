//! The packet rules of a network and of its attachments, as pieces.

use std::net::IpAddr;

use netlink::Mac;
use sys::Result;

use super::alias;
use crate::piece::{Kernel, Part, Undo};
use crate::rules::{Addressed, Overlaid};
use crate::{Drift, OverlayNetwork, Owner};

/// The guard, and a network's part in the isolation of overlay networks: before its links are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayRules {
    /// The network's name.
    pub network: String,
    /// What the rules need to know of it.
    pub rules: OverlayNetwork,
}

impl Part for OverlayRules {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        kernel.use_overlay_links()?;
        let guard = kernel.records()?.guard();
        undo.push(Undo::OverlayLinks(self.network.clone()));
        let overlaid = Overlaid { network: &self.rules, label: &alias(&self.network) };
        overlaid
            .add(kernel.nft()?, &guard)
            .map_err(|error| error.within("failed to guard the overlay network".into()))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        Overlaid { network: &self.rules, label: &alias(&self.network) }.drifts(kernel.nft()?)
    }
}

/// A port that accepts frames with only its container's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressFilter {
    /// Its owner.
    pub owner: Owner,
    /// Name of the port; the filter may exist before the port.
    pub port: String,
    /// The container's MAC address.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl AddressFilter {
    fn with<T>(&self, work: impl FnOnce(Addressed<'_>) -> T) -> T {
        let label = self.owner.label();
        work(Addressed { port: &self.port, mac: self.mac, addresses: &self.addresses, label: &label })
    }
}

impl Part for AddressFilter {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        kernel.records()?;
        let nft = kernel.nft()?;
        // Push it first: after a lost answer the rules may exist.
        undo.push(Undo::Rules(self.owner.clone(), Vec::new()));
        self.with(|addressed| addressed.add(nft))
            .map_err(|error| error.within("failed to setup spoof-check".into()))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let nft = kernel.nft()?;
        self.with(|addressed| addressed.drifts(nft))
    }
}
