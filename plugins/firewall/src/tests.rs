//! Configurations; no root, no kernel.

use cni::{Error, Request, testing};
use host::Isolation;

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
    };
    for keys in [
        r#""other": 1"#,
        r#""backend": null, "iptablesAdminChainName": "", "firewalldZone": "", "ingressPolicy": """#,
        r#""backend": "auto", "ingressPolicy": "open""#,
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
