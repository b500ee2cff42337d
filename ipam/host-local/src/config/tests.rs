use std::net::IpAddr;

use cni::testing;

use super::*;

/// A request, parsed by the protocol library as in the plugin.
fn request(json: &str) -> cni::Request {
    testing::add(json, "")
}

fn conf(version: &str, body: &str) -> cni::Request {
    request(&format!(r#"{{"cniVersion":"{version}","name":"net",{body}}}"#))
}

fn load(request: &cni::Request) -> Result<Settings, String> {
    let conf: Conf = request.config().map_err(|error| error.msg)?;
    conf.check(&request.network, request.version, None).map_err(|error| error.to_string())
}

fn settings(body: &str) -> Settings {
    load(&conf("1.1.0", body)).unwrap()
}

fn refusal(body: &str) -> String {
    load(&conf("1.1.0", body)).unwrap_err()
}

fn sets(settings: &Settings) -> Vec<String> {
    settings.offer.sets.iter().map(ToString::to_string).collect()
}

/// HL-K3, HL-K4, HL-K8: the index of a set is that of its `last_reserved_ip.<i>`.
#[test]
fn sets_come_from_ip_ranges_then_the_legacy_keys_then_ranges() {
    let settings = settings(
        r#""ipam":{"type":"x","ranges":[[{"subnet":"10.3.0.0/30"}]],"subnet":"10.2.0.0/30","rangeStart":"10.2.0.2",
        "gateway":"10.2.0.2"},"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/30"},{"subnet":"10.1.1.0/30"}]]}"#,
    );
    assert_eq!(
        sets(&settings),
        ["10.1.0.1-10.1.0.2,10.1.1.1-10.1.1.2", "10.2.0.2-10.2.0.2", "10.3.0.1-10.3.0.2"]
    );
    assert_eq!(settings.place.data_dir, PathBuf::from(DATA_DIR));
}

/// C-026, C-027, C-028, R-6: go-cni sends capitalized keys and empty strings.
#[test]
fn empty_null_capitalized_and_unknown_keys_are_accepted() {
    let settings = settings(
        r#""IPAM":{"Subnet":"","RangeStart":"10.9.9.9","gateway":null,"dataDir":"","resolvConf":"","frob":{"a":[1]},
        "Ranges":[[{"Subnet":"10.1.0.0/30","RangeStart":"","RangeEnd":null,"Gateway":"","x":1}]],"routes":null},
        "RuntimeConfig":{"ipRanges":null,"ips":null},"args":{"cni":{"ips":null}}"#,
    );
    assert_eq!(sets(&settings), ["10.1.0.1-10.1.0.2"]);
    assert_eq!((settings.resolv_conf, settings.routes.len()), (None, 0));
}

#[test]
fn requests_are_merged_in_order_without_duplicates_and_prefixes() {
    let request = conf(
        "1.1.0",
        r#""ipam":{"subnet":"10.1.0.0/24"},"args":{"cni":{"ips":["10.1.0.5/16","10.1.0.6"]}},
        "runtimeConfig":{"ips":["::ffff:10.1.0.7","10.1.0.5"]}"#,
    );
    let conf: Conf = request.config().unwrap();
    let asked = Some("10.1.0.9".parse().unwrap());
    let settings = conf.check("net", request.version, asked).unwrap();
    let wanted: Vec<IpAddr> =
        ["10.1.0.9", "10.1.0.5", "10.1.0.6", "10.1.0.7"].map(|ip| ip.parse().unwrap()).into();
    assert_eq!(settings.requested, wanted);
}

/// HL-K3: errors beyond a single range.
#[test]
fn wrong_configurations_fail_with_the_references_texts() {
    for (body, text) in [
        (r#""x":1"#, "IPAM config missing 'ipam' key"),
        (r#""ipam":null"#, "IPAM config missing 'ipam' key"),
        (r#""ipam":{}"#, "no IP ranges specified"),
        (r#""ipam":{"rangeStart":"10.0.0.5","ranges":[]}"#, "no IP ranges specified"),
        (r#""ipam":{"ranges":[[]]}"#, "invalid range set 0: empty range set"),
        (r#""ipam":{"ranges":[null]}"#, "invalid range set 0: empty range set"),
        (r#""ipam":{"ranges":[[{}]]}"#, "invalid range set 0: IP <nil> not v4 nor v6"),
        (r#""ipam":{"subnet":"x"}"#, "invalid CIDR address: x"),
        (r#""ipam":{"subnet":"10.0.0.0/33"}"#, "invalid CIDR address: 10.0.0.0/33"),
        (r#""ipam":{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.01"}"#, "invalid IP address: 10.0.0.01"),
        (
            r#""ipam":{"subnet":"::ffff:10.0.0.0/120"}"#,
            "invalid range set 0: IPNet IP and Mask version mismatch",
        ),
        (
            r#""ipam":{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"10.0.0.1/24"}]]}"#,
            "invalid range set 1: Network has host bits set. For a subnet mask of length 24 the network address \
             is 10.0.0.0",
        ),
        (
            r#""ipam":{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"10.0.0.0/25"}]]}"#,
            "range set 0 overlaps with 1",
        ),
        (r#""ipam":{"subnet":"10.0.0.0/24"},"runtimeConfig":{"ips":["x"]}"#, "invalid IP address x"),
        (
            r#""ipam":{"subnet":"10.0.0.0/24"},"runtimeConfig":{"ips":[""]}"#,
            "cannot understand ip: IP <nil> not v4 nor v6",
        ),
        (r#""ipam":{"subnet":"10.0.0.0/24","routes":[{"gw":"10.0.0.1"}]}"#, "invalid route 0: no dst"),
        (
            r#""ipam":{"subnet":"10.0.0.0/24","routes":[{"dst":"1.0.0.0"}]}"#,
            "invalid route 0: invalid CIDR address: 1.0.0.0",
        ),
        (
            r#""ipam":{"subnet":"10.0.0.0/24","reclaim":"often"}"#,
            "invalid reclaim \"often\": must be \"boot\" or \"never\"",
        ),
        (r#""ipam":{"subnet":"10.0.0.0/24","exclude":["y"]}"#, "invalid IP address: y"),
        (
            r#""ipam":{"subnet":"10.0.0.0/24","dataDir":"/a\u0000b"}"#,
            "dataDir \"/a\\0b\" cannot be part of a path",
        ),
    ] {
        assert_eq!(refusal(body), text, "{body}");
    }
}

#[test]
fn sets_may_share_a_subnet() {
    let settings = settings(
        r#""ipam":{"ranges":[[{"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.9"}],
        [{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.10"}]]}"#,
    );
    assert_eq!(sets(&settings).len(), 2);
}

#[test]
fn old_versions_have_one_address_per_family() {
    let two = r#""ipam":{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"10.0.1.0/24"}]]}"#;
    let dual = r#""ipam":{"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]}"#;
    assert_eq!(
        load(&conf("0.2.0", two)).unwrap_err(),
        "CNI version 0.2.0 does not support more than 1 address per family"
    );
    assert!(load(&conf("0.2.0", dual)).is_ok());
    assert!(load(&conf("0.3.0", two)).is_ok());
}

/// One case is the flat list of go-cni's typed helper.
#[test]
fn wrong_types_are_errors() {
    for body in [
        r#""ipam":{"subnet":"10.0.0.0/24"},"runtimeConfig":{"ipRanges":[{"subnet":"10.1.0.0/24"}]}"#,
        r#""ipam":{"subnet":7}"#,
        r#""ipam":[]"#,
        r#""ipam":{"subnet":"10.0.0.0/24","cooldown":-1}"#,
        r#""ipam":{"subnet":"10.0.0.0/24","routes":{}}"#,
    ] {
        assert!(refusal(body).starts_with("failed to load netconf: "), "{body}: {}", refusal(body));
    }
}

#[test]
fn lists_are_limited() {
    let many = |item: &str, count: usize| vec![item; count].join(",");
    let ranges = many(r#"[{"subnet":"10.0.0.0/24"}]"#, MAX_RANGES + 1);
    assert_eq!(
        refusal(&format!(r#""ipam":{{"ranges":[{ranges}]}}"#)),
        "1025 entries in ranges, at most 1024 are supported"
    );
    let ips = many(r#""10.0.0.5""#, MAX_REQUESTED + 1);
    assert_eq!(
        refusal(&format!(r#""ipam":{{"subnet":"10.0.0.0/24"}},"runtimeConfig":{{"ips":[{ips}]}}"#)),
        "65537 entries in requested ips, at most 65536 are supported"
    );
}

/// The path does not depend on the checks of the caller.
#[test]
fn a_name_that_leads_out_of_the_data_dir_is_refused() {
    for name in ["", ".", "..", "../x", "a/b", ".moor", "a\0"] {
        let error = PlaceConf::default().check(name).unwrap_err();
        assert!(matches!(error, ConfigError::BadPath(..)), "{name:?}");
    }
}

#[test]
fn routes_keep_all_attributes() {
    let settings = settings(
        r#""ipam":{"subnet":"10.0.0.0/24","routes":[{"dst":"10.9.0.1/8","gw":"10.0.0.1","mtu":1400,"advmss":1300,
        "priority":7,"table":0,"scope":253},{"dst":"0.0.0.0/0"}]}"#,
    );
    let route = &settings.routes[0];
    assert_eq!((route.dst.to_string().as_str(), route.mtu, route.advmss), ("10.9.0.1/8", 1400, 1300));
    assert_eq!((route.priority, route.table, route.scope), (7, Some(0), Some(253)));
    assert_eq!((settings.routes[1].gw, settings.routes[1].table), (None, None));
}

/// HL-R1: DEL only needs the directory of the store.
#[test]
fn the_place_is_found_in_an_otherwise_wrong_configuration() {
    let request = conf(
        "1.1.0",
        r#""ipam":{"dataDir":"/d","subnet":7,"ranges":"x","reclaim":{"a":1},"cooldown":"soon","routes":[3]},
        "runtimeConfig":[]"#,
    );
    assert!(load(&request).is_err());
    let place = request.config::<PlaceConf>().unwrap().check("net").unwrap();
    assert_eq!(place.dir(), PathBuf::from("/d/net"));
    assert!(place.reclaim && !place.cooldown);
    let request = conf("1.1.0", r#""ipam":{"reclaim":"never","cooldown":3,"subnet":"x"}"#);
    let place = request.config::<PlaceConf>().unwrap().check("net").unwrap();
    assert!(!place.reclaim && place.cooldown);
}
