use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(subnet: &str, start: &str, end: &str, gateway: &str) -> Result<Range, ConfigError> {
    let maybe = |text: &str| (!text.is_empty()).then(|| ip(text));
    Range::new(RangeParts {
        subnet: (!subnet.is_empty()).then(|| subnet.parse().unwrap()),
        start: maybe(start),
        end: maybe(end),
        gateway: maybe(gateway),
    })
}

fn set(subnets: &[&str]) -> RangeSet {
    RangeSet::new(subnets.iter().map(|subnet| range(subnet, "", "", "").unwrap()).collect()).unwrap()
}

fn order(set: &RangeSet, last: &str) -> Vec<String> {
    set.candidates(last.parse().ok(), &Exclude::default()).map(|ip| ip.to_string()).collect()
}

/// HL-K3, HL-K4: operators search logs for these texts.
#[test]
fn a_wrong_range_fails_with_the_references_text() {
    for (given, text) in [
        (range("", "", "", ""), "IP <nil> not v4 nor v6"),
        (range("10.0.0.0/31", "", "", ""), "Network 10.0.0.0/31 too small to allocate from"),
        (range("10.0.0.1/32", "", "", ""), "Network 10.0.0.1/32 too small to allocate from"),
        (range("fd00::/127", "", "", ""), "Network fd00::/127 too small to allocate from"),
        (
            range("10.0.0.1/24", "", "", ""),
            "Network has host bits set. For a subnet mask of length 24 the network address is 10.0.0.0",
        ),
        (range("10.0.0.0/24", "10.0.1.1", "", ""), "RangeStart 10.0.1.1 not in network 10.0.0.0/24"),
        (
            range("10.0.0.0/24", "10.0.0.9", "10.0.0.8", ""),
            "RangeStart 10.0.0.9 not in network 10.0.0.0/24: it is after the range's end 10.0.0.8",
        ),
        (range("10.0.0.0/24", "fd00::1", "", ""), "RangeStart fd00::1 not in network 10.0.0.0/24"),
        (range("10.0.0.0/24", "", "10.0.1.1", ""), "RangeEnd 10.0.1.1 not in network 10.0.0.0/24"),
        (
            range("10.0.0.0/24", "", "10.0.0.0", ""),
            "RangeEnd 10.0.0.0 not in network 10.0.0.0/24: it is the subnet's network address, which is never given out",
        ),
        (
            range("10.0.0.0/24", "10.0.0.255", "", ""),
            "RangeStart 10.0.0.255 is the broadcast address of 10.0.0.0/24, which is never given out",
        ),
        (
            range("10.0.0.0/24", "10.0.0.255", "10.0.0.255", ""),
            "the range has no address to give: 10.0.0.255 is the broadcast address of 10.0.0.0/24, which is never given out",
        ),
        (
            range("10.0.0.0/24", "10.0.0.0", "10.0.0.0", ""),
            "the range has no address to give: 10.0.0.0 is the network address of 10.0.0.0/24, which is never given out",
        ),
        (
            range("10.0.0.0/24", "", "", "fd00::1"),
            "gateway fd00::1 is not of the address family of subnet 10.0.0.0/24",
        ),
    ] {
        assert_eq!(given.unwrap_err().to_string(), text);
    }
}

#[test]
fn absent_bounds_have_defaults() {
    for (subnet, start, end) in [
        ("10.0.0.0/24", "10.0.0.1", "10.0.0.254"),
        ("10.0.0.0/30", "10.0.0.1", "10.0.0.2"),
        ("fd00::/126", "fd00::1", "fd00::3"),
        ("0.0.0.0/0", "0.0.0.1", "255.255.255.254"),
        ("::/0", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ] {
        let range = range(subnet, "", "", "").unwrap();
        assert_eq!((range.start, range.end, range.gateway), (ip(start), ip(end), ip(start)));
    }
}

/// As in the reference, the first address of the subnet can be allocated then.
#[test]
fn a_gateway_outside_the_subnet_reserves_nothing() {
    let range = range("10.0.0.0/29", "", "", "192.0.2.1").unwrap();
    let set = RangeSet::new(vec![range]).unwrap();
    assert_eq!(order(&set, "")[0], "10.0.0.1");
    assert_eq!(set.describe(ip("10.0.0.1")).unwrap().1, ip("192.0.2.1"));
}

#[test]
fn a_wrong_set_fails_with_the_references_text() {
    let ranges = |subnets: &[&str]| {
        RangeSet::new(subnets.iter().map(|subnet| range(subnet, "", "", "").unwrap()).collect())
    };
    assert_eq!(ranges(&[]).unwrap_err().to_string(), "empty range set");
    assert_eq!(ranges(&["10.0.0.0/24", "fd00::/64"]).unwrap_err().to_string(), "mixed address families");
    assert_eq!(
        ranges(&["10.0.0.0/24", "10.0.0.128/25"]).unwrap_err().to_string(),
        "subnets 10.0.0.1-10.0.0.254 and 10.0.0.129-10.0.0.254 overlap"
    );
    assert_eq!(set(&["10.0.0.0/30", "10.0.1.0/30"]).to_string(), "10.0.0.1-10.0.0.2,10.0.1.1-10.0.1.2");
}

/// HL-2, HL-3: the vectors that only depend on the order.
#[test]
fn candidates_start_after_the_last_address_and_wrap_around() {
    let small = set(&["10.0.0.0/29"]);
    let from_start = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"];
    assert_eq!(order(&small, ""), from_start);
    assert_eq!(order(&small, "10.0.0.5"), ["10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]);
    assert_eq!(order(&small, "10.0.0.6"), from_start);
    assert_eq!(order(&small, "10.0.0.128"), from_start, "not of this set");
    assert_eq!(order(&small, "fd00::1"), from_start);
    assert_eq!(order(&set(&["10.0.0.0/30", "10.0.1.0/30"]), "10.0.0.2"), ["10.0.1.2", "10.0.0.2"]);
    assert_eq!(order(&set(&["10.0.0.0/30"]), "10.0.0.2"), ["10.0.0.2"]);
    assert_eq!(order(&set(&["fd00:1::/126"]), ""), ["fd00:1::2", "fd00:1::3"]);
    let wide = order(&set(&["10.0.0.0/22"]), "10.0.0.254");
    assert_eq!(&wide[..2], ["10.0.0.255", "10.0.1.0"]);
}

/// HL-B2: the reference allocates them when start and end include them.
#[test]
fn network_and_broadcast_addresses_are_never_allocated() {
    let all = range("10.0.0.0/29", "10.0.0.0", "10.0.0.7", "").unwrap();
    assert_eq!(all.reserved(ip("10.0.0.0")), Some(Reserved::Network));
    assert_eq!(all.reserved(ip("10.0.0.7")), Some(Reserved::Broadcast));
    let set = RangeSet::new(vec![all]).unwrap();
    assert_eq!(order(&set, ""), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    let six = RangeSet::new(vec![range("fd00::/126", "fd00::", "", "").unwrap()]).unwrap();
    assert_eq!(order(&six, ""), ["fd00::2", "fd00::3"]);
}

#[test]
fn excluded_blocks_of_any_size_are_skipped_at_once() {
    let set = set(&["fd00::/64"]);
    let exclude = Exclude::new(&["fd00::/65".parse().unwrap(), "fd00::8000:0:0:0/128".parse().unwrap()]);
    let mut candidates = set.candidates(None, &exclude);
    assert_eq!(candidates.next(), Some(ip("fd00::8000:0:0:1")));
    assert!(exclude.contains(ip("fd00::1")) && !exclude.contains(ip("fd00::8000:0:0:1")));
    assert!(!Exclude::new(&["::/0".parse().unwrap()]).contains(ip("10.0.0.1")), "of the other family");
}

proptest! {
    /// The definition: start after the last address, step by one, wrap around the ranges, skip
    /// reserved and excluded addresses, stop after one round.
    #[test]
    fn the_order_equals_that_of_single_steps(
        bounds in prop::collection::vec((1_u32..30, 0_u32..30), 1..4),
        last in 0_u32..100,
        holes in prop::collection::vec((0_u32..100, 28_u8..=32), 0..4),
    ) {
        let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let at = |n: u32| IpAddr::V4((base + n).into());
        let ranges: Vec<Range> = bounds.iter().zip(0_u32..).map(|((from, len), block)| {
            let parts = RangeParts {
                subnet: Some(IpNetwork::new(at(block * 32), 27).unwrap()),
                start: Some(at(block * 32 + from)),
                end: Some(at(block * 32 + (from + len).min(31))),
                gateway: None,
            };
            Range::new(parts).unwrap()
        }).collect();
        let exclude = Exclude::new(&holes.iter().map(|(n, len)| IpNetwork::new(at(*n), *len).unwrap()).collect::<Vec<_>>());
        let steps: Vec<IpAddr> = ranges.iter().flat_map(|range| {
            (0..100).map(at).filter(|ip| range.contains(*ip)).collect::<Vec<_>>()
        }).collect();
        let begin = steps.iter().position(|ip| *ip == at(last)).map_or(0, |found| found + 1);
        let set = RangeSet::new(ranges).unwrap();
        let wanted: Vec<IpAddr> = (0..steps.len())
            .map(|step| steps[(begin + step) % steps.len()])
            .filter(|ip| set.range_of(*ip).unwrap().reserved(*ip).is_none() && !exclude.contains(*ip))
            .collect();
        prop_assert_eq!(set.candidates(Some(at(last)), &exclude).collect::<Vec<_>>(), wanted);
    }
}
