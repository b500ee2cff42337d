//! Making a network.

use cluster::key::Key;
use cluster::net::{MTU_MAX, differences, mtu_min, mtu_of_underlay, overlapping};
use cluster::record::{Net, Vni};
use cluster::{VERSION, VNI_FIRST, VNI_LAST};
use ipnetwork::IpNetwork;
use sys::IpFamily;

use crate::state::want::{Need, View};
use crate::txn::Txn;

/// Makes a network that a plugin asks for, or that this host has and etcd has forgotten.
pub(super) fn make(view: &View<'_>) -> Option<Txn> {
    let asked = view.needs.iter().filter_map(|need| match need {
        Need::Network(network, want) if why_not(view, network, want).is_none() => Some((network, want)),
        _ => None,
    });
    let had = view.local.nets.iter().filter(|(_, net)| net.is_in_use() || !net.lost.is_empty());
    let had = had.filter_map(|(network, net)| Some((network, net.copy.as_ref()?)));
    let (network, want) =
        had.chain(asked).find(|(network, _)| !view.cache.has(&Key::Net((*network).clone())))?;
    let mut net = want.clone();
    let mut txn = Txn::default().absent(Key::Net(network.clone()));
    if let Some(asked) = want.vni {
        let is_free = |id: u32| !view.cache.has(&Key::Vni(id));
        let vni = Some(asked).filter(|id| *id != 0 && is_free(*id));
        let vni = vni.or_else(|| (VNI_FIRST..=VNI_LAST).find(|id| is_free(*id)))?;
        net.vni = Some(vni);
        net.mtu = Some(want.mtu.filter(|mtu| *mtu != 0).unwrap_or_else(|| mtu_here(view, want.encrypted)));
        let record = Vni { v: VERSION, network: network.clone() };
        txn = txn.absent(Key::Vni(vni)).put(Key::Vni(vni), &record);
    }
    Some(txn.put(Key::Net(network.clone()), &net))
}

/// The MTU that the underlay of this host carries.
fn mtu_here(view: &View<'_>, encrypted: bool) -> u32 {
    let host = &view.local.host;
    let families = host.addresses.iter().map(|ip| IpFamily::of(*ip));
    let carried = families.map(|family| mtu_of_underlay(host.mtu, family, encrypted));
    carried.min().unwrap_or(MTU_MAX)
}

/// Why a network is not as the plugin wants it, or cannot be made so; with the code of CNI.
pub fn why_not(view: &View<'_>, network: &str, want: &Net) -> Option<(u32, String)> {
    if want.encrypted {
        return Some((2, format!("network {network}: this release does not encrypt; remove \"encrypted\"")));
    }
    if let Some(have) = view.cache.net(&Key::Net(network.to_owned())) {
        let differs = differences(want, have);
        let list = differs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        return (!differs.is_empty()).then(|| (7, format!("network {network}: {list}")));
    }
    if view.cache.has(&Key::Net(network.to_owned())) {
        return Some((11, format!("network {network}: its record in etcd cannot be read")));
    }
    let others =
        view.cache.nets().flat_map(|(name, net)| net.subnets.iter().map(move |subnet| (*subnet, name)));
    if let Some((own, other, name)) = overlapping(&want.subnets, others) {
        return Some((7, format!("network {network}: its subnet {own} overlaps {other} of network {name}")));
    }
    let own = view.local.host.addresses.iter().map(|ip| (IpNetwork::from(*ip), "this host"));
    if let Some((own, other, _)) = overlapping(&want.subnets, own) {
        let other = other.ip();
        return Some((
            7,
            format!("network {network}: its subnet {own} has {other}, from which this host sends"),
        ));
    }
    if want.vni.is_some() {
        let (carried, least) = (mtu_here(view, want.encrypted), mtu_min(&want.subnets));
        let asked = want.mtu.filter(|mtu| *mtu != 0);
        if let Some(asked) = asked.filter(|asked| *asked > carried) {
            return Some((
                7,
                format!("network {network}: mtu is {asked}; this host's link carries at most {carried}"),
            ));
        }
        if carried < least {
            let link = view.local.host.mtu;
            return Some((
                7,
                format!(
                    "network {network}: the link of this host has an MTU of {link}, which leaves {carried} for containers; they need {least}"
                ),
            ));
        }
    }
    None
}
