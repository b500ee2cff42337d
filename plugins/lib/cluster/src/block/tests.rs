use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn space(subnet: &str, gateway: &str, size: u32) -> Space {
    Space { subnet: subnet.parse().unwrap(), gateway: gateway.parse().unwrap(), size }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_subnet_is_cut_from_its_start() {
    let space = space("10.9.0.0/24", "10.9.0.1", 8);
    assert_eq!(space.count(), 32);
    assert_eq!(space.block_of(ip("10.9.0.66")), Some(ip("10.9.0.64")));
    assert_eq!(space.last(ip("10.9.0.64")), Some(ip("10.9.0.71")));
    assert_eq!(space.block_of(ip("10.9.1.0")), None);
    assert!(space.is_block(ip("10.9.0.248")) && !space.is_block(ip("10.9.0.1")));
    let first: Vec<_> = space.usable(ip("10.9.0.0")).map(|ip| ip.to_string()).collect();
    assert_eq!(first, ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.7"]);
    assert_eq!(space.usable(ip("10.9.0.248")).last(), Some(ip("10.9.0.254")));
    assert_eq!(space.usable(ip("10.9.0.249")).next(), None);
    assert_eq!(space.own(ip("10.9.0.0")), Some(ip("10.9.0.2")));
    assert_eq!(space.own(ip("10.9.0.64")), Some(ip("10.9.0.64")));
}

#[test]
fn the_first_2_to_the_32_addresses_of_an_ipv6_subnet_are_cut() {
    let space = space("fd00:9::/48", "fd00:9::1", 64);
    assert_eq!(space.count(), 1 << 26);
    assert_eq!(space.block_of(ip("fd00:9::ffff:ffff")), Some(ip("fd00:9::ffff:ffc0")));
    assert_eq!(space.block_of(ip("fd00:9::1:0:0")), None);
    assert!(!space.is_usable(ip("fd00:9::1:0:0")) && !space.is_usable(ip("fd00:9::")));
    // An IPv6 subnet has no broadcast address.
    assert!(space.is_usable(ip("fd00:9::ffff:ffff")));
    let whole = Space { subnet: "10.0.0.0/8".parse().unwrap(), gateway: ip("10.0.0.1"), size: 1024 };
    assert_eq!(whole.count(), 1 << 14);
}

#[test]
fn a_bound_of_one_family_does_not_bound_the_other() {
    let limits = Limits {
        exclude: vec!["10.9.0.64/30".parse().unwrap()],
        start: Some(ip("10.9.0.60")),
        end: Some(ip("10.9.0.70")),
    };
    let given: Vec<_> = (0..=255u8).filter(|low| limits.gives(IpAddr::from([10, 9, 0, *low]))).collect();
    assert_eq!(given, [60, 61, 62, 63, 68, 69, 70]);
    assert!(limits.gives(ip("fd00::1")));
    assert!(limits.excludes(ip("10.9.0.65")) && !limits.excludes(ip("10.9.0.2")));
}

#[test]
fn the_last_free_block_is_found_and_no_block_after_it() {
    let space = space("10.9.0.0/24", "10.9.0.1", 8);
    let mut taken = BTreeSet::new();
    for round in 0..32 {
        let picked = space.pick(&taken, round * 7919).unwrap();
        assert!(space.is_block(picked) && taken.insert(picked), "{picked} twice");
    }
    assert_eq!(space.pick(&taken, 3), None);
    taken.remove(&ip("10.9.0.128"));
    assert_eq!(space.pick(&taken, u64::MAX), Some(ip("10.9.0.128")));
}

#[test]
fn a_useful_block_has_an_address_that_limits_leave() {
    let space = space("10.9.0.0/24", "10.9.0.1", 4);
    let limits = Limits {
        start: Some(ip("10.9.0.6")),
        end: Some(ip("10.9.0.17")),
        exclude: vec!["10.9.0.8/30".parse().unwrap()],
    };
    let useful = |seed: u64| space.useful(&limits, seed).collect::<BTreeMap<_, _>>();
    let expected = [("10.9.0.4", "10.9.0.6"), ("10.9.0.12", "10.9.0.12"), ("10.9.0.16", "10.9.0.16")];
    assert_eq!(useful(7), expected.map(|(first, given)| (ip(first), ip(given))).into());
    let picked: BTreeSet<_> = (0..64).filter_map(|seed| space.pick_useful(&[], seed, &limits)).collect();
    assert_eq!(picked, useful(0).into_keys().collect(), "hosts do not all begin with one block");
    let taken = [ip("10.9.0.4"), ip("10.9.0.12")];
    assert_eq!(space.pick_useful(&taken, 3, &limits), Some(ip("10.9.0.16")));
    assert_eq!(space.pick_useful(&[taken[0], taken[1], ip("10.9.0.16")], 3, &limits), None);
    assert_eq!(space.low_mark([ip("10.9.0.12")].into_iter(), &limits), 1);
}

#[test]
fn what_is_left_of_a_large_subnet_is_found() {
    let space = space("10.0.0.0/8", "10.0.0.1", 64);
    let of = |exclude: &[&str]| Limits {
        exclude: exclude.iter().map(|net| net.parse().unwrap()).collect(),
        ..Limits::default()
    };
    let limits = of(&["10.0.0.0/9", "10.128.0.0/10"]);
    for seed in 0..50 {
        let mut useful = space.useful(&limits, seed * 7919).take(16);
        assert!(useful.all(|(first, given)| first >= ip("10.192.0.0") && limits.gives(given)));
        assert!(space.pick_useful(&[], seed, &limits).is_some());
    }
    assert_eq!(space.pick_useful(&[], 1, &of(&["10.0.0.0/8"])), None);
}

/// A space small enough for a list of all its addresses.
fn small() -> impl Strategy<Value = Space> {
    let v4 = (20u8..=29, any::<u32>(), 1u32..=6).prop_map(|(prefix, bits, at)| {
        let host = u32::MAX >> prefix;
        let subnet = IpNetwork::new(Ipv4Addr::from_bits(bits & !host).into(), prefix).unwrap();
        (subnet, u128::from(at))
    });
    let v6 = (116u8..=120, any::<u128>(), 0u32..300).prop_map(|(prefix, bits, at)| {
        let host = u128::MAX >> prefix;
        let subnet = IpNetwork::new(Ipv6Addr::from_bits(bits & !host).into(), prefix).unwrap();
        (subnet, u128::from(at))
    });
    (prop_oneof![v4, v6], 2u32..=10).prop_filter_map("gateway in the subnet", |((subnet, at), power)| {
        let size = 1 << power;
        let gateway = address(subnet, at)?;
        (u128::from(size) <= addresses(subnet)).then_some(Space { subnet, gateway, size })
    })
}

proptest! {
    /// O-011: against a plain list of the subnet's addresses: each usable one is in exactly one
    /// block, and no other one is in any.
    #[test]
    fn every_usable_address_belongs_to_one_block(
        space in small(),
        excluded in proptest::collection::vec((any::<u16>(), 0u8..4), 0..4),
        bounds in any::<(Option<u16>, Option<u16>)>(),
    ) {
        let at = |offset: u16| address(space.subnet, u128::from(offset) % addresses(space.subnet)).unwrap();
        let bits = IpFamily::of(space.subnet.ip()).bits();
        let limits = Limits {
            exclude: excluded.iter().map(|(offset, wide)| IpNetwork::new(at(*offset), bits - wide).unwrap()).collect(),
            start: bounds.0.map(at),
            end: bounds.1.map(at),
        };
        let list: Vec<IpAddr> = space.subnet.iter().collect();
        let mut expected = BTreeMap::new();
        for (n, ip) in list.iter().enumerate() {
            let first_or_last = n == 0 || space.subnet.is_ipv4() && n + 1 == list.len();
            let is_kept = excluded.iter().any(|(offset, wide)| {
                let low = ((u128::from(*offset) % addresses(space.subnet)) >> wide) << wide;
                (low..low + (1 << wide)).contains(&(n as u128))
            });
            let is_outside = limits.start.is_some_and(|start| *ip < start) || limits.end.is_some_and(|end| *ip > end);
            if !first_or_last && *ip != space.gateway && !is_kept && !is_outside {
                expected.insert(*ip, list[n / space.size as usize * space.size as usize]);
            }
        }
        let mut found = BTreeMap::new();
        for number in 0..space.count() {
            let first = space.first(number).unwrap();
            prop_assert_eq!(space.number(first), Some(number));
            for ip in space.usable(first).filter(|ip| limits.gives(*ip)) {
                prop_assert_eq!(space.block_of(ip), Some(first));
                prop_assert_eq!(found.insert(ip, first), None);
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(space.first(space.count()), None);
    }

    /// O-011: the same for all prefix lengths, with samples in place of the list.
    #[test]
    fn blocks_of_all_subnets_are_whole_and_apart(
        v4: bool, bits: u128, prefix in 8u8..=120, power in 2u32..=10, sample: u64,
    ) {
        let (family, prefix) = if v4 { (IpFamily::V4, 8 + prefix % 22) } else { (IpFamily::V6, prefix.max(32)) };
        let bits = to_address(family, if v4 { bits % (1 << 32) } else { bits });
        let subnet = IpNetwork::new(bits, prefix).unwrap();
        let subnet = IpNetwork::new(subnet.network(), prefix).unwrap();
        let size = u32::try_from((1u128 << power).min(addresses(subnet))).unwrap();
        let space = Space { subnet, gateway: address(subnet, 1).unwrap(), size };
        prop_assert_eq!(u128::from(space.count()) * u128::from(size), addresses(subnet));
        let number = sample % space.count();
        let (first, last) = (space.first(number).unwrap(), space.last(space.first(number).unwrap()).unwrap());
        prop_assert!(subnet.contains(first) && subnet.contains(last));
        prop_assert_eq!(to_number(last) - to_number(first) + 1, u128::from(size));
        prop_assert_eq!((space.block_of(first), space.block_of(last)), (Some(first), Some(first)));
        if let Some(next) = space.first(number + 1) {
            prop_assert_eq!(to_number(next), to_number(last) + 1);
        } else {
            prop_assert_eq!(to_number(last) - to_number(subnet.network()) + 1, addresses(subnet));
        }
        prop_assert!(space.own(first).is_none_or(|own| space.is_usable(own)));
    }

    /// A picked block is free, and every free one can be picked.
    #[test]
    fn a_pick_is_one_of_the_free_blocks(
        space in small(), taken in proptest::collection::btree_set(0u64..64, 0..64), random: u64,
    ) {
        let taken: BTreeSet<IpAddr> = taken.iter().filter_map(|number| space.first(*number)).collect();
        let all: BTreeSet<IpAddr> = (0..space.count()).filter_map(|number| space.first(number)).collect();
        let free: BTreeSet<IpAddr> = all.difference(&taken).copied().collect();
        match space.pick(&taken, random) {
            Some(picked) => prop_assert!(free.contains(&picked)),
            None => prop_assert!(free.is_empty()),
        }
        if free.len() <= 64 {
            let each: BTreeSet<_> = (0..free.len() as u64).filter_map(|n| space.pick(&taken, n)).collect();
            prop_assert_eq!(each, free);
        }
    }
}
