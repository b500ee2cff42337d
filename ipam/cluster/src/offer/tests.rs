#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;

use cluster::record::Net;
use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

fn settings(subnets: &[&str], size: u32) -> Settings {
    let subnets: Vec<IpNetwork> = subnets.iter().map(|text| text.parse().unwrap()).collect();
    let gateways = subnets.iter().map(|subnet| cluster::net::default_gateway(*subnet).unwrap()).collect();
    Settings {
        asked: vec![None; subnets.len()],
        want: Net {
            v: 1,
            vni: None,
            subnets,
            gateways,
            block_size: size,
            mtu: None,
            encrypted: false,
            multicast: false,
            internal: false,
        },
        limits: Limits::default(),
        cooldown: 30,
        routes: Vec::new(),
        resolv_conf: None,
        host_conf: None,
    }
}

fn blocks(blocks: &[&str]) -> Blocks {
    Blocks { v: 1, blocks: ips(blocks), ..Blocks::default() }
}

/// The addresses that would be given, in order.
fn given(settings: &Settings, blocks: &Blocks) -> Vec<String> {
    let offer = offer(settings, blocks).unwrap();
    let each = offer.sets.iter().flat_map(|set| set.candidates(None, &offer.exclude));
    each.map(|ip| ip.to_string()).collect()
}

#[test]
fn own_lent_and_special_addresses_are_left_out() {
    let settings = settings(&["10.9.0.0/28"], 4);
    let blocks =
        Blocks { lent: ips(&["10.9.0.13"]), own: ips(&["10.9.0.2"]), ..blocks(&["10.9.0.12", "10.9.0.0"]) };
    assert_eq!(given(&settings, &blocks), ["10.9.0.3", "10.9.0.12", "10.9.0.14"]);
}

#[test]
fn borrowed_addresses_are_given_and_neighbours_are_one_range() {
    let settings = settings(&["10.9.0.0/24"], 4);
    let blocks = Blocks { borrowed: ips(&["10.9.0.20", "10.9.0.99"]), ..blocks(&["10.9.0.16"]) };
    let found = offer(&settings, &blocks).unwrap();
    assert_eq!(found.sets[0].to_string(), "10.9.0.16-10.9.0.20,10.9.0.99-10.9.0.99");
}

#[test]
fn firsts_that_begin_no_block_are_ignored() {
    let settings = settings(&["10.9.0.0/24"], 4);
    let blocks = blocks(&["10.9.0.17", "10.8.0.0", "fd00::", "10.9.0.20"]);
    assert_eq!(offer(&settings, &blocks).unwrap().sets[0].to_string(), "10.9.0.20-10.9.0.23");
}

#[test]
fn bounds_hold_for_what_is_given_by_itself_alone() {
    let mut settings = settings(&["10.9.0.0/24"], 4);
    settings.limits.start = Some(ip("10.9.0.18"));
    settings.limits.end = Some(ip("10.9.0.21"));
    let blocks = blocks(&["10.9.0.16", "10.9.0.20", "10.9.0.32"]);
    assert_eq!(given(&settings, &blocks), ["10.9.0.18", "10.9.0.19", "10.9.0.20", "10.9.0.21"]);
    settings.asked = vec![Some(ip("10.9.0.33"))];
    assert!(offer(&settings, &blocks).unwrap().sets[0].range_of(ip("10.9.0.33")).is_some());
}

#[test]
fn what_is_lacking_is_named() {
    let mut settings = settings(&["10.9.0.0/24", "fd00:9::/64"], 4);
    assert_eq!(offer(&settings, &blocks(&[])), Err(Lack::Any(0)));
    assert_eq!(offer(&settings, &blocks(&["10.9.0.4"])), Err(Lack::Any(1)));
    settings.asked = vec![Some(ip("10.9.0.9")), None];
    let both = blocks(&["10.9.0.4", "fd00:9::"]);
    assert_eq!(offer(&settings, &both), Err(Lack::Address(ip("10.9.0.9"))));
    settings.asked = vec![Some(ip("10.9.0.5")), None];
    assert!(offer(&settings, &both).is_ok());
    let lent = Blocks { lent: ips(&["10.9.0.5"]), ..both };
    assert_eq!(offer(&settings, &lent), Err(Lack::Address(ip("10.9.0.5"))));
}

#[test]
fn addresses_are_low_before_the_last_quarter_of_a_block() {
    let settings = settings(&["10.9.0.0/24"], 16);
    let blocks = blocks(&["10.9.0.16", "10.9.0.32"]);
    assert!(!is_low(&settings, &blocks, 28));
    assert!(is_low(&settings, &blocks, 29));
    let more = Blocks {
        own: ips(&["10.9.0.17"]),
        lent: ips(&["10.9.0.18"]),
        borrowed: ips(&["10.9.0.99"]),
        ..blocks.clone()
    };
    assert!(!is_low(&settings, &more, 27));
    assert!(is_low(&settings, &more, 28));
    assert!(is_low(&settings, &blocks, 999));
    assert!(is_low(&settings, &Blocks::default(), 0));
}

#[test]
fn what_is_kept_back_does_not_count_as_left() {
    let mut settings = settings(&["10.9.0.0/24"], 16);
    settings.limits.exclude = vec!["10.9.0.24/29".parse().unwrap(), "10.9.0.40/29".parse().unwrap()];
    // Of each block 8 addresses are left; a quarter of them is 2.
    let blocks = blocks(&["10.9.0.16", "10.9.0.32"]);
    assert!(!is_low(&settings, &blocks, 14));
    assert!(is_low(&settings, &blocks, 15));
}

fn hosts() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    // The owner of each of 32 blocks of 8 addresses, and which of its addresses are lent.
    prop::collection::vec((0_usize..4, prop::collection::vec(0_u8..8, 0..3)), 32)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Whoever has which block, and lends what to whom: no address is offered by two hosts, and
    /// every offered one is usable and held.
    #[test]
    fn no_two_hosts_offer_one_address(owners in hosts(), own in 0_u8..8, limit in prop::option::of((0_u8..200, 0_u8..56))) {
        let mut settings = settings(&["10.9.0.0/24"], 8);
        if let Some((start, more)) = limit {
            settings.limits.start = Some(IpAddr::from([10, 9, 0, start]));
            settings.limits.end = Some(IpAddr::from([10, 9, 0, start + more]));
        }
        let space = Space::of(&settings.want)[0];
        let mut hosts = vec![Blocks::default(); 4];
        for (number, (owner, lent)) in owners.iter().enumerate() {
            let first = space.first(number as u64).unwrap();
            let last = match first { IpAddr::V4(ip) => ip.octets()[3], IpAddr::V6(_) => 0 };
            let host = *owner;
            hosts[host].blocks.push(first);
            if hosts[host].own.is_empty() {
                hosts[host].own.push(IpAddr::from([10, 9, 0, last + own]));
            }
            for offset in lent {
                let ip = IpAddr::from([10, 9, 0, last + offset]);
                if !hosts[host].own.contains(&ip) && !hosts[host].lent.contains(&ip) {
                    hosts[host].lent.push(ip);
                    hosts[(host + 1) % 4].borrowed.push(ip);
                }
            }
        }
        let mut seen = BTreeSet::new();
        for blocks in &hosts {
            let Ok(offer) = offer(&settings, blocks) else { continue };
            for ip in offer.sets[0].candidates(None, &offer.exclude) {
                prop_assert!(seen.insert(ip), "{} twice", ip);
                prop_assert!(space.is_usable(ip) && is_held(&space, blocks, ip), "{}", ip);
                prop_assert!(settings.limits.gives(ip), "{}", ip);
            }
        }
    }
}
