//! A port that accepts frames from only one MAC address.

use netlink::Mac;
use sys::Result;

use super::{Kernel, Part, Undo};
use crate::rules::{Guarded, reference};
use crate::{Drift, Owner};

/// The MAC filter of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacFilter {
    /// Its owner.
    pub owner: Owner,
    /// Name of the port; the filter may exist before the port.
    pub port: String,
    /// The container's MAC address.
    pub mac: Mac,
}

impl MacFilter {
    fn with<T>(&self, work: impl FnOnce(Guarded<'_>) -> T) -> T {
        work(Guarded { port: &self.port, mac: self.mac, label: &self.owner.label() })
    }
}

impl Part for MacFilter {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        kernel.records()?;
        let nft = kernel.nft()?;
        // Push it first: after a lost answer the rules may exist.
        undo.push(Undo::Rules(self.owner.clone(), Vec::new()));
        self.with(|guarded| guarded.add(nft))
            .map_err(|error| error.within("failed to setup spoof-check".into()))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let nft = kernel.nft()?;
        let drifts = self.with(|guarded| guarded.drifts(nft))?;
        let is_made = !drifts.is_empty() && reference::guards(nft, &self.owner, &self.port, self.mac)?;
        Ok(if is_made { Vec::new() } else { drifts })
    }
}
