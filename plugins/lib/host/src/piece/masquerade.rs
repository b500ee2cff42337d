//! Addresses that appear outside as the host's.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sys::Result;

use super::{Kernel, Part, Undo};
use crate::rules::{Masqueraded, reference};
use crate::{Drift, Owner};

/// The masquerade of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Its owner.
    pub owner: Owner,
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// The subnets of its network, inside which addresses stay unchanged.
    pub inside: Vec<IpNetwork>,
}

impl Masquerade {
    fn with<T>(&self, work: impl FnOnce(Masqueraded<'_>) -> T) -> T {
        work(Masqueraded { addresses: &self.addresses, inside: &self.inside, label: &self.owner.label() })
    }
}

impl Part for Masquerade {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        kernel.records()?;
        let nft = kernel.nft()?;
        // Push it first: after a lost answer the rules may exist.
        undo.push(Undo::Rules(self.owner.clone(), self.addresses.clone()));
        self.with(|masqueraded| masqueraded.add(nft))
            .map_err(|error| error.within("failed to set up masquerade".into()))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let nft = kernel.nft()?;
        let drifts = self.with(|masqueraded| masqueraded.drifts(nft))?;
        let networks = || reference::networks(&self.addresses, &self.inside);
        let is_made = !drifts.is_empty() && reference::masquerades(nft, &self.owner, &networks())?;
        Ok(if is_made { Vec::new() } else { drifts })
    }
}
