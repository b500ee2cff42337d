//! Addresses that appear outside as the host's, by iptables.

use sys::Result;

use super::{Kernel, Part, Undo};
use crate::Drift;
use crate::intent::{By, Record};
use crate::iptables::MasqueradeChain;
use crate::rules::reference;

impl Part for MasqueradeChain {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let record = Record { masquerade_chain: Some(self.known()), ..Record::new(self.owner.clone()) };
        // Push it first: a killed program may have created the rules.
        undo.push(Undo::MasqueradeChain(self.clone()));
        let records = kernel.records()?;
        records
            .write(By::Iptables, &record)
            .and_then(|()| self.add())
            .map_err(|error| error.within("failed to set up masquerade".into()))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let drifts = MasqueradeChain::verify(self)?;
        let is_made =
            !drifts.is_empty() && reference::masquerades(kernel.nft()?, &self.owner, &self.addresses)?;
        Ok(if is_made { Vec::new() } else { drifts })
    }
}
