//! Addresses that several containers of one network have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::Attachment;

/// The addresses, each with the containers. What has no namespace has no address.
pub fn addresses(attachments: &[Attachment]) -> Vec<(IpAddr, Vec<String>)> {
    let mut owners: BTreeMap<(&str, IpAddr), BTreeMap<usize, String>> = BTreeMap::new();
    for one in attachments.iter().filter(|one| one.may_be_alive() && !one.network.is_empty()) {
        let Some(namespace) = one.namespace else { continue };
        for address in one.addresses.iter().filter(|address| !is_of_link(address)) {
            let owners = owners.entry((&one.network, *address)).or_default();
            owners
                .entry(namespace)
                .or_insert_with(|| format!("{} {} on {}", one.shown_name(), one.ifname, one.network));
        }
    }
    let twice = owners.into_iter().filter(|(_, owners)| owners.len() > 1);
    twice.map(|((_, address), owners)| (address, names(owners))).collect()
}

fn names(owners: BTreeMap<usize, String>) -> Vec<String> {
    owners.into_values().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether every link may have such an address.
fn is_of_link(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;

    #[test]
    fn an_address_of_two_containers_of_a_network_is_found() {
        let of = |id: &str, network: &str, namespace: usize| Attachment {
            container_id: id.into(),
            network: network.into(),
            ifname: "eth0".into(),
            addresses: ["10.0.0.2", "fe80::1"].iter().filter_map(|ip| ip.parse().ok()).collect(),
            namespace: Some(namespace),
            state: State::Up,
            ..Attachment::default()
        };
        let twice = addresses(&[of("a", "front", 1), of("b", "front", 2), of("c", "back", 3)]);
        let [(address, owners)] = &twice[..] else { panic!("{twice:?}") };
        assert_eq!(address.to_string(), "10.0.0.2");
        assert_eq!(owners, &["a eth0 on front", "b eth0 on front"]);
        assert!(addresses(&[of("a", "front", 1), of("a", "front", 1)]).is_empty());
    }
}
