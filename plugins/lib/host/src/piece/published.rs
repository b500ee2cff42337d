//! Ports of the host that lead to a container.

use sys::Result;

use super::{Kernel, Part, Undo};
use crate::Drift;
use crate::iptables::Ports;
use crate::ports::Publication;
use crate::rules::published;

/// An attachment's published ports, with their record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The ports.
    pub publication: Publication,
    /// The chains to the container, one per family, if iptables publishes the ports; empty if
    /// nf_tables does.
    pub chains: Vec<Ports>,
}

impl Part for Published {
    /// The reason of an error may be a [`published::Refusal`].
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let nft = kernel.nft()?;
        let wanted = published::Wanted::of(&self.publication)?;
        // Neither step leaves anything when it fails, and another attachment's ports must not be
        // undone.
        if !self.chains.is_empty() {
            wanted.ensure_free(nft)?;
            Ports::add(&self.chains)?;
            undo.push(Undo::PortChains(self.chains.clone()));
        }
        let forgotten = wanted.publish(nft)?;
        undo.push(Undo::Published(self.publication.owner.clone()));
        forgotten.report();
        Ok(())
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let mut drifts = Ports::verify(&self.chains)?;
        drifts.append(&mut published::verify(kernel.nft()?, &self.publication)?);
        Ok(drifts)
    }
}
