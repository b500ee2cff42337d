//! A link that accepts packets from only a container's addresses.

use std::net::IpAddr;

use sys::Result;

use super::{Kernel, Part, Undo};
use crate::rules::Sources;
use crate::{Drift, Owner};

/// The source check of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFilter {
    /// Its owner.
    pub owner: Owner,
    /// Name of the host's link to the container.
    pub link: String,
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
}

impl SourceFilter {
    fn with<T>(&self, work: impl FnOnce(Sources<'_>) -> T) -> T {
        work(Sources { link: &self.link, addresses: &self.addresses, label: &self.owner.label() })
    }
}

impl Part for SourceFilter {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        kernel.records()?;
        let nft = kernel.nft()?;
        // Push it first: after a lost answer the rules may exist.
        undo.push(Undo::Rules(self.owner.clone(), Vec::new()));
        self.with(|sources| sources.add(nft))
            .map_err(|error| error.within("failed to setup spoof-check".into()))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let nft = kernel.nft()?;
        self.with(|sources| sources.drifts(nft))
    }
}
