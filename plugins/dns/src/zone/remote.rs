//! Containers on other hosts, as the agent of networks over many hosts knows them.

use std::mem::size_of;
use std::net::IpAddr;

use cluster::local::{RemoteAttachment, RemoteNames};

use super::{Slot, Zone};
use crate::record::Stamp;

/// The most of them, on all networks.
const RECORDS_MAX: usize = cluster::RECORDS_MAX;
/// The most memory that they may take, by [`size`].
const SIZE_MAX: usize = 64 << 20;
/// What an entry of an index takes beside its key: hash, addresses, and what the allocator adds.
const INDEX: usize = 160;

/// A host and its containers on a network.
#[derive(Debug)]
pub(super) struct Host {
    stamp: Stamp,
    names: RemoteNames,
    size: usize,
}

/// How much the zone holds of other hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    records: usize,
    size: usize,
}

/// What is held of other hosts is as much as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl std::fmt::Display for TooMany {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let most = SIZE_MAX >> 20;
        write!(f, "its containers are left out: other hosts have more than {RECORDS_MAX}, or {most} MiB")
    }
}

impl Zone {
    /// The file that was read last of a host, and whether it can be read.
    pub fn stamp(&self, slot: Slot, host: &str) -> Option<Stamp> {
        self.network(slot)?.hosts.get(host).map(|host| host.stamp)
    }

    /// The ids of a network's other hosts.
    pub fn hosts(&self, slot: Slot) -> impl Iterator<Item = &String> {
        self.network(slot).into_iter().flat_map(|network| network.hosts.keys())
    }

    /// What is known of the containers of a network's other hosts.
    pub fn remote(&self, slot: Slot) -> impl Iterator<Item = (&String, &RemoteNames)> {
        let hosts = self.network(slot).into_iter().flat_map(|network| network.hosts.iter());
        hosts.map(|(id, host)| (id, &host.names))
    }

    /// Sets the containers of a host.
    ///
    /// # Errors
    /// There would be too many. The host has none then.
    pub fn put_host(
        &mut self,
        slot: Slot,
        host: &str,
        stamp: Stamp,
        names: RemoteNames,
    ) -> Result<(), TooMany> {
        self.remove_host(slot, host);
        let size = size(&names);
        let held = Held { records: self.held.records + names.attachments.len(), size: self.held.size + size };
        let fits = held.records <= RECORDS_MAX && held.size <= SIZE_MAX;
        let Some(network) = self.networks.get_mut(slot.0).and_then(Option::as_mut) else { return Ok(()) };
        let kept = match fits {
            true => Host { stamp, names, size },
            false => Host { stamp, names: RemoteNames { attachments: Vec::new(), ..names }, size: 0 },
        };
        kept.names
            .attachments
            .iter()
            .for_each(|container| network.insert_remote(container, kept.names.silent));
        network.hosts.insert(host.to_owned(), kept);
        if !fits {
            return Err(TooMany);
        }
        self.held = held;
        Ok(())
    }

    /// Removes a host with its containers.
    pub fn remove_host(&mut self, slot: Slot, host: &str) {
        let Some(network) = self.networks.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let Some(Host { names, size, .. }) = network.hosts.remove(host) else { return };
        names.attachments.iter().for_each(|container| network.remove_remote(container, names.silent));
        self.held.records -= names.attachments.len();
        self.held.size -= size;
    }

    /// Forgets how much a network holds that goes with all its hosts.
    pub(super) fn release(&mut self, slot: Slot) {
        let hosts = self.network(slot).into_iter().flat_map(|network| network.hosts.values());
        let (records, size) = hosts
            .fold((0, 0), |(records, size), host| (records + host.names.attachments.len(), size + host.size));
        self.held.records -= records;
        self.held.size -= size;
    }
}

/// The memory that the containers of a host take, in bytes: about.
fn size(names: &RemoteNames) -> usize {
    let text = |name: &String| INDEX + size_of::<String>() + 2 * name.len();
    let of = |container: &RemoteAttachment| {
        size_of::<RemoteAttachment>()
            + container.names.iter().map(text).sum::<usize>()
            // In the record, with each name, and as the key of the reverse name.
            + container.ips.len() * (INDEX + (container.names.len() + 2) * size_of::<(IpAddr, usize)>())
    };
    names.attachments.iter().map(of).sum()
}
