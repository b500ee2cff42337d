//! Who asks, and what it may know.

use std::net::SocketAddr;
use std::rc::Rc;

use super::{Attached, Membership, Network, Slot, Zone};
use crate::record::CrossNetwork;

/// See the module.
#[derive(Clone, Copy)]
pub struct Asker<'z> {
    zone: &'z Zone,
    slot: Slot,
    /// The network that was asked.
    network: &'z Network,
    others: &'z [Membership],
    attached: Option<&'z Attached>,
}

impl<'z> Asker<'z> {
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

    /// Where the network is that was asked.
    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// The network that was asked.
    pub fn network(&self) -> &'z Network {
        self.network
    }

    /// The container's attachment there; `None` if none is known.
    pub fn attached(&self) -> Option<&'z Attached> {
        self.attached
    }

    pub(super) fn anybody(zone: &'z Zone, slot: Slot, network: &'z Network) -> Self {
        Self { zone, slot, network, others: &[], attached: None }
    }

    /// The networks it may know of: first the one that was asked, then the others as it was attached to them.
    pub(super) fn networks(&self) -> impl Iterator<Item = &'z Network> + use<'z> {
        let (zone, first) = (self.zone, self.slot);
        let others = self.others.iter().filter(move |other| other.slot != first);
        std::iter::once(self.network).chain(others.filter_map(move |other| zone.network(other.slot)))
    }

    /// The network through which it may ask the outside, if any.
    fn way_out(&self) -> Option<&'z Network> {
        self.networks().find(|network| !network.record().internal)
    }

    /// Whether it may ask the outside.
    pub(super) fn may_ask_outside(&self) -> bool {
        self.way_out().is_some()
    }

    /// The servers that are to be asked for it; `None` for those of resolv.conf.
    pub(super) fn servers(&self) -> Option<Rc<[SocketAddr]>> {
        let own = self.attached.and_then(|attached| attached.upstreams.as_ref());
        own.or_else(|| self.way_out().and_then(Network::upstreams)).cloned()
    }

    pub(super) fn turn(&self) -> usize {
        self.zone.turn()
    }
}
