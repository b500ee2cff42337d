#![allow(clippy::unwrap_used)]

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::entry::{Described, Found, Neighbour, Remote};
use super::*;

fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac([2, 0x6d, 10, 9, high, low])
}

fn address(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([10, 9, high, low])
}

fn any_mac() -> impl Strategy<Value = Mac> {
    (0u16..20).prop_map(mac)
}

fn any_host() -> impl Strategy<Value = IpAddr> {
    (0u8..4).prop_map(|number| IpAddr::from([192, 0, 2, number]))
}

fn any_entries() -> impl Strategy<Value = Entries> {
    let neighbours = btree_map((0u16..20).prop_map(address), any_mac(), 0..20);
    (btree_map(any_mac(), any_host(), 0..20), btree_set(any_host(), 0..4), neighbours)
        .prop_map(|(forwarding, flood, neighbours)| Entries { forwarding, flood, neighbours })
}

fn any_found() -> impl Strategy<Value = Found> {
    let remote = (proptest::option::of(any_host()), any::<bool>())
        .prop_map(|(host, is_plain)| Remote { host, is_plain });
    let macs = prop_oneof![any_mac(), Just(Mac([0; 6]))];
    let neighbour = (proptest::option::of(any_mac()), any::<bool>())
        .prop_map(|(mac, is_permanent)| Neighbour { mac, is_permanent });
    let forwarding = btree_map(macs, vec(remote, 1..3), 0..20);
    (forwarding, btree_map((0u16..20).prop_map(address), neighbour, 0..20))
        .prop_map(|(forwarding, neighbours)| Found { forwarding, neighbours })
}

/// What the kernel makes of changes, as vxlan_fdb_update and neigh_update do.
fn applied(mut found: Found, changes: &[Change]) -> Found {
    let zero = Mac([0; 6]);
    for change in changes {
        match *change {
            Change::DropForwarding(mac) => drop(found.forwarding.remove(&mac)),
            Change::SetForwarding(mac, host) => {
                let remotes = found.forwarding.entry(mac).or_default();
                let state = Remote { host: Some(host), is_plain: true };
                match remotes.first_mut() {
                    Some(first) => *first = state,
                    None => remotes.push(state),
                }
            }
            Change::DropFlood(host) => {
                let remotes = found.forwarding.entry(zero).or_default();
                remotes.retain(|remote| remote.host != Some(host));
                if remotes.is_empty() {
                    found.forwarding.remove(&zero);
                }
            }
            Change::AddFlood(host) => {
                let state = Remote { host: Some(host), is_plain: true };
                found.forwarding.entry(zero).or_default().push(state);
            }
            Change::DropNeighbour(ip) => drop(found.neighbours.remove(&ip)),
            Change::SetNeighbour(ip, mac) => {
                found.neighbours.insert(ip, Neighbour { mac: Some(mac), is_permanent: true });
            }
        }
    }
    found
}

fn distinct(mut found: Found) -> Found {
    for remotes in found.forwarding.values_mut() {
        remotes.sort_by_key(|remote| remote.host);
        remotes.dedup_by_key(|remote| remote.host);
    }
    found
}

proptest! {
    #[test]
    fn a_repair_leaves_nothing_to_repair(found in any_found(), wanted in any_entries()) {
        let found = distinct(found);
        let (changes, lines) = diff::repair(&found, &wanted);
        prop_assert_eq!(changes.is_empty(), lines.is_empty());
        let (changes, lines) = diff::repair(&applied(found, &changes), &wanted);
        prop_assert_eq!((changes, lines), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_step_between_two_states_leaves_nothing_to_repair(before in any_entries(), after in any_entries()) {
        let start = applied(Found::default(), &diff::between(&Entries::default(), &before));
        let end = applied(start, &diff::between(&before, &after));
        prop_assert_eq!(diff::repair(&end, &after).1, Vec::<String>::new());
    }

    #[test]
    fn the_reader_of_entries_never_panics(bytes in vec(any::<u8>(), 0..100)) {
        let _ = entry::read(&bytes);
    }

    #[test]
    fn a_request_is_read_as_the_entry_that_it_makes(number: u16, host in any_host(), index: u32) {
        let bytes = Change::SetForwarding(mac(number), host).request(index).finish(1).unwrap();
        let read = entry::read(bytes.get(16..).unwrap()).unwrap();
        let remote = Remote { host: Some(host), is_plain: true };
        prop_assert_eq!(read, Some((index, Described::Forwarding(mac(number), remote))));
        let bytes = Change::SetNeighbour(address(number), mac(number)).request(index).finish(1).unwrap();
        let read = entry::read(bytes.get(16..).unwrap()).unwrap();
        let neighbour = Neighbour { mac: Some(mac(number)), is_permanent: true };
        prop_assert_eq!(read, Some((index, Described::Neighbour(address(number), neighbour))));
    }
}
