#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use cni::testing;
use serde_json::{Value, json};

use super::*;

fn settings_of(ipam: Value, more: Value, args: &str) -> Result<Settings, String> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "front", "type": "bridge", "ipam": ipam });
    conf.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let request = testing::add(&conf.to_string(), args);
    super::settings(&request).map_err(|error| format!("{} {}", error.code, error.msg))
}

fn settings(ipam: Value) -> Result<Settings, String> {
    settings_of(ipam, json!({}), "")
}

fn refused(ipam: Value) -> String {
    settings(ipam).unwrap_err()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn subnets_alone_are_enough() {
    let found = settings(json!({ "subnets": ["10.9.0.0/16", "fd00:9::/64"] })).unwrap();
    assert_eq!(found.want.gateways, [ip("10.9.0.1"), ip("fd00:9::1")]);
    assert_eq!((found.want.block_size, found.cooldown), (64, 30));
    assert_eq!(found.asked, [None, None]);
    assert_eq!((found.limits, found.host_conf, found.resolv_conf), (Limits::default(), None, None));
}

#[test]
fn blocks_are_smaller_in_smaller_subnets() {
    for (subnet, size) in [("10.9.0.0/20", 64), ("10.9.0.0/21", 16), ("10.9.0.0/23", 16), ("10.9.0.0/24", 8)]
    {
        assert_eq!(settings(json!({ "subnets": [subnet] })).unwrap().want.block_size, size, "{subnet}");
    }
}

/// O-095
#[test]
fn what_is_wrong_with_subnets_is_named() {
    for (ipam, wanted) in [
        (json!({}), "7 cluster: ipam.subnets has 0 subnets"),
        (json!({ "subnets": [] }), "7 cluster: ipam.subnets has 0 subnets"),
        (json!({ "subnets": ["10.9.0.0/16", "fd00:9::/64", "10.8.0.0/16"] }), "has 3 subnets"),
        (
            json!({ "subnets": ["10.9.0.0/16", "10.8.0.0/16"] }),
            "10.9.0.0/16 and 10.8.0.0/16 are of one family",
        ),
        (json!({ "subnets": ["10.9.0.0/30"] }), "10.9.0.0/30 is not from /8 to /29"),
        (json!({ "subnets": ["0.0.0.0/0"] }), "is not from /8 to /29"),
        (json!({ "subnets": ["fd00:9::/121"] }), "of IPv6 from /32 to /120"),
        (json!({ "subnets": ["fd00::/31"] }), "of IPv6 from /32 to /120"),
        (json!({ "subnets": ["10.9.0.1/16"] }), "Network has host bits set"),
        (json!({ "subnets": ["::ffff:10.9.0.0/112"] }), "version mismatch"),
        (json!({ "subnets": ["10.9.0.0"] }), "invalid CIDR address: 10.9.0.0"),
        (json!({ "subnets": [null] }), "invalid CIDR address"),
    ] {
        let error = refused(ipam.clone());
        assert!(error.starts_with("7 ") && error.contains(wanted), "{ipam}: {error}");
    }
}

/// O-095
#[test]
fn what_is_wrong_with_other_keys_is_named() {
    let subnets = json!(["10.9.0.0/16", "fd00:9::/64"]);
    for (key, value, wanted) in [
        ("gateway", json!("10.8.0.1"), "10.8.0.1 cannot be the gateway of 10.9.0.0/16"),
        ("gateway", json!("10.9.0.0"), "10.9.0.0 cannot be the gateway"),
        ("gateway", json!("10.9.255.255"), "10.9.255.255 cannot be the gateway"),
        ("gateway", json!("fd00:9::"), "fd00:9:: cannot be the gateway"),
        ("gateway", json!(["10.9.0.1", "10.9.0.2"]), "there is no subnet left for 10.9.0.2"),
        ("gateway", json!(["10.9.0.1", "10.9.0.2", "10.9.0.3"]), "3 entries in gateway"),
        ("gateway", json!(7), "neither an address nor a list"),
        ("gateway", json!([7]), "neither an address nor a list"),
        ("gateway", json!("x"), "invalid IP address"),
        ("blockSize", json!(3), "3 is not a power of two from 4 to 1024"),
        ("blockSize", json!(2), "2 is not a power of two"),
        ("blockSize", json!(2048), "2048 is not a power of two"),
        ("exclude", json!(["x"]), "invalid IP address"),
        ("rangeStart", json!("10.8.0.1"), "ipam.rangeStart: 10.8.0.1 is in no subnet"),
        ("rangeEnd", json!("x"), "invalid IP address"),
        ("resolvConf", json!("etc/resolv.conf"), "\"etc/resolv.conf\" is not an absolute path"),
    ] {
        let mut ipam = json!({ "subnets": subnets });
        ipam[key] = value.clone();
        let error = refused(ipam);
        assert!(error.starts_with("7 ") && error.contains(wanted), "{key}: {value}: {error}");
    }
    let error = refused(json!({ "subnets": subnets, "rangeStart": "10.9.0.9", "rangeEnd": "10.9.0.8" }));
    assert!(error.contains("10.9.0.9 is after rangeEnd, 10.9.0.8"), "{error}");
    let error = refused(json!({ "subnets": ["10.9.0.0/29"], "blockSize": 16 }));
    assert!(error.contains("16 addresses are more than 10.9.0.0/29 has"), "{error}");
    let error = settings_of(json!({ "subnets": subnets }), json!({ "cluster": "x" }), "").unwrap_err();
    assert!(error.starts_with("7 cluster: cluster: \"x\" is not an absolute path"), "{error}");
}

#[test]
fn gateways_stand_in_any_order_and_may_be_left_out() {
    let gateways = |gateway: Value| {
        settings(json!({ "subnets": ["10.9.0.0/16", "fd00:9::/64"], "gateway": gateway }))
            .unwrap()
            .want
            .gateways
    };
    assert_eq!(gateways(json!("fd00:9::9")), [ip("10.9.0.1"), ip("fd00:9::9")]);
    assert_eq!(gateways(json!(["fd00:9::9", "10.9.255.254"])), [ip("10.9.255.254"), ip("fd00:9::9")]);
    assert_eq!(gateways(json!("")), [ip("10.9.0.1"), ip("fd00:9::1")]);
    assert_eq!(gateways(json!([])), [ip("10.9.0.1"), ip("fd00:9::1")]);
}

#[test]
fn a_runtimes_ranges_are_refused_with_code_2() {
    let with = |ranges: Value| {
        let more = json!({ "runtimeConfig": { "ipRanges": ranges } });
        settings_of(json!({ "subnets": ["10.9.0.0/16"] }), more, "")
    };
    let error = with(json!([[{ "subnet": "10.8.0.0/24" }]])).unwrap_err();
    assert!(error.starts_with("2 ") && error.contains("ipRanges"), "{error}");
    assert!(with(json!([])).is_ok() && with(json!(null)).is_ok());
}

#[test]
fn addresses_asked_for_come_from_three_places() {
    let more = json!({
        "args": { "cni": { "ips": ["fd00:9::42"] } },
        "runtimeConfig": { "ips": ["10.9.3.3/16"] },
    });
    let ipam = json!({ "subnets": ["10.9.0.0/16", "fd00:9::/64"] });
    let found = settings_of(ipam.clone(), more, "IgnoreUnknown=1;IP=10.9.3.3").unwrap();
    assert_eq!(found.asked, [Some(ip("10.9.3.3")), Some(ip("fd00:9::42"))]);
    for (asked, wanted) in [
        (json!(["10.9.3.3", "10.9.3.4"]), "one of each subnet: 10.9.3.4"),
        (json!(["10.8.3.3"]), "one of each subnet: 10.8.3.3"),
        (json!(["10.9.0.1"]), "it is the gateway of 10.9.0.0/16"),
        (json!(["10.9.0.0"]), "it is the network address of"),
        (json!(["10.9.255.255"]), "it is the broadcast address of"),
        (json!(["fd00:9::"]), "it is the network address of"),
        (json!(["10.9.7.7"]), "it is in the list \"exclude\" of"),
        (json!([""]), "cannot understand ip"),
        (json!(["x"]), "invalid IP address x"),
    ] {
        let mut ipam = ipam.clone();
        ipam["exclude"] = json!(["10.9.7.0/24"]);
        let more = json!({ "runtimeConfig": { "ips": asked } });
        let error = settings_of(ipam, more, "").unwrap_err();
        assert!(error.starts_with("7 ") && error.contains(wanted), "{asked}: {error}");
    }
    let error = settings_of(ipam, json!({}), "IP=x").unwrap_err();
    assert!(error.contains("IP=x"), "{error}");
}

#[test]
fn lists_are_bounded() {
    let many = |count: usize| json!(vec!["10.9.3.3"; count]);
    let subnets = json!(["10.9.0.0/16"]);
    let error = refused(json!({ "subnets": subnets, "exclude": many(MAX_EXCLUDED + 1) }));
    assert!(error.contains("entries in exclude"), "{error}");
    let more = json!({ "runtimeConfig": { "ips": many(MAX_REQUESTED + 1) } });
    let error = settings_of(json!({ "subnets": subnets }), more, "").unwrap_err();
    assert!(error.contains("entries in ips"), "{error}");
}
