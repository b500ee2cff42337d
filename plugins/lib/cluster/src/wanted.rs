//! What follows from etcd's records for one host: which of them are in force, and what its kernel
//! and its responder must have.
//!
//! A function of the records alone, whatever order they came in. Of two records that exclude each
//! other the one that was created first is in force; the other one is left out, and named.

mod claims;
mod hosts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sys::{IpFamily, Mac};

use crate::decode::Record;
use crate::key::{Endpoint, Key};
use crate::left_out::{Fault, LeftOut};
use crate::local::{RemoteAttachment, RemoteNames};
use crate::record::Net;

/// A record, and the revision that created it.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Its key.
    pub key: &'a Key,
    /// Its value.
    pub record: &'a Record,
    /// The revision that created the key.
    pub created: i64,
}

/// The host for which this is asked.
#[derive(Clone, Copy, Debug)]
pub struct Me<'a> {
    /// Its id.
    pub host: &'a str,
    /// The sources of its VXLAN packets.
    pub addresses: &'a [IpAddr],
    /// The family of the source that its VXLAN devices have.
    pub underlay: IpFamily,
}

/// A host of the cluster that others can send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView<'a> {
    /// Its name, for people.
    pub name: &'a str,
    /// The sources of its VXLAN packets.
    pub addresses: &'a [IpAddr],
    /// The one in the family of the underlay.
    pub destination: IpAddr,
    /// Whether it gives no sign of life. Only names and services avoid it.
    pub silent: bool,
}

/// What another host has in a network: a container, or its own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote<'a> {
    /// The host's id.
    pub host: &'a str,
    /// The addresses.
    pub ips: &'a [IpAddr],
    /// Their MAC.
    pub mac: Mac,
    /// The names of a container; `None` for the host's own addresses.
    pub names: Option<&'a [String]>,
}

/// What a network's VXLAN device must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The host that has a MAC: forwarding entries.
    pub forwarding: BTreeMap<Mac, IpAddr>,
    /// The hosts that get copies of broadcasts: forwarding entries of the zero MAC.
    pub flood: BTreeSet<IpAddr>,
    /// The MAC of an address: neighbour entries.
    pub neighbours: BTreeMap<IpAddr, Mac>,
}

/// The records in force, seen from one host.
#[derive(Clone, Debug, Default)]
pub struct View<'a> {
    /// The other hosts, by id.
    pub hosts: BTreeMap<&'a str, HostView<'a>>,
    /// The networks, by name.
    pub nets: BTreeMap<&'a str, &'a Net>,
    /// What other hosts have in each network, in the order of the keys.
    pub remotes: BTreeMap<&'a str, Vec<Remote<'a>>>,
    /// The records that are not in force, this host's included.
    pub faults: BTreeMap<&'a Key, Fault>,
}

impl<'a> View<'a> {
    /// Judges all records.
    pub fn of(items: impl IntoIterator<Item = Item<'a>>, me: Me<'_>) -> Self {
        let mut items: Vec<Item<'a>> = items.into_iter().collect();
        items.sort_by(|one, other| (one.created, one.key).cmp(&(other.created, other.key)));
        let mut view = Self::default();
        hosts::judge(&items, me, &mut view);
        claims::judge(&items, me, &mut view);
        view
    }

    /// What the VXLAN device of a network must have.
    pub fn entries(&self, network: &str) -> Entries {
        let mut entries = Entries::default();
        let Some(net) = self.nets.get(network) else { return entries };
        for remote in self.remotes.get(network).into_iter().flatten() {
            let Some(host) = self.hosts.get(remote.host) else { continue };
            entries.forwarding.insert(remote.mac, host.destination);
            entries.neighbours.extend(remote.ips.iter().map(|ip| (*ip, remote.mac)));
            if net.multicast {
                entries.flood.insert(host.destination);
            }
        }
        entries
    }

    /// The attachments of a network on each remote host that has some, by its id: for the responder.
    pub fn names(&self, network: &str) -> BTreeMap<String, RemoteNames> {
        let mut names: BTreeMap<String, RemoteNames> = BTreeMap::new();
        for remote in self.remotes.get(network).into_iter().flatten() {
            let Some(texts) = remote.names.filter(|texts| !texts.is_empty()) else { continue };
            let Some(host) = self.hosts.get(remote.host) else { continue };
            let of_host = names.entry(remote.host.to_owned()).or_insert_with(|| RemoteNames {
                v: crate::VERSION,
                host: host.name.to_owned(),
                silent: host.silent,
                attachments: Vec::new(),
            });
            of_host.attachments.push(RemoteAttachment { names: texts.to_vec(), ips: remote.ips.to_vec() });
        }
        names
    }

    /// The addresses of all other hosts: who may send VXLAN packets with our ids.
    pub fn members(&self) -> BTreeSet<IpAddr> {
        self.hosts.values().flat_map(|host| host.addresses.iter().copied()).collect()
    }

    /// Why an attachment's record is not in force.
    pub fn fault_of(&self, endpoint: &Endpoint) -> Option<&Fault> {
        self.faults.get(&Key::Endpoint(endpoint.clone()))
    }

    /// The records that are not in force.
    pub fn left_out(&self) -> impl Iterator<Item = LeftOut> + '_ {
        self.faults.iter().map(|(key, why)| LeftOut::new(*key, why.clone()))
    }
}

#[cfg(test)]
mod tests;
