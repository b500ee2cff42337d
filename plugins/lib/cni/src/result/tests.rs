use proptest::prelude::*;

use super::*;
use crate::json::tests::any_tree;
use crate::parse_cidr;

fn ip(address: &str, gateway: Option<&str>, interface: Option<usize>) -> IpConfig {
    let gateway = gateway.map(|text| text.parse().unwrap());
    IpConfig { interface, address: parse_cidr(address).unwrap(), gateway }
}

fn route(dst: &str) -> Route {
    let dst = parse_cidr(dst).unwrap();
    Route { dst, gw: None, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
}

fn printed(result: &AddResult, version: Version) -> String {
    Json::parse(&result.print(version).unwrap())
        .map(|tree| String::from_utf8(tree.print(Style::Compact)).unwrap())
        .unwrap()
}

fn ipam() -> AddResult {
    AddResult {
        ips: vec![
            ip("10.1.2.3/24", Some("10.1.2.1"), None),
            ip("2001:db8:1::3/64", Some("2001:db8:1::1"), None),
        ],
        routes: vec![route("0.0.0.0/0")],
        ..AddResult::default()
    }
}

/// A result with every key set.
fn full() -> AddResult {
    AddResult {
        interfaces: vec![
            Interface { name: "br0".into(), mac: Some("02:00:00:00:00:01".into()), ..Interface::default() },
            Interface {
                name: "eth0".into(),
                mac: Some("02:00:00:00:00:02".into()),
                mtu: Some(1400),
                sandbox: Some("/run/netns/a".into()),
                socket_path: Some("/s".into()),
                pci_id: Some("0000:00:1f.6".into()),
            },
            Interface::default(),
        ],
        ips: vec![ip("2001:db8::3/64", None, Some(0)), ip("10.1.2.3/24", Some("10.1.2.1"), Some(1))],
        routes: vec![
            Route {
                gw: Some("10.1.2.1".parse().unwrap()),
                mtu: 1400,
                advmss: 1360,
                priority: 9,
                table: Some(0),
                scope: Some(0),
                ..route("10.0.0.1/8")
            },
            route("::/0"),
        ],
        dns: Dns {
            nameservers: vec!["10.1.2.1".into()],
            domain: "a.b".into(),
            search: vec!["b".into()],
            options: vec!["ndots:2".into()],
        },
    }
}

/// C-066, C-004
#[test]
fn the_golden_results_are_printed() {
    assert_eq!(
        printed(&ipam(), Version::V0_2_0),
        r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"2001:db8:1::3/64","gateway":"2001:db8:1::1"},"dns":{}}"#
    );
    assert_eq!(
        printed(&ipam(), Version::V0_4_0),
        r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.2.3/24","gateway":"10.1.2.1"},{"version":"6","address":"2001:db8:1::3/64","gateway":"2001:db8:1::1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}"#
    );
    assert_eq!(
        printed(&ipam(), Version::V1_1_0),
        r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"},{"address":"2001:db8:1::3/64","gateway":"2001:db8:1::1"}],"routes":[{"dst":"0.0.0.0/0"}]}"#
    );
    let raw = String::from_utf8(ipam().print(Version::V1_0_0).unwrap()).unwrap();
    assert!(
        raw.starts_with("{\n    \"cniVersion\": \"1.0.0\",\n    \"ips\": [\n        {\n")
            && raw.ends_with("]\n}")
    );
}

/// C-050..C-056, C-062, C-063: keys, their order, and omissions.
#[test]
fn every_version_has_its_format() {
    assert_eq!(
        printed(&full(), Version::V0_1_0),
        r#"{"cniVersion":"0.1.0","ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1","routes":[{"dst":"10.0.0.1/8","gw":"10.1.2.1"}]},"ip6":{"ip":"2001:db8::3/64","routes":[{"dst":"::/0"}]},"dns":{"nameservers":["10.1.2.1"],"domain":"a.b","search":["b"],"options":["ndots:2"]}}"#
    );
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
        assert_eq!(
            printed(&full(), version),
            format!(
                r#"{{"cniVersion":"{version}","interfaces":[{{"name":"br0","mac":"02:00:00:00:00:01"}},{{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/run/netns/a"}},{{"name":""}}],"ips":[{{"version":"6","interface":0,"address":"2001:db8::3/64"}},{{"version":"4","interface":1,"address":"10.1.2.3/24","gateway":"10.1.2.1"}}],"routes":[{{"dst":"10.0.0.1/8","gw":"10.1.2.1","mtu":1400,"advmss":1360,"priority":9,"table":0,"scope":0}},{{"dst":"::/0"}}],"dns":{{"nameservers":["10.1.2.1"],"domain":"a.b","search":["b"],"options":["ndots:2"]}}}}"#
            )
        );
    }
    for version in [Version::V1_0_0, Version::V1_1_0] {
        assert_eq!(
            printed(&full(), version),
            format!(
                r#"{{"cniVersion":"{version}","dns":{{"domain":"a.b","nameservers":["10.1.2.1"],"options":["ndots:2"],"search":["b"]}},"interfaces":[{{"mac":"02:00:00:00:00:01","name":"br0"}},{{"mac":"02:00:00:00:00:02","mtu":1400,"name":"eth0","pciID":"0000:00:1f.6","sandbox":"/run/netns/a","socketPath":"/s"}},{{"name":""}}],"ips":[{{"address":"2001:db8::3/64","interface":0}},{{"address":"10.1.2.3/24","gateway":"10.1.2.1","interface":1}}],"routes":[{{"advmss":1360,"dst":"10.0.0.1/8","gw":"10.1.2.1","mtu":1400,"priority":9,"scope":0,"table":0}},{{"dst":"::/0"}}]}}"#
            )
        );
    }
}

/// C-062: routes of a family without an address are dropped; without any address there is no
/// result.
#[test]
fn the_oldest_versions_need_an_address() {
    let empty = AddResult::default();
    for version in [Version::V0_1_0, Version::V0_2_0] {
        let error = empty.convertible_to(version).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (999, "cannot convert: no valid IP addresses"));
        assert_eq!(empty.print(version).unwrap_err(), error);
        assert!(ipam().convertible_to(version).is_ok());
    }
    for version in [Version::V0_3_0, Version::V0_4_0, Version::V1_1_0] {
        assert!(empty.convertible_to(version).is_ok());
    }
    assert_eq!(printed(&empty, Version::V0_4_0), r#"{"cniVersion":"0.4.0","dns":{}}"#);
    assert_eq!(printed(&empty, Version::V1_0_0), r#"{"cniVersion":"1.0.0"}"#);
    let mut one = ipam();
    one.ips.remove(0);
    assert_eq!(
        printed(&one, Version::V0_2_0),
        r#"{"cniVersion":"0.2.0","ip6":{"ip":"2001:db8:1::3/64","gateway":"2001:db8:1::1"},"dns":{}}"#
    );
}

/// C-061, C-083: the version that the result names decides.
#[test]
fn a_result_of_any_version_is_read() {
    let two = br#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24","gateway":"10.0.0.1","routes":[{"dst":"0.0.0.0/0"}]},
        "ip6":{"ip":"fd00::2/64","gateway":"","routes":[{"dst":"::/0","gw":"fd00::1"}]},"dns":{"domain":"d"}}"#;
    let read = AddResult::parse(two, Version::V1_0_0).unwrap();
    assert_eq!(read.ips, [ip("10.0.0.2/24", Some("10.0.0.1"), None), ip("fd00::2/64", None, None)]);
    let gw = Some("fd00::1".parse().unwrap());
    assert_eq!(read.routes, [route("0.0.0.0/0"), Route { gw, ..route("::/0") }]);
    assert_eq!((read.interfaces.len(), read.dns.domain.as_str()), (0, "d"));

    let plain = br#"{"ips":[{"version":"4","address":"10.0.0.2/24"}]}"#;
    let read = AddResult::parse(plain, Version::V0_3_1).unwrap();
    assert_eq!(read.ips, [ip("10.0.0.2/24", None, None)]);
    // As 0.2.0 the same document is empty.
    assert_eq!(AddResult::parse(plain, Version::V0_2_0).unwrap(), AddResult::default());
}

/// C-057: no input may cause more than an error.
#[test]
fn a_bad_result_is_an_error() {
    for (text, msg) in [
        (r#"{"cniVersion":"0.9.0"}"#, "unsupported CNI result version \"0.9.0\""),
        (r#"{"cniVersion":1}"#, "cniVersion: expected a string, found number 1"),
        ("[]", "expected an object, found array"),
        ("null", "expected an object, found null"),
        (r#"{"ips":[{}]}"#, "ips[0].address: missing"),
        (r#"{"ips":[{"address":"10.0.0.1"}]}"#, "ips[0].address: invalid CIDR address: 10.0.0.1"),
        (
            r#"{"ips":[{"address":"10.0.0.1/8","interface":-1}]}"#,
            "ips[0].interface: expected usize, found integer `-1`",
        ),
        (r#"{"ips":[{"address":"10.0.0.1/8","gateway":"x"}]}"#, "ips[0].gateway: invalid IP address: x"),
        (r#"{"routes":[{"gw":"10.0.0.1"}]}"#, "routes[0].dst: missing"),
        (
            r#"{"routes":[{"dst":"0.0.0.0/0","scope":256}]}"#,
            "routes[0].scope: expected u8, found integer `256`",
        ),
        (r#"{"cniVersion":"0.2.0","ip6":{}}"#, "ip6.ip: missing"),
    ] {
        let error = AddResult::parse(text.as_bytes(), Version::V1_0_0).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (999, msg));
    }
    assert!(AddResult::parse(b"", Version::V1_0_0).is_err());
}

/// C-055
#[test]
fn mapped_addresses_become_ipv4_addresses() {
    let text = br#"{"ips":[{"address":"::ffff:10.0.0.2/120","gateway":"::ffff:10.0.0.1"}]}"#;
    let read = AddResult::parse(text, Version::V1_0_0).unwrap();
    assert_eq!(
        printed(&read, Version::V0_3_1),
        r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.2/24","gateway":"10.0.0.1"}],"dns":{}}"#
    );
}

fn any_net() -> impl Strategy<Value = IpNetwork> {
    let v4 =
        (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| IpNetwork::new(IpAddr::V4(bits.into()), length));
    let v6 = (any::<u128>(), 0u8..=128)
        .prop_map(|(bits, length)| IpNetwork::new(IpAddr::V6((bits | 1 << 127).into()), length));
    prop_oneof![v4, v6].prop_map(|net| net.unwrap())
}

fn any_ip() -> impl Strategy<Value = Option<IpAddr>> {
    prop::option::of(any_net().prop_map(|net| net.ip()))
}

prop_compose! {
    fn any_route()(
        dst in any_net(), gw in any_ip(), mtu: u32, advmss in 0u32..3, priority: u32, table: Option<u32>, scope: Option<u8>,
    ) -> Route {
        Route { dst, gw, mtu, advmss, priority, table, scope }
    }
}

prop_compose! {
    fn any_link()(
        name in "[a-z0-9]{0,15}", mac in prop::option::of("[0-9a-f:]{1,17}"), mtu in prop::option::of(1u32..),
        sandbox in prop::option::of("/.{0,9}"), socket_path in prop::option::of("/.{0,9}"),
        pci_id in prop::option::of("[0-9.:]{1,9}"),
    ) -> Interface {
        Interface { name, mac, mtu, sandbox, socket_path, pci_id }
    }
}

prop_compose! {
    fn any_result()(
        interfaces in prop::collection::vec(any_link(), 0..4),
        ips in prop::collection::vec((prop::option::of(0usize..4), any_net(), any_ip()), 0..4),
        routes in prop::collection::vec(any_route(), 0..4),
        (nameservers, domain, search, options) in
            (prop::collection::vec(".{0,5}", 0..3), ".{0,5}", prop::collection::vec(".{0,5}", 0..3), prop::collection::vec(".{0,5}", 0..3)),
    ) -> AddResult {
        let ips = ips.into_iter().map(|(interface, address, gateway)| IpConfig { interface, address, gateway });
        AddResult { interfaces, ips: ips.collect(), routes, dns: Dns { nameservers, domain, search, options } }
    }
}

proptest! {
    #[test]
    fn no_tree_makes_the_decoder_of_routes_panic(tree in any_tree()) {
        let _ = tree.decode::<Route>().is_ok();
    }

    /// C-056, C-064: the newest formats lose nothing.
    #[test]
    fn the_newest_versions_keep_everything(result in any_result()) {
        for version in [Version::V1_0_0, Version::V1_1_0] {
            let text = result.print(version).unwrap();
            prop_assert_eq!(&AddResult::parse(&text, Version::V0_1_0).unwrap(), &result);
        }
    }

    /// C-063: 0.3 and 0.4 lose three attributes of links and nothing else.
    #[test]
    fn the_middle_versions_lose_three_attributes_of_links(result in any_result()) {
        let mut poorer = result.clone();
        for link in &mut poorer.interfaces {
            (link.mtu, link.socket_path, link.pci_id) = (None, None, None);
        }
        for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
            let text = result.print(version).unwrap();
            prop_assert_eq!(&AddResult::parse(&text, Version::V1_1_0).unwrap(), &poorer);
        }
    }

    /// C-061, C-062: the oldest keep one address per family with the family's routes, IPv4 first; a
    /// second conversion changes nothing more.
    #[test]
    fn the_oldest_versions_keep_one_address_per_family(result in any_result()) {
        let of = |v4: bool| result.ips.iter().find(move |ip| ip.address.is_ipv4() == v4);
        let mut poorer = AddResult { dns: result.dns.clone(), ..AddResult::default() };
        for (v4, ip) in [(true, of(true)), (false, of(false))] {
            let Some(ip) = ip else { continue };
            poorer.ips.push(IpConfig { interface: None, ..ip.clone() });
            let mine = result.routes.iter().filter(|route| route.dst.is_ipv4() == v4);
            poorer.routes.extend(mine.map(|r| Route { gw: r.gw, ..route(&r.dst.to_string()) }));
        }
        for version in [Version::V0_1_0, Version::V0_2_0] {
            match result.print(version) {
                Ok(text) => {
                    let read = AddResult::parse(&text, Version::V1_1_0).unwrap();
                    prop_assert_eq!(&read, &poorer);
                    for onward in Version::ALL {
                        let text = read.print(*onward).unwrap();
                        prop_assert_eq!(&AddResult::parse(&text, Version::V1_1_0).unwrap(), &poorer);
                    }
                }
                Err(_) => prop_assert!(result.ips.is_empty()),
            }
        }
    }
}
