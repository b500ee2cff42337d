//! Which hosts others can send to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sys::IpFamily;

use super::{HostView, Item, Me, View};
use crate::decode::Record;
use crate::key::Key;
use crate::left_out::Fault;
use crate::record::Host;

/// Judges the hosts. `items` are in the order of their creation.
///
/// Of two hosts with one address the one that gives signs of life is in force: the other one may be
/// an earlier installation of the same machine.
pub(super) fn judge<'a>(items: &[Item<'a>], me: Me<'_>, view: &mut View<'a>) {
    // Whoever notices writes `silent`, a moment after the lease's end.
    let alive: BTreeSet<&str> = items
        .iter()
        .filter_map(|item| match item.key {
            Key::Alive(host) => Some(host.as_str()),
            _ => None,
        })
        .collect();
    let mut hosts: Vec<(&'a Key, &'a str, &'a Host)> = items
        .iter()
        .filter_map(|item| match (item.key, item.record) {
            (key @ Key::Host(id), Record::Host(host)) => Some((key, id.as_str(), host)),
            _ => None,
        })
        .collect();
    // A stable sort: by life, then by creation.
    hosts.sort_by_key(|(_, id, _)| !alive.contains(id));
    let mut taken: BTreeMap<IpAddr, &Key> = BTreeMap::new();
    for (key, id, host) in hosts {
        let other = host.addresses.iter().find_map(|ip| Some((*ip, *taken.get(ip)?)));
        if let Some((ip, other)) = other {
            view.faults.insert(key, Fault::AddressTaken(ip, other.to_string()));
            continue;
        }
        taken.extend(host.addresses.iter().map(|ip| (*ip, key)));
        if id == me.host {
            continue;
        }
        if let Some(own) = host.addresses.iter().find(|ip| me.addresses.contains(ip)) {
            view.faults.insert(key, Fault::OwnAddress(*own));
            continue;
        }
        let destination = host.addresses.iter().find(|ip| IpFamily::of(**ip) == me.underlay);
        let Some(destination) = destination else {
            view.faults
                .insert(key, Fault::Member("addresses", "has none of the family of this host's underlay"));
            continue;
        };
        let silent = !alive.contains(id);
        let host =
            HostView { name: &host.name, addresses: &host.addresses, destination: *destination, silent };
        view.hosts.insert(id, host);
    }
}
