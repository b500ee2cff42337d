use super::*;
use crate::VERSION;

fn net(subnets: &[&str]) -> Net {
    let subnets: Vec<IpNetwork> = subnets.iter().map(|text| text.parse().unwrap()).collect();
    Net {
        v: VERSION,
        vni: Some(crate::VNI_FIRST),
        gateways: subnets.iter().map(|subnet| default_gateway(*subnet).unwrap()).collect(),
        block_size: default_block_size(&subnets),
        subnets,
        mtu: Some(1450),
        encrypted: false,
        multicast: false,
        internal: false,
    }
}

#[test]
fn the_block_size_follows_the_size_of_the_subnet() {
    for (subnet, size) in [
        ("10.0.0.0/8", 64),
        ("10.9.0.0/20", 64),
        ("10.9.0.0/21", 16),
        ("10.9.0.0/23", 16),
        ("10.9.0.0/24", 8),
        ("10.9.0.0/29", 8),
        ("fd00:9::/64", 64),
        ("fd00:9::/120", 8),
    ] {
        assert_eq!(net(&[subnet]).block_size, size, "{subnet}");
        assert_eq!(check(&net(&[subnet])), Ok(()), "{subnet}");
    }
    assert_eq!(net(&["10.9.0.0/24", "fd00:9::/64"]).block_size, 8);
}

#[test]
fn the_mtu_is_what_the_underlay_leaves() {
    for (link, family, encrypted, mtu) in [
        (1500, IpFamily::V4, false, 1450),
        (9000, IpFamily::V4, false, 8950),
        (1420, IpFamily::V4, false, 1370),
        (1500, IpFamily::V6, false, 1430),
        // VXLAN in WireGuard is between IPv6 addresses; 1,370 bytes were seen to pass.
        (1500, IpFamily::V4, true, 1370),
        (1500, IpFamily::V6, true, 1350),
        (65536, IpFamily::V4, false, MTU_MAX),
        (20, IpFamily::V4, false, 0),
    ] {
        assert_eq!(mtu_of_underlay(link, family, encrypted), mtu, "{link} {family:?} {encrypted}");
    }
}

#[test]
fn a_record_with_impossible_members_is_refused() {
    let good = net(&["10.9.0.0/16", "fd00:9::/64"]);
    let set = |change: &dyn Fn(&mut Net)| {
        let mut net = good.clone();
        change(&mut net);
        check(&net)
    };
    assert_eq!(check(&good), Ok(()));
    let subnets =
        |texts: &[&str]| texts.iter().map(|text| cni::parse_cidr(text).unwrap()).collect::<Vec<_>>();
    for texts in [
        &[][..],
        &["10.9.0.0/16", "10.8.0.0/16"],
        &["10.9.0.0/16", "fd00:9::/64", "10.8.0.0/16"],
        &["10.9.0.1/16", "fd00:9::/64"],
        &["10.0.0.0/7", "fd00:9::/64"],
        &["10.9.0.0/30", "fd00:9::/64"],
        &["10.9.0.0/16", "fd00::/31"],
        &["10.9.0.0/16", "fd00:9::/121"],
        &["224.0.0.0/8", "fd00:9::/64"],
        &["127.0.0.0/8", "fd00:9::/64"],
        &["10.9.0.0/16", "ff02::/64"],
        &["10.9.0.0/16", "fe80::/64"],
        &["0.0.0.0/8", "fd00:9::/64"],
    ] {
        assert!(set(&|net| net.subnets = subnets(texts)).is_err(), "{texts:?}");
    }
    let gateways = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    for texts in [
        &["10.9.0.1"][..],
        &["fd00:9::1", "10.9.0.1"],
        &["10.8.0.1", "fd00:9::1"],
        &["10.9.0.0", "fd00:9::1"],
        &["10.9.255.255", "fd00:9::1"],
        &["10.9.0.1", "fd00:9::"],
    ] {
        assert!(set(&|net| net.gateways = gateways(texts)).is_err(), "{texts:?}");
    }
    for size in [0, 2, 3, 96, 2048] {
        assert!(set(&|net| net.block_size = size).is_err(), "{size}");
    }
    for mtu in [1, 1279, MTU_MAX + 1] {
        assert!(set(&|net| net.mtu = Some(mtu)).is_err(), "{mtu}");
    }
    let mut small = net(&["10.9.0.0/29"]);
    small.block_size = 16;
    assert!(check(&small).is_err());
}

/// O-095: what differs from the record is named with both values.
#[test]
fn each_difference_names_both_values() {
    let have = net(&["10.9.0.0/16"]);
    let mut want = Net { vni: Some(0), mtu: Some(0), ..have.clone() };
    assert_eq!(differences(&want, &have), []);
    want = Net {
        mtu: Some(1400),
        encrypted: true,
        multicast: true,
        internal: true,
        block_size: 16,
        ..net(&["10.8.0.0/16"])
    };
    let found = differences(&want, &have);
    let keys: Vec<_> = found.iter().map(|differs| differs.key).collect();
    assert_eq!(keys, ["subnets", "gateway", "blockSize", "mtu", "encrypted", "multicast", "internal"]);
    let first = found.first().unwrap().to_string();
    assert_eq!(
        first,
        "subnets is 10.8.0.0/16 here, and 10.9.0.0/16 in the network's record, which all hosts share"
    );
    let alone = Net { vni: None, mtu: None, ..have.clone() };
    assert_eq!(differences(&alone, &have).len(), 1);
}

/// O-095: subnets that share an address are both named.
#[test]
fn overlapping_subnets_are_found() {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNetwork>>();
    let subnets = nets(&["10.9.0.0/16", "fd00:9::/64"]);
    let others = nets(&["10.8.0.0/16", "fd00::/16", "10.9.255.0/24"]);
    let others = || others.iter().copied().zip(["one", "two", "three"]);
    let (subnet, other, what) = overlapping(&subnets, others()).unwrap();
    assert_eq!(
        (subnet.to_string(), other.to_string(), what),
        ("fd00:9::/64".into(), "fd00::/16".into(), "two")
    );
    assert!(overlapping(&subnets[..1], others().take(2)).is_none());
    assert!(overlapping(&subnets, [("10.9.7.7/32".parse().unwrap(), "underlay")]).is_some());
}

#[test]
fn names_of_links_fit_and_differ() {
    let (one, other) = (Links::of("front"), Links::of("back"));
    assert!(one.bridge.len() <= 15 && one.bridge != other.bridge && one.vxlan != one.bridge);
    assert_eq!(one.bridge.strip_prefix("mo"), one.vxlan.strip_prefix("mx"));
    // On running hosts: another derivation would orphan their links.
    assert_eq!(one.bridge, "mo566e9e4b38");
}
