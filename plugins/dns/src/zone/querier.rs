//! The client of a query, and the networks it may see.

use std::net::SocketAddr;
use std::rc::Rc;

use super::{Attached, Membership, Network, Slot, Zone};
use crate::record::CrossNetwork;

/// A client: a container, or an unregistered address on a network.
#[derive(Clone, Copy)]
pub struct Querier<'z> {
    zone: &'z Zone,
    slot: Slot,
    /// The queried network.
    network: &'z Network,
    others: &'z [Membership],
    attached: Option<&'z Attached>,
}

impl<'z> Querier<'z> {
    pub(super) fn container(
        zone: &'z Zone,
        slot: Slot,
        network: &'z Network,
        attached: &'z Attached,
    ) -> Self {
        let others = match network.record().cross_network {
            CrossNetwork::None => &[],
            CrossNetwork::First | CrossNetwork::Union => {
                zone.containers.get(&attached.container).map_or(&[][..], Vec::as_slice)
            }
        };
        Self { zone, slot, network, others, attached: Some(attached) }
    }

    /// Where the queried network is in the zone.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The queried network.
    pub fn network(&self) -> &'z Network {
        self.network
    }

    /// The container's attachment to it; `None` for an unregistered client.
    pub fn attached(&self) -> Option<&'z Attached> {
        self.attached
    }

    pub(super) fn unregistered(zone: &'z Zone, slot: Slot, network: &'z Network) -> Self {
        Self { zone, slot, network, others: &[], attached: None }
    }

    /// The networks it may see: the queried one, then the others in order of attachment.
    pub(super) fn networks(&self) -> impl Iterator<Item = &'z Network> + use<'z> {
        let (zone, first) = (self.zone, self.slot);
        let others = self.others.iter().filter(move |other| other.slot != first);
        std::iter::once(self.network).chain(others.filter_map(move |other| zone.network(other.slot)))
    }

    /// The network that provides its upstream servers, if any.
    fn forwarding_network(&self) -> Option<&'z Network> {
        self.networks().find(|network| !network.record().internal)
    }

    /// Whether its queries may be forwarded.
    pub(super) fn may_forward(&self) -> bool {
        self.forwarding_network().is_some()
    }

    /// The upstream servers for it; `None` for those of resolv.conf.
    pub(super) fn servers(&self) -> Option<Rc<[SocketAddr]>> {
        let own = self.attached.and_then(|attached| attached.upstreams.as_ref());
        own.or_else(|| self.forwarding_network().and_then(Network::upstreams)).cloned()
    }

    /// The container, if its upstream servers are its own.
    pub fn owner_of_servers(&self) -> Option<&'z str> {
        self.attached.filter(|attached| attached.upstreams.is_some()).map(|attached| &*attached.container)
    }

    pub(super) fn turn(&self) -> usize {
        self.zone.turn()
    }
}
