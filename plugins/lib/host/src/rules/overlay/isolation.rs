//! The elements of a network.

use nft::{Element, Set, Value};

use super::layout::{ADDRESSES4, ADDRESSES6, AT4, AT6, BRIDGES, INTERNAL, WITHIN};
use crate::OverlayNetwork;

/// The sets with networks' elements.
pub(super) const SETS: [Set<'static>; 7] = [BRIDGES, WITHIN, INTERNAL, ADDRESSES4, ADDRESSES6, AT4, AT6];

pub(super) fn elements(network: &OverlayNetwork, label: &str) -> Vec<(Set<'static>, Element)> {
    let bridge = Value::new().ifname(&network.bridge);
    let mut keys = vec![(BRIDGES, bridge), (WITHIN, bridge.ifname(&network.bridge))];
    keys.extend(network.internal.then_some((INTERNAL, bridge)));
    for address in &network.addresses {
        let (all, at) = if address.is_ipv4() { (ADDRESSES4, AT4) } else { (ADDRESSES6, AT6) };
        keys.extend([(all, Value::new().addr(*address)), (at, bridge.addr(*address))]);
    }
    keys.into_iter().map(|(set, key)| (set, Element::new(key).comment(label))).collect()
}
