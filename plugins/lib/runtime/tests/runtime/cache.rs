//! The result cache: LR-4, C-134.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use runtime::{Attachment, CacheError, Entry, Record};
use serde_json::json;

use crate::support::{EMPTY, House, attachment, list, names};

fn record(network: &str, id: &str, ifname: &str) -> Record {
    Record {
        network: network.into(),
        attachment: Attachment::new(id, None, ifname),
        config: b"{}".to_vec(),
        result: Some(json!({"cniVersion": "1.1.0"})),
    }
}

/// LR-4: every byte, with the order of keys, the list in base64, and the pairs of args.
#[test]
fn a_record_is_one_line_in_libcnis_format() {
    let house = House::new();
    let mut full = record("net", "c1", "eth0");
    full.attachment.netns = Some("/run/netns/c1".into());
    full.attachment.args = vec![("K".into(), "<V>".into())];
    full.attachment.capabilities.insert("mac".into(), "m".into());
    full.config = b"{\"name\":\"net\"}\n".to_vec();
    full.result = Some(json!({"ips": [], "cniVersion": "1.1.0"}));
    house.runtime.cache().put(&full).unwrap();
    assert_eq!(
        fs::read_to_string(house.path("lib/results/net-c1-eth0")).unwrap(),
        concat!(
            r#"{"kind":"cniCacheV1","containerId":"c1","config":"eyJuYW1lIjoibmV0In0K","ifName":"eth0","#,
            r#""networkName":"net","netns":"/run/netns/c1","cniArgs":[["K","\u003cV\u003e"]],"#,
            r#""capabilityArgs":{"mac":"m"},"result":{"cniVersion":"1.1.0","ips":[]}}"#
        )
    );
    let id = full.attachment.id();
    assert_eq!(house.runtime.cache().get("net", &id).unwrap(), Some(Entry::Record(Box::new(full))));

    let mut bare = record("net", "c2", "eth0");
    bare.result = None;
    house.runtime.cache().put(&bare).unwrap();
    assert_eq!(
        fs::read_to_string(house.path("lib/results/net-c2-eth0")).unwrap(),
        r#"{"kind":"cniCacheV1","containerId":"c2","config":"e30=","ifName":"eth0","networkName":"net"}"#
    );
}

/// LR-4: directory 0700, file 0600.
#[test]
fn only_the_owner_can_read_the_cache() {
    let house = House::new();
    house.plugin("a", EMPTY);
    let net = list("1.1.0", &["a"]);
    house.runtime.add(&net, &attachment()).unwrap();
    let mode = |path: &str| fs::metadata(house.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("lib"), mode("lib/results"), mode("lib/results/net-c1-eth0")), (0o700, 0o700, 0o600));
    let cached = house.runtime.cache().get("net", &attachment().id()).unwrap().unwrap();
    let Entry::Record(cached) = cached else { panic!("{cached:?}") };
    assert_eq!((cached.config, cached.attachment), (net.bytes, attachment()));
}

/// Older versions of libcni stored the result only.
#[test]
fn a_legacy_file_is_only_a_result() {
    let house = House::new();
    house.file(
        "lib/results/net-c1-eth0",
        r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.2/8"}]}"#,
    );
    let result = house.runtime.cached_result(&list("1.0.0", &["a"]), &attachment()).unwrap();
    assert_eq!(result, Some(json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/8"}]})));
    assert!(house.runtime.cache().list(None).unwrap().is_empty());
    house.plugin("a", "");
    house.runtime.del(&list("1.0.0", &["a"]), &attachment()).unwrap();
    assert!(!house.cached("net", &attachment()).exists());
}

/// Like libcni's listing.
#[test]
fn listing_is_sorted_and_skips_other_files() {
    let house = House::new();
    let cache = house.runtime.cache();
    assert!(cache.list(None).unwrap().is_empty(), "a missing directory holds no records");
    for (network, id) in [("net", "c2"), ("net", "c1"), ("b", "c1")] {
        cache.put(&record(network, id, "eth0")).unwrap();
    }
    house.file("lib/results/a-broken-eth0", "{");
    house.file(
        "lib/results/a-foreign-eth0",
        r#"{"kind":"other","containerId":"c1","ifName":"eth0","networkName":"a"}"#,
    );
    house.file(
        "lib/results/a-incomplete-eth0",
        r#"{"kind":"cniCacheV1","containerId":"c1","networkName":"a"}"#,
    );
    fs::copy(house.path("lib/results/net-c1-eth0"), house.path("lib/results/.1-0.tmp")).unwrap();
    let found = |id: Option<&str>| -> Vec<(String, String)> {
        let records = cache.list(id).unwrap().into_iter();
        records.map(|record| (record.network, record.attachment.container_id)).collect()
    };
    let pair = |network: &str, id: &str| (network.to_owned(), id.to_owned());
    assert_eq!(found(None), [pair("b", "c1"), pair("net", "c1"), pair("net", "c2")]);
    assert_eq!(found(Some("c1")), [pair("b", "c1"), pair("net", "c1")]);
    assert!(found(Some("c")).is_empty());
}

/// (`a-b`, `c`) and (`a`, `b-c`) have the same file.
#[test]
fn another_attachments_record_of_the_same_name_is_neither_read_nor_removed() {
    let house = House::new();
    let cache = house.runtime.cache();
    let (mine, other) = (record("a-b", "c", "eth0"), record("a", "b-c", "eth0"));
    cache.put(&mine).unwrap();
    assert_eq!(cache.get("a", &other.attachment.id()).unwrap(), None);
    cache.remove("a", &other.attachment.id()).unwrap();
    assert!(cache.get("a-b", &mine.attachment.id()).unwrap().is_some());
    cache.remove("a-b", &mine.attachment.id()).unwrap();
    assert!(names(&house.path("lib/results")).is_empty());
    cache.remove("a-b", &mine.attachment.id()).unwrap();
}

/// All three names are required; a slash would leave the directory.
#[test]
fn a_record_needs_three_names_without_a_slash() {
    let house = House::new();
    for (network, id, ifname) in [
        ("", "c", "e"),
        ("n", "", "e"),
        ("n", "c", ""),
        ("n", "../c", "e"),
        ("n", "c", "e/"),
        ("n\0", "c", "e"),
    ] {
        let error = house.runtime.cache().put(&record(network, id, ifname)).unwrap_err();
        assert!(matches!(error, CacheError::BadName { .. }), "{error}");
    }
    let error = house.runtime.cache().put(&record("n", &"x".repeat(300), "e")).unwrap_err();
    assert!(matches!(error, CacheError::Io { .. }), "{error}");
    assert!(names(&house.path("lib/results")).is_empty(), "the temporary file is gone");
}
