//! A container behind the host's firewall.

use sys::Result;

use super::{Kernel, Part, Undo};
use crate::intent::{By, Record};
use crate::rules::firewall;
use crate::{Attached, Drift, Owner, notice};

/// What an attachment has in the sets of the firewall, with its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// Its owner.
    pub owner: Owner,
    /// What exists for it.
    pub attached: Attached,
    /// A bridge port that this attachment isolated by an earlier policy.
    pub released: Option<String>,
}

impl Part for Firewall {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        kernel.records()?;
        kernel.nft()?;
        // Push it first: after a lost answer the elements may exist.
        undo.push(Undo::Firewall(self.owner.clone()));
        self.attached
            .add(&self.owner, kernel.nft()?)
            .map_err(|error| error.within("failed to let the container through the firewall".into()))?;
        if let Some(port) = &self.released {
            firewall::isolate(&kernel.host, port, false)?;
            let label = self.owner.label();
            firewall::forget_port(kernel.nft()?, port, &label)?;
        }
        if let Some(port) = &self.attached.port {
            firewall::isolate(&kernel.host, port, true)
                .map_err(|error| error.within(format!("failed to isolate bridge port {port}")))?;
        }
        // Whatever refuses it, the container is no worse off than without this plugin.
        if let Err(error) = self.attached.ways.open(&self.owner.network, kernel.nft()?) {
            notice(format_args!(
                "firewall: a chain of another firewall drops forwarded packets, and rules for network {} could not \
                 be added: {error:#}: its containers reach nothing until an administrator adds them",
                self.owner.network
            ));
        }
        let record = Record { firewall: Some(self.attached.clone()), ..Record::new(self.owner.clone()) };
        undo.push(Undo::Record(By::Firewall, self.owner.clone()));
        kernel
            .records()?
            .write(By::Firewall, &record)
            .map_err(|error| error.within("failed to put the packet rules on record".into()))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let mut drifts = self.attached.drifts(&self.owner, kernel.nft()?)?;
        drifts.append(&mut self.attached.ways.drifts(&self.owner.network, kernel.nft()?)?);
        if let Some(name) = &self.attached.port {
            let port = kernel.host.link_by_name(name)?.and_then(|link| link.port);
            if port.is_some_and(|port| !port.isolated) {
                drifts.push(Drift::new(format!("isolation of port {name}"), "on", "off"));
            }
        }
        Ok(drifts)
    }
}
