//! Configurations; no root, no kernel.

use cni::{Error, Request, testing};
use host::{Isolation, Policy, PolicyRule};

use crate::config::{self, Backend, Config};

fn request(keys: &str) -> Request {
    testing::add_with("firewall", keys, "")
}

fn config(keys: &str) -> Config {
    Config::of(&request(keys)).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request(keys)).unwrap_err()
}

#[test]
fn keys_that_are_absent_empty_or_null_have_their_defaults() {
    let default = Config {
        backend: None,
        admin_chain: "CNI-ADMIN".into(),
        zone: "trusted".into(),
        isolation: Isolation::Open,
        policy: Policy::default(),
    };
    for keys in [
        r#""other": 1"#,
        r#""backend": null, "iptablesAdminChainName": "", "firewalldZone": "", "ingressPolicy": "", "policy": null"#,
        r#""backend": "auto", "ingressPolicy": "open", "policy": {"ingress": null, "egress": []}"#,
    ] {
        assert_eq!(config(keys), default, "{keys}");
    }
}

#[test]
fn every_value_is_understood() {
    for (name, backend) in
        [("nftables", Backend::Nftables), ("iptables", Backend::Iptables), ("firewalld", Backend::Firewalld)]
    {
        assert_eq!(config(&format!(r#""backend": "{name}""#)).backend, Some(backend));
    }
    let all = config(
        r#""ingressPolicy": "same-bridge", "iptablesAdminChainName": "MY-CHAIN", "firewalldZone": "cni""#,
    );
    assert_eq!((all.isolation, &*all.admin_chain, &*all.zone), (Isolation::SameBridge, "MY-CHAIN", "cni"));
    assert_eq!(config(r#""ingressPolicy": "isolated""#).isolation, Isolation::Isolated);
}

#[test]
fn what_is_not_known_is_refused_before_anything_is_changed() {
    for (keys, code, msg) in [
        (r#""backend": "ipset""#, 2, "unrecognized backend \"ipset\""),
        (r#""ingressPolicy": "closed""#, 7, "unknown ingress policy: \"closed\""),
        (r#""iptablesAdminChainName": "A B""#, 7, "invalid iptablesAdminChainName \"A B\""),
        (r#""iptablesAdminChainName": "12345678901234567890123456789""#, 7, "invalid iptablesAdminChainName"),
        (r#""iptablesAdminChainName": "FORWARD""#, 7, "invalid iptablesAdminChainName \"FORWARD\""),
        (
            r#""policy": {"ingress": [{"action": "allow", "form": "a"}]}"#,
            7,
            "policy ingress, rule 1: unknown key",
        ),
        (r#""policy": {"in": []}"#, 7, "policy: unknown key \"in\": ingress, egress"),
        (r#""policy": {"ingress": [7]}"#, 7, "policy ingress, rule 1: "),
        (r#""policy": {"ingress": [{}]}"#, 7, "policy ingress, rule 1: unknown action \"\": allow or deny"),
        (
            r#""policy": {"egress": [{"action": "deny"}, {"action": "pass"}]}"#,
            7,
            "policy egress, rule 2: unknown",
        ),
        (r#""policy": {"ingress": [{"action": "allow", "log": true}]}"#, 7, "policy ingress, rule 1: log is"),
        (
            r#""policy": {"ingress": [{"action": "allow", "from": "a b"}]}"#,
            7,
            "policy ingress, rule 1: invalid from",
        ),
        (
            r#""policy": {"ingress": [{"action": "allow", "from": "10.0.0.0/33"}]}"#,
            7,
            "policy ingress, rule 1: inv",
        ),
        (
            r#""policy": {"ingress": [{"action": "allow", "to": "front"}]}"#,
            7,
            "policy ingress, rule 1: to is an end",
        ),
        (
            r#""policy": {"egress": [{"action": "deny", "from": "front"}]}"#,
            7,
            "policy egress, rule 1: from is an end",
        ),
        (
            r#""policy": {"ingress": [{"action": "deny", "from": "10.0.0.0/8", "to": "fd00::1"}]}"#,
            7,
            "policy ingress, rule 1: from and to are of different families",
        ),
        (
            r#""policy": {"ingress": [{"action": "deny", "proto": "gre"}]}"#,
            7,
            "policy ingress, rule 1: unknown proto",
        ),
        (
            r#""policy": {"ingress": [{"action": "deny", "ports": [80]}]}"#,
            7,
            "policy ingress, rule 1: ports need",
        ),
        (
            r#""policy": {"ingress": [{"action": "deny", "proto": "tcp", "ports": ["90-80"]}]}"#,
            7,
            "policy ingress, rule 1: invalid port \"90-80\"",
        ),
        (r#""firewalldZone": "a\nb""#, 7, "invalid firewalldZone \"a\\nb\""),
    ] {
        let error = refusal(keys);
        assert_eq!(error.code, code, "{keys}");
        assert!(error.msg.starts_with(msg), "{keys}: {}", error.msg);
    }
}

#[test]
fn del_takes_what_it_can_from_the_configuration() {
    let zone = |keys: &str| config::zone_of(&request(keys));
    assert_eq!(zone(r#""firewalldZone": "cni""#).as_deref(), Some("cni"));
    assert_eq!(zone(r#""firewalldZone": "cni", "backend": "iptables""#), None);
    for keys in [r#""firewalldZone": 7"#, r#""firewalldZone": "a b""#, r#""backend": 7"#] {
        assert_eq!(zone(keys).as_deref(), Some("trusted"), "{keys}");
    }
}

#[test]
fn every_policy_is_understood() {
    let policy = config(
        r#""policy": {
            "ingress": [
                {"action": "allow", "from": "front", "proto": "TCP", "ports": [5432, "80", "8000-8010"]},
                {"action": "allow", "from": "10.9.8.7/16", "to": "10.1.2.3", "proto": "icmp"},
                {"action": "deny", "log": true}
            ],
            "egress": [{"action": "deny", "from": "fd00::3", "to": "fd00:1::/64"}, {"action": "allow", "to": "back"}]
        }"#,
    )
    .policy;
    let text = |rules: &[PolicyRule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        text(&policy.ingress),
        [
            "allow @front - tcp 5432-5432,80-80,8000-8010",
            "allow 10.9.0.0/16 10.1.2.3/32 icmp -",
            "deny-log - - - -",
        ]
    );
    assert_eq!(text(&policy.egress), ["deny fd00::3/128 fd00:1::/64 - -", "allow - @back - -"]);
}

#[test]
fn a_policy_has_bounds_and_names_no_network_as_its_own_neighbour() {
    let rules = |count: usize| {
        let rules = vec![r#"{"action": "deny", "proto": "udp", "ports": [1]}"#; count].join(",");
        format!(r#""policy": {{"egress": [{rules}]}}"#)
    };
    assert_eq!(config(&rules(64)).policy.egress.len(), 64);
    assert!(refusal(&rules(65)).msg.starts_with("policy egress: 65 rules"));
    let ports = |count: usize| {
        let ports: Vec<String> = (1..=count).map(|port| port.to_string()).collect();
        format!(
            r#""policy": {{"ingress": [{{"action": "deny", "proto": "udp", "ports": [{}]}}]}}"#,
            ports.join(",")
        )
    };
    assert_eq!(config(&ports(16)).policy.ingress[0].ports.len(), 16);
    assert!(refusal(&ports(17)).msg.starts_with("policy ingress, rule 1: 17 ports"));
    let network = request(r#""x": 1"#).network;
    let own = refusal(&format!(r#""policy": {{"ingress": [{{"action": "deny", "from": "{network}"}}]}}"#));
    assert!(own.msg.starts_with("policy ingress, rule 1: from is this network"), "{}", own.msg);
}
