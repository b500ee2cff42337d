//! A container's connections that bypass the rules.

use std::net::IpAddr;

use sys::Result;

use super::{Kernel, Part, Undo};
use crate::intent::{By, Record};
use crate::rules::{self, fast_path};
use crate::{Drift, Owner};

/// The fast path of an attachment, with its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastPath {
    /// Its owner.
    pub owner: Owner,
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// Links of the host towards the container. Bridges are left out: their ports are meant.
    pub links: Vec<String>,
}

impl FastPath {
    fn links(&self, kernel: &Kernel) -> Result<Vec<String>> {
        let mut links = Vec::new();
        for name in &self.links {
            let link = kernel.host.link_by_name(name)?;
            links.extend(link.filter(|link| link.kind.as_deref() != Some("bridge")).map(|link| link.name));
        }
        Ok(links)
    }

    fn with<T>(&self, links: &[String], work: impl FnOnce(rules::FastPath<'_>) -> T) -> T {
        work(rules::FastPath { addresses: &self.addresses, links, label: &self.owner.label() })
    }
}

impl Part for FastPath {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let (links, uplinks) = (self.links(kernel)?, fast_path::uplinks(&kernel.host)?);
        kernel.records()?;
        // Push it first: after a lost answer the rules may exist.
        undo.push(Undo::FastPath(self.owner.clone()));
        let nft = kernel.nft()?;
        self.with(&links, |path| path.add(nft, &uplinks))
            .map_err(|error| error.within("failed to set up the fast path".into()))?;
        undo.push(Undo::Record(By::FastPath, self.owner.clone()));
        let fast_path = Some((links, self.addresses.clone()));
        let record = Record { fast_path, ..Record::new(self.owner.clone()) };
        kernel.records()?.write(By::FastPath, &record)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let (links, uplinks) = (self.links(kernel)?, fast_path::uplinks(&kernel.host)?);
        let nft = kernel.nft()?;
        self.with(&links, |path| path.drifts(nft, &uplinks))
    }
}
