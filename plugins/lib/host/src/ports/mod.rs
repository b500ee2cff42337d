//! Ports that an attachment publishes, as data: what a port of the host leads to, and on which
//! conditions.
//!
//! Packet rules, rules of iptables and records are made from these; nothing here asks the kernel.

mod conditions;

use std::net::IpAddr;

use crate::{Namespace, Owner};

pub use conditions::{Conditions, Fault};

/// What an attachment publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The owner.
    pub owner: Owner,
    /// Its addresses: at most one of each family.
    pub containers: Vec<Container>,
    /// The container's chain of iptables, if its ports are published there ([`crate::iptables`]).
    /// nf_tables then has only what identifies the owner of the ports, and what `route_localnet`
    /// needs.
    pub chain: Option<String>,
    /// Ports that were chosen for it, for the record.
    pub chosen: Vec<Chosen>,
    /// The container's network namespace, for the record.
    pub netns: Option<Namespace>,
}

impl Publication {
    /// The links by which the host's loopback reaches the containers.
    pub(crate) fn by_loopback(&self) -> impl Iterator<Item = &str> + Clone {
        let containers = self.containers.iter().filter(|container| container.by_loopback());
        containers.filter_map(|container| container.link.as_deref())
    }
}

/// A port of the host that was chosen because the configuration asked for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The transport protocol.
    pub proto: u8,
    /// The host's address in the configuration: none, `0.0.0.0`, `::` or one of the host's.
    pub at: Option<IpAddr>,
    /// The container's port.
    pub target: u16,
    /// The host's port.
    pub port: u16,
}

/// A container's address, and what leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The address.
    pub address: IpAddr,
    /// The host's link that leads to it; `None` when there is no route.
    pub link: Option<String>,
    /// The ports.
    pub mappings: Vec<Mapping>,
    /// Which connections are masqueraded.
    pub masquerade: Masquerade,
    /// The conditions on a connection; none if the ports are in iptables.
    pub conditions: Conditions,
}

/// Ports of the host and where they lead. Those of one protocol and address do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// The transport protocol (IPPROTO_TCP, …).
    pub proto: u8,
    /// The host's address, of the container's family; `None` is any.
    pub address: Option<IpAddr>,
    /// Ports of the host: first and last.
    pub ports: (u16, u16),
    /// The container's port that the first one leads to; the others follow.
    pub target: u16,
}

/// The connections to published ports that get the host's address as their source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// None.
    Nobody,
    /// Those that could not be answered otherwise: from the container itself, from its neighbours
    /// behind the same link, and from the host's own 127.0.0.0/8.
    Needed,
    /// All.
    Everybody,
}

impl Mapping {
    /// Whether a connection could match both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.proto == other.proto
            && self.ports.0 <= other.ports.1
            && other.ports.0 <= self.ports.1
            && (self.address.is_none() || other.address.is_none() || self.address == other.address)
    }
}

impl Container {
    /// Its ports in order; runs of ports are merged if their targets are a run too.
    pub fn merged(&self) -> Vec<Mapping> {
        merged(&self.mappings)
    }

    /// Whether the host reaches it from its own 127.0.0.0/8.
    pub fn by_loopback(&self) -> bool {
        let loopback = |mapping: &Mapping| mapping.address.is_none_or(|address| address.is_loopback());
        self.address.is_ipv4() && self.masquerade != Masquerade::Nobody && self.mappings.iter().any(loopback)
    }
}

/// Merges runs of ports if their targets are a run too.
pub(crate) fn merged(mappings: &[Mapping]) -> Vec<Mapping> {
    let mut sorted = mappings.to_vec();
    sorted.sort_unstable_by_key(|mapping| (mapping.proto, mapping.address, mapping.ports));
    let mut merged: Vec<Mapping> = Vec::with_capacity(sorted.len());
    for mapping in sorted {
        let follows = |last: &&mut Mapping| {
            (last.proto, last.address) == (mapping.proto, mapping.address)
                && last.ports.1.checked_add(1) == Some(mapping.ports.0)
                && i32::from(last.target) - i32::from(last.ports.0)
                    == i32::from(mapping.target) - i32::from(mapping.ports.0)
        };
        match merged.last_mut().filter(follows) {
            Some(last) => last.ports.1 = mapping.ports.1,
            None => merged.push(mapping),
        }
    }
    merged
}
