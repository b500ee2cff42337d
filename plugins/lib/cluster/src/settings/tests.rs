use proptest::prelude::*;

use super::*;

const FILE: &str = "/etc/moor/cluster.json";

fn parse(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse(Path::new(FILE), Some(text.as_bytes()))
}

#[test]
fn a_file_with_endpoints_alone_has_the_defaults() {
    let settings = parse(r#"{"endpoints": ["http://127.0.0.1:2379"], "user": null}"#).unwrap();
    assert_eq!(settings.prefix, "/moor");
    assert_eq!((settings.port, settings.encrypted_port, settings.wireguard_port), (4789, 4790, 51821));
    assert_eq!((settings.host_ttl_s, settings.reclaim_after_s, settings.timeout_ms), (10, 86_400, 3000));
    assert_eq!((settings.when_unreachable, settings.insecure), (WhenUnreachable::Local, false));
    assert_eq!((settings.host_name, settings.user, settings.ca), (None, None, None));
    assert!(settings.host_addresses.is_empty());
}

#[test]
fn every_key_is_read() {
    let settings = parse(
        r#"{
            "endpoints": ["https://etcd-a.example:2379", "https://[2001:db8::1]:2379", "http://localhost:2379"],
            "ca": "/etc/moor/ca.pem", "cert": "/etc/moor/host.pem", "key": "/etc/moor/host.key",
            "user": "moor", "passwordFile": "/etc/moor/password", "insecure": true,
            "prefix": "/site-1/moor", "hostName": "node-a", "hostAddress": ["192.0.2.1", "2001:db8::1"],
            "port": 4800, "encryptedPort": 4801, "wireguardPort": 4802,
            "hostTtlS": 3, "reclaimAfterS": 0, "timeoutMs": 100, "whenUnreachable": "fail"
        }"#,
    )
    .unwrap();
    assert_eq!((settings.endpoints.len(), settings.host_addresses.len()), (3, 2));
    assert_eq!(settings.ca, Some("/etc/moor/ca.pem".into()));
    assert_eq!((settings.prefix.as_str(), settings.host_name.as_deref()), ("/site-1/moor", Some("node-a")));
    assert_eq!((settings.reclaim_after_s, settings.when_unreachable), (0, WhenUnreachable::Fail));
    let one = parse(r#"{"endpoints": ["https://a:2379"], "hostAddress": "192.0.2.1"}"#).unwrap();
    assert_eq!(one.host_addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
}

/// O-095: a fault names the file and the key.
#[test]
fn a_fault_names_the_file_and_the_key() {
    for (key, rest) in [
        ("endpoints", r#""endpoints": []"#),
        ("endpoints", r#""endpoints": 5"#),
        ("endpoints", r#""endpoints": "https://a:2379""#),
        ("endpoints", r#""endpoints": [5]"#),
        ("endpoints", r#""endpoints": ["ftp://a:1"]"#),
        ("endpoints", r#""endpoints": ["https://a"]"#),
        ("endpoints", r#""endpoints": ["https://a:0"]"#),
        ("endpoints", r#""endpoints": ["https://a:65536"]"#),
        ("endpoints", r#""endpoints": ["https://a:2379/v3"]"#),
        ("endpoints", r#""endpoints": ["https://user@a:2379"]"#),
        ("endpoints", r#""endpoints": ["https://2001:db8::1:2379"]"#),
        ("endpoints", r#""endpoints": ["https://[::g]:2379"]"#),
        ("endpoints", r#""endpoints": ["https://:2379"]"#),
        ("endpoints", r#""endpoints": ["http://192.0.2.1:2379"]"#),
        ("endpoints", r#""endpoints": ["http://127.0.0.1.example:2379"]"#),
        ("endpoint", r#""endpoint": "https://a:2379""#),
        ("ca", r#""ca": "ca.pem""#),
        ("ca", r#""ca": 1"#),
        ("key", r#""cert": "/c""#),
        ("cert", r#""key": "/k""#),
        ("passwordFile", r#""user": "u""#),
        ("user", r#""passwordFile": "/p""#),
        ("insecure", r#""insecure": "yes""#),
        ("prefix", r#""prefix": "moor""#),
        ("prefix", r#""prefix": "/""#),
        ("prefix", r#""prefix": "/moor/""#),
        ("prefix", r#""prefix": "/a b""#),
        ("hostName", r#""hostName": """#),
        ("hostAddress", r#""hostAddress": "fe80::1""#),
        ("hostAddress", r#""hostAddress": "127.0.0.1""#),
        ("hostAddress", r#""hostAddress": "192.0.2""#),
        ("hostAddress", r#""hostAddress": ["192.0.2.1", "192.0.2.2"]"#),
        ("hostAddress", r#""hostAddress": []"#),
        ("port", r#""port": 0"#),
        ("port", r#""port": 65536"#),
        ("port", r#""port": "4789""#),
        ("port", r#""port": 4789.5"#),
        ("encryptedPort", r#""port": 4790"#),
        ("wireguardPort", r#""wireguardPort": 4789"#),
        ("hostTtlS", r#""hostTtlS": 2"#),
        ("hostTtlS", r#""hostTtlS": 301"#),
        ("reclaimAfterS", r#""reclaimAfterS": 599"#),
        ("reclaimAfterS", r#""reclaimAfterS": -1"#),
        ("timeoutMs", r#""timeoutMs": 99"#),
        ("timeoutMs", r#""timeoutMs": 30001"#),
        ("whenUnreachable", r#""whenUnreachable": "wait""#),
    ] {
        let endpoints = if rest.contains("endpoints") { "" } else { r#""endpoints": ["https://a:2379"], "# };
        let error = parse(&format!("{{{endpoints}{rest}}}")).unwrap_err();
        assert_eq!(error.key.as_deref(), Some(key), "{rest}: {error}");
        assert!(error.to_string().starts_with(&format!("{FILE}: {key}: ")), "{error}");
    }
    for text in ["", "[]", "{", "5"] {
        let error = parse(text).unwrap_err();
        assert!(error.key.is_none() && error.to_string().starts_with(FILE), "{error}");
    }
    assert!(Settings::parse(Path::new(FILE), None).unwrap_err().to_string().contains("no such file"));
    assert!(parse(&format!("{{}}{}", " ".repeat(SIZE_MAX))).is_err());
}

#[test]
fn plain_http_to_another_host_needs_insecure() {
    let with = |insecure: bool| {
        parse(&format!(r#"{{"endpoints": ["http://192.0.2.1:2379"], "insecure": {insecure}}}"#))
    };
    assert!(with(true).is_ok());
    assert!(with(false).unwrap_err().why.contains("insecure"));
}

/// T-062: the table has the keys that are read, and no other.
#[test]
fn the_table_of_keys_is_what_is_read() {
    let source = include_str!("../settings.rs");
    for key in KEYS.iter().flat_map(|part| part.iter()) {
        assert!(source.matches(&format!("(\"{}\"", key.name)).count() >= 2, "{}", key.name);
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[{}\\[\\]\":,a-zA-Z0-9/. ]{0,60}") {
        let _ = parse(&text);
    }
}
