use proptest::prelude::*;

use super::*;

const HOST: &str = "00112233aabbccdd";

fn samples() -> Vec<Key> {
    let (network, host) = ("front".to_owned(), HOST.to_owned());
    let (v4, v6): (IpAddr, IpAddr) = ("10.9.0.64".parse().unwrap(), "fd00:9::40".parse().unwrap());
    vec![
        Key::Meta,
        Key::Host(host.clone()),
        Key::Alive(host.clone()),
        Key::Silent(host.clone()),
        Key::Grace(host.clone()),
        Key::Net(network.clone()),
        Key::Vni(VNI_FIRST),
        Key::Block { network: network.clone(), first: v4 },
        Key::Lent { network: network.clone(), address: v6 },
        Key::Own { network: network.clone(), host: host.clone() },
        Key::Ask { network: network.clone(), address: Some(v6), host: host.clone() },
        Key::Ask { network: network.clone(), address: None, host: host.clone() },
        Key::Endpoint(Endpoint { network, host, container: "web_1.a-b".into(), ifname: "eth@0".into() }),
    ]
}

#[test]
fn a_printed_key_reads_back() {
    for key in samples() {
        let path = key.path("/moor");
        assert_eq!(Key::parse(path.as_bytes(), "/moor").unwrap(), key, "{path}");
        assert!(path.starts_with("/moor/1/") && path.ends_with(&key.to_string()));
    }
    assert_eq!(samples().last().unwrap().to_string(), format!("ep/front/{HOST}/web_1.a-b@eth@0"));
}

/// O-078: no name leaves its directory, and no record has two keys.
#[test]
fn an_invalid_key_is_refused() {
    let long = "n".repeat(NAME_MAX + 1);
    for rest in [
        "",
        "meta/",
        "Meta",
        "host/",
        "host/00112233AABBCCDD",
        "host/00112233aabbccd",
        "alive/../host",
        "net/..",
        "net/.a",
        "net/a b",
        "net/a\nb",
        &format!("net/{long}"),
        "vni/7143424",
        "vni/07143425",
        "vni/+7143425",
        "vni/7208960",
        "blk/front/10.9.0.064",
        "blk/front/::ffff:10.9.0.64",
        "blk/front/FD00::",
        "blk/front/fd00:0::",
        "blk/front/10.9.0.64/6",
        "lent/front/any",
        "ask/front/none/00112233aabbccdd",
        "ep/front/00112233aabbccdd/web",
        "ep/front/00112233aabbccdd/@eth0",
        "ep/front/00112233aabbccdd/web@",
        "ep/front/00112233aabbccdd/web@..",
        "ep/front/00112233aabbccdd/web@eth0/x",
        "ep/front/00112233aabbccdd/web@0123456789abcdef",
        "svc/front/web",
    ] {
        let key = format!("/moor/1/{rest}");
        assert!(Key::parse(key.as_bytes(), "/moor").is_err(), "{rest:?}");
    }
    for key in [&b"/moor/2/meta"[..], b"/moor1/meta", b"/other/1/meta", b"/moor/1/net/\xff"] {
        assert!(Key::parse(key, "/moor").is_err());
    }
    let long = format!("/moor/1/ep/{}", "x/".repeat(KEY_MAX));
    assert!(matches!(Key::parse(long.as_bytes(), "/moor"), Err(Fault::KeyTooLong)));
}

#[test]
fn a_range_has_all_keys_below_its_text_and_no_other() {
    let (from, to) = (root("/moor"), after(&root("/moor")));
    assert_eq!((from.as_str(), to.as_str()), ("/moor/1/", "/moor/10"));
    for key in samples() {
        let path = key.path("/moor");
        assert!(from <= path && path < to);
    }
}

proptest! {
    /// O-078: what is read as a key prints as it was.
    #[test]
    fn a_key_has_one_spelling(rest in "(meta|host|net|vni|blk|ep|own|ask)(/[a-f0-9:.@-]{0,18}){0,4}") {
        let text = format!("/moor/1/{rest}");
        if let Ok(key) = Key::parse(text.as_bytes(), "/moor") {
            prop_assert_eq!(key.path("/moor"), text);
        }
    }
}
