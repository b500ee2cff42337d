//! Configurations, addresses and mappings; no root, no kernel.

use std::net::IpAddr;

use cni::{AddResult, Error, Interface, Request, testing};
use host::iptables::Mark;
use host::ports::{Conditions, Mapping, Masquerade};
use nft::Protocol;
use sys::IpFamily;

use crate::backend::{Backend, Options};
use crate::config::{self, Config};
use crate::container;

const TCP: u8 = Protocol::TCP;
const UDP: u8 = Protocol::UDP;
const SCTP: u8 = Protocol::SCTP;

fn request(keys: &str) -> Request {
    testing::add_with("portmap", keys, "")
}

fn with_mappings(mappings: &str) -> Request {
    request(&format!(r#""runtimeConfig": {{"portMappings": {mappings}}}"#))
}

fn config(mappings: &str) -> Config {
    Config::of(&with_mappings(mappings)).unwrap()
}

fn refusal(mappings: &str) -> Error {
    Config::of(&with_mappings(mappings)).unwrap_err()
}

fn mapping(proto: u8, address: Option<&str>, ports: (u16, u16), target: u16) -> Mapping {
    Mapping { proto, address: address.map(|address| address.parse().unwrap()), ports, target }
}

/// R-6: containerd writes `HostPort`. Protocols are read in any case; TCP is the default.
#[test]
fn keys_and_protocols_are_read_in_any_case() {
    let config = config(
        r#"[{"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""},
            {"hostPort": 53, "containerPort": 5353, "protocol": "udp"},
            {"hostport": 9, "containerport": 9, "protocol": "Sctp"},
            {"hostPort": 7, "containerPort": 7}, {"hostPort": 6, "containerPort": 6, "protocol": ""}]"#,
    );
    let mut expected = [
        mapping(TCP, None, (6, 6), 6),
        mapping(TCP, None, (7, 7), 7),
        mapping(TCP, None, (8080, 8080), 80),
        mapping(UDP, None, (53, 53), 5353),
        mapping(SCTP, None, (9, 9), 9),
    ];
    expected.sort();
    assert_eq!(config.mappings(IpFamily::V4), expected);
    assert_eq!(config.mappings(IpFamily::V6), expected);
}

/// PM-K3.
#[test]
fn a_host_address_is_of_one_family() {
    let config = config(
        r#"[{"hostPort": 1, "containerPort": 1, "hostIP": "0.0.0.0"}, {"hostPort": 2, "containerPort": 2, "hostIP": "::"},
            {"hostPort": 3, "containerPort": 3, "hostIP": "192.0.2.1"}, {"hostPort": 4, "containerPort": 4, "hostIP": "2001:db8::1"},
            {"hostPort": 5, "containerPort": 5, "hostIP": "::ffff:192.0.2.2"}]"#,
    );
    let of = |family| {
        let mappings = config.mappings(family);
        mappings.iter().map(|mapping| (mapping.ports.0, mapping.address)).collect::<Vec<_>>()
    };
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    assert_eq!(of(IpFamily::V4), [(1, None), (3, ip("192.0.2.1")), (5, ip("192.0.2.2"))]);
    assert_eq!(of(IpFamily::V6), [(2, None), (4, ip("2001:db8::1"))]);
}

/// PM-K2: before anything is changed, with the reference's texts.
#[test]
fn what_is_no_port_is_refused() {
    for (port, msg) in [
        ("null", "Invalid host port number: 0"),
        ("-1", "Invalid host port number: -1"),
        ("65536", "Invalid host port number: 65536"),
        ("9223372036854775807", "Invalid host port number: 9223372036854775807"),
    ] {
        let error = refusal(&format!(r#"[{{"hostPort": {port}, "containerPort": 80}}]"#));
        assert_eq!((error.code, error.msg.as_str()), (7, msg));
    }
    assert_eq!(refusal(r#"[{"hostPort": 80}]"#).msg, "Invalid container port number: 0");
    for wrong in [r#""80""#, "1.5", "true", "[80]"] {
        assert_eq!(
            refusal(&format!(r#"[{{"hostPort": {wrong}, "containerPort": 80}}]"#)).code,
            999,
            "{wrong}"
        );
    }
}

/// PM-F5: a free port is requested by a written 0, is one port, and has no mapping before it is
/// chosen.
#[test]
fn a_free_port_is_none_yet() {
    let config = config(
        r#"[{"hostPort": 0, "containerPort": 80}, {"hostPort": 0, "containerPort": 80, "protocol": "udp"},
            {"hostPort": 9, "containerPort": 9}]"#,
    );
    assert_eq!(config.wanted.iter().filter(|wanted| wanted.is_free()).count(), 2);
    assert_eq!(config.mappings(IpFamily::V4), [mapping(TCP, None, (9, 9), 9)]);
    let range = refusal(r#"[{"hostPort": 0, "hostPortEnd": 9, "containerPort": 80}]"#);
    assert!(range.code == 7 && range.msg.contains("no range"), "{range:?}");
    let asked = with_mappings(r#"[{"hostPort": 0, "containerPort": 80}]"#);
    assert!(config::hint(&asked).is_none(), "DEL is to look at the record");
}

#[test]
fn duplicates_are_one_and_contradictions_are_refused() {
    let twice = r#"[{"hostPort": 80, "containerPort": 8080}, {"hostPort": 80, "containerPort": 8080},
        {"hostPort": 78, "hostPortEnd": 82, "containerPort": 8078}]"#;
    assert_eq!(config(twice).mappings(IpFamily::V4), [mapping(TCP, None, (78, 82), 8078)]);
    let error = refusal(r#"[{"hostPort": 80, "containerPort": 1}, {"hostPort": 80, "containerPort": 2}]"#);
    assert_eq!((error.code, error.msg.as_str()), (7, "host port 80 leads to two container ports"));
    // A mapping at one address does not contradict one at any address.
    let both = r#"[{"hostPort": 80, "containerPort": 1}, {"hostPort": 80, "containerPort": 2, "hostIP": "192.0.2.1"}]"#;
    assert_eq!(config(both).mappings(IpFamily::V4).len(), 2);
}

#[test]
fn ranges_are_as_long_on_both_sides() {
    let range =
        r#"[{"hostPort": 1000, "hostPortEnd": 1999, "containerPort": 2000, "containerPortEnd": 2999}]"#;
    assert_eq!(config(range).mappings(IpFamily::V4), [mapping(TCP, None, (1000, 1999), 2000)]);
    for (keys, msg) in [
        (r#""hostPort": 10, "hostPortEnd": 9, "containerPort": 1"#, "below"),
        (r#""hostPort": 10, "hostPortEnd": 19, "containerPort": 1, "containerPortEnd": 9"#, "equally"),
        (r#""hostPort": 10, "containerPort": 1, "containerPortEnd": 9"#, "equally"),
        (r#""hostPort": 1, "hostPortEnd": 65535, "containerPort": 2"#, "beyond"),
    ] {
        let error = refusal(&format!("[{{{keys}}}]"));
        assert!(error.code == 7 && error.msg.contains(msg), "{error:?}");
    }
}

fn backend(keys: &str) -> Result<Backend, Error> {
    Config::of(&request(keys)).map(|config| config.backend)
}

/// PM-K4: by name, or by options that only iptables has.
#[test]
fn the_back_end_is_nf_tables_unless_iptables_is_asked_for() {
    let of = |mark, v4: &[&str], v6: &[&str]| {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        Backend::Iptables(Options { mark, conditions: [words(v4), words(v6)] })
    };
    fn nf_tables<const N: usize>(v4: [&str; N], v6: [&str; N]) -> Backend {
        Backend::NfTables([
            Conditions::read(&v4, IpFamily::V4).unwrap(),
            Conditions::read(&v6, IpFamily::V6).unwrap(),
        ])
    }
    let chain = || Mark::Chain("KUBE-MARK-MASQ".into());
    for (keys, expected) in [
        (
            r#""markMasqBit": 0, "conditionsV4": [], "externalSetMarkChain": "", "unknown": 1"#,
            nf_tables([], []),
        ),
        (r#""backend": "nftables", "conditionsV4": [""]"#, nf_tables([], [])),
        (
            r#""conditionsV4": ["ip", "saddr", "10.0.0.0/8"], "conditionsV6": ["ip6 saddr != fd00::/8"]"#,
            nf_tables(["ip saddr 10.0.0.0/8"], ["ip6 saddr != fd00::/8"]),
        ),
        (r#""backend": "iptables""#, of(Mark::Bit(13), &[], &[])),
        (r#""backend": "iptables", "markMasqBit": 31"#, of(Mark::Bit(31), &[], &[])),
        (r#""externalSetMarkChain": "KUBE-MARK-MASQ""#, of(chain(), &[], &[])),
        (
            r#""conditionsV4": ["!", "-d", "192.0.2.0/24"]"#,
            of(Mark::Bit(13), &["!", "-d", "192.0.2.0/24"], &[]),
        ),
        (r#""backend": "", "conditionsV6": ["-i", "eth0"]"#, of(Mark::Bit(13), &[], &["-i", "eth0"])),
    ] {
        assert_eq!(backend(keys).unwrap(), expected, "{keys}");
    }
}

/// PM-I6: unsupported options are refused and not ignored, with the reference's texts.
#[test]
fn options_of_the_other_back_end_are_refused() {
    const IPTABLES: &str =
        "iptables backend was requested but configuration contains nftables-specific options";
    const NFTABLES: &str =
        "nftables backend was requested but configuration contains iptables-specific options";
    for (keys, code, msg) in [
        (r#""backend": "bogus""#, 7, "unrecognized backend \"bogus\"".to_owned()),
        (r#""markMasqBit": 32"#, 7, "MasqMarkBit must be between 0 and 31".into()),
        (r#""markMasqBit": -1"#, 7, "MasqMarkBit must be between 0 and 31".into()),
        (
            r#""markMasqBit": 3, "externalSetMarkChain": "X""#,
            7,
            "Cannot specify externalSetMarkChain and markMasqBit".into(),
        ),
        (
            r#""backend": "nftables", "externalSetMarkChain": "X", "conditionsV4": ["ip"], "conditionsV6": ["!", "-s"]"#,
            7,
            format!("{NFTABLES} [externalSetMarkChain conditionsV6]"),
        ),
        (
            r#""backend": "iptables", "conditionsV4": ["ip"], "conditionsV6": ["ip6"]"#,
            7,
            format!("{IPTABLES} [conditionsV4 conditionsV6]"),
        ),
        (r#""conditionsV4": ["-s"], "conditionsV6": ["ip6"]"#, 7, format!("{IPTABLES} [conditionsV6]")),
        (
            r#""conditionsV6": ["ip6", "saddr", "fd00::/8", "limit"]"#,
            2,
            "conditionsV6: \"limit\" is not known here".into(),
        ),
        (
            r#""conditionsV4": ["ip", "saddr", "fd00::/8"]"#,
            7,
            "conditionsV4: \"fd00::/8\": it is no IPv4 address".into(),
        ),
        (
            r#""conditionsV4": ["-s", "1.2.3.4\nCOMMIT"]"#,
            7,
            "condition \"1.2.3.4\\nCOMMIT\" is no word of a rule".into(),
        ),
        (r#""externalSetMarkChain": "A B""#, 7, "invalid externalSetMarkChain \"A B\"".into()),
    ] {
        let error = backend(keys).unwrap_err();
        assert_eq!((error.code, error.msg), (code, msg), "{keys}");
    }
}

#[test]
fn masquerade_is_by_need_unless_said_otherwise() {
    let masquerade = |keys| Config::of(&request(keys)).unwrap().masquerade;
    assert_eq!(masquerade(r#""unknown": 1"#), Masquerade::Needed);
    assert_eq!(masquerade(r#""snat": false, "masqAll": true"#), Masquerade::Nobody);
    assert_eq!(masquerade(r#""masqAll": true"#), Masquerade::Everybody);
}

/// PM-B5: DEL does not fail because of errors that ADD would refuse.
#[test]
fn del_takes_what_it_can_from_the_configuration() {
    let hint = |keys: &str| config::hint(&request(keys));
    let good =
        r#""markMasqBit": 99, "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}]}"#;
    assert_eq!(hint(good).unwrap().v6, [mapping(TCP, None, (80, 80), 80)]);
    for keys in [
        r#""runtimeConfig": 7"#,
        r#""runtimeConfig": {"portMappings": "none"}"#,
        r#""runtimeConfig": {"portMappings": [{"hostPort": -1}]}"#,
        r#""snat": "yes""#,
    ] {
        assert!(hint(keys).is_none(), "{keys}");
    }
}

#[test]
fn the_first_address_of_each_family_on_the_containers_interface_is_published() {
    let link = |name: &str, sandbox: Option<&str>| Interface {
        name: name.into(),
        sandbox: sandbox.map(str::to_owned),
        ..Interface::default()
    };
    let ip = |interface, address: &str| testing::ip(interface, address, None);
    let inside = Some("/run/netns/c1");
    let interfaces = vec![link("br0", None), link("eth0", None), link("eth1", inside), link("eth0", inside)];
    let of = |ips| {
        let result = AddResult { interfaces: interfaces.clone(), ips, ..AddResult::default() };
        container::addresses(&result, "eth0").iter().map(|net| net.ip().to_string()).collect::<Vec<_>>()
    };
    let others = [ip(Some(0), "10.0.0.1/24"), ip(Some(1), "10.0.0.2/24"), ip(Some(2), "10.0.0.3/24")];
    assert!(of(others.to_vec()).is_empty());
    let own = [ip(Some(3), "fd00::4/64"), ip(Some(3), "10.0.0.4/24"), ip(Some(3), "10.0.0.5/24")];
    assert_eq!(of([&others[..], &own[..]].concat()), ["10.0.0.4", "fd00::4"]);
    // Without an interface, or with one that is not in the list.
    assert_eq!(of(vec![ip(None, "10.0.0.6/24"), ip(Some(9), "fd00::9/64")]), ["10.0.0.6", "fd00::9"]);
}
