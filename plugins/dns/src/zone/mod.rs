//! All records in memory, indexed for queries.
//!
//! The cost of changing an attachment depends on its own names and addresses only.

mod account;
mod addresses;
mod network;
mod querier;
mod remote;
mod respond;
mod reverse;
mod special;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::Cell;
use std::collections::HashSet;
use std::net::IpAddr;
use std::rc::Rc;

pub use account::Account;
pub use network::{Attached, Network};
pub use querier::Querier;
pub use remote::TooMany;
pub use respond::{Outcome, Servers, respond};

use crate::map::Map;
use crate::record::{Attachment, Key};

/// A container's networks, in order of attachment.
type Memberships = Vec<Membership>;

/// An attachment, as part of its container.
#[derive(Debug)]
struct Membership {
    order: u64,
    slot: Slot,
    ifname: String,
}

/// The index of a network, which it keeps while it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(usize);

/// All networks.
#[derive(Debug, Default)]
pub struct Zone {
    networks: Vec<Option<Network>>,
    slots: Map<String, Slot>,
    containers: Map<Rc<str>, Memberships>,
    /// Incremented with every answer, so that successive answers begin with different
    /// addresses.
    turn: Cell<usize>,
    /// How much it holds of other hosts.
    held: remote::Held,
}

impl Zone {
    /// Finds a network by name.
    pub fn slot(&self, network: &str) -> Option<Slot> {
        self.slots.get(network).copied()
    }

    /// The network at that index.
    pub fn network(&self, slot: Slot) -> Option<&Network> {
        self.networks.get(slot.0)?.as_ref()
    }

    /// All networks and their indexes.
    pub fn networks(&self) -> impl Iterator<Item = (Slot, &Network)> {
        self.networks
            .iter()
            .enumerate()
            .filter_map(|(slot, network)| network.as_ref().map(|network| (Slot(slot), network)))
    }

    /// The names of all networks.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.slots.keys()
    }

    /// Counts all attachments.
    pub fn attachments(&self) -> usize {
        self.networks().map(|(_, network)| network.len()).sum()
    }

    /// The records of a network's attachments, as they were read.
    pub fn records(&self, slot: Slot) -> impl Iterator<Item = Attachment> {
        let network = self.network(slot);
        let attachments = network.into_iter().flat_map(|network| {
            network.attachments().map(|(key, attached)| (&network.record().name, key, attached))
        });
        attachments.map(move |(name, key, attached)| {
            let memberships = self.containers.get(key.container.as_str()).into_iter().flatten();
            let mut own = memberships.filter(|own| own.slot == slot && own.ifname == key.ifname);
            attached.record(name, key, own.next().map_or(0, |own| own.order))
        })
    }

    /// Sets a network's record and keeps its attachments.
    pub fn put_network(&mut self, record: crate::record::Network) -> Slot {
        if let Some(slot) = self.slot(&record.name)
            && let Some(network) = self.networks.get_mut(slot.0).and_then(Option::as_mut)
        {
            network.set_record(record);
            return slot;
        }
        let free = self.networks.iter().position(Option::is_none).unwrap_or(self.networks.len());
        if free == self.networks.len() {
            self.networks.push(None);
        }
        self.slots.insert(record.name.clone(), Slot(free));
        self.networks[free] = Some(Network::new(record));
        Slot(free)
    }

    /// Sets all records of a network: an attachment that is not among them is removed.
    pub fn replace_network(&mut self, record: crate::record::Network, mut attachments: Vec<Attachment>) {
        let slot = self.put_network(record);
        let keys: HashSet<&Key> = attachments.iter().map(|record| &record.key).collect();
        let held = self.network(slot).into_iter().flat_map(Network::attachments);
        let gone: Vec<Key> =
            held.filter(|(key, _)| !keys.contains(key)).map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.remove_attachment(slot, key));
        // In order of attachment: of two attachments with one address, the later one
        // owns it.
        attachments.sort_by_key(|record| record.order);
        attachments.into_iter().for_each(|record| self.put_attachment(slot, record));
    }

    /// Removes a network with all its attachments.
    pub fn remove_network(&mut self, name: &str) {
        let Some(slot) = self.slots.remove(name) else { return };
        self.release(slot);
        self.networks[slot.0] = None;
        self.containers.retain(|_, memberships| {
            memberships.retain(|membership| membership.slot != slot);
            !memberships.is_empty()
        });
    }

    /// Adds an attachment, or replaces it.
    pub fn put_attachment(&mut self, slot: Slot, record: Attachment) {
        self.remove_attachment(slot, &record.key);
        let Some(network) = self.networks.get_mut(slot.0).and_then(Option::as_mut) else { return };
        let container = match self.containers.get_key_value(record.key.container.as_str()) {
            Some((container, _)) => Rc::clone(container),
            None => Rc::from(record.key.container.as_str()),
        };
        let memberships = self.containers.entry(Rc::clone(&container)).or_default();
        let at = memberships.partition_point(|membership| membership.order <= record.order);
        let ifname = record.key.ifname.clone();
        memberships.insert(at, Membership { order: record.order, slot, ifname });
        network.insert(record, container);
    }

    /// Removes an attachment.
    pub fn remove_attachment(&mut self, slot: Slot, key: &Key) {
        let Some(network) = self.networks.get_mut(slot.0).and_then(Option::as_mut) else { return };
        network.remove(key);
        if let Some(memberships) = self.containers.get_mut(key.container.as_str()) {
            memberships.retain(|membership| membership.slot != slot || membership.ifname != key.ifname);
            if memberships.is_empty() {
                self.containers.remove(key.container.as_str());
            }
        }
    }

    /// The client that queries an address which these networks share: the container with the source
    /// address, or else an unregistered client of the network with the subnet that contains it.
    pub fn querier(&self, shared: &[Slot], source: IpAddr) -> Option<Querier<'_>> {
        let networks =
            || shared.iter().filter_map(|slot| self.network(*slot).map(|network| (*slot, network)));
        let known = networks().find_map(|(slot, network)| {
            let attached = network.owner(source)?;
            Some(Querier::container(self, slot, network, attached))
        });
        known.or_else(|| {
            let (slot, network) =
                networks().find(|(_, network)| network.contains(source)).or_else(|| networks().next())?;
            Some(Querier::unregistered(self, slot, network))
        })
    }

    /// The container that queries a socket in its own namespace.
    pub fn querier_in_namespace(&self, slot: Slot, key: &Key) -> Option<Querier<'_>> {
        let network = self.network(slot)?;
        Some(Querier::container(self, slot, network, network.attached(key)?))
    }

    fn turn(&self) -> usize {
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        turn
    }
}
