//! GC over a list: C-046, C-132.

use std::collections::BTreeSet;
use std::fs;

use runtime::{Attachment, Conflist, Error, GcFault};
use serde_json::json;

use crate::support::{EMPTY, FAIL, House, list, names};

fn added(house: &House, net: &Conflist, ids: &[&str]) {
    for id in ids {
        let mut attachment = Attachment::new(*id, format!("/run/netns/{id}"), "eth0");
        attachment.args = vec![("K".into(), (*id).into())];
        attachment.capabilities.insert("mac".into(), (*id).into());
        house.runtime.add(net, &attachment).unwrap();
    }
    house.calls();
}

fn valid(ids: &[&str]) -> BTreeSet<runtime::AttachmentId> {
    ids.iter().map(|id| Attachment::new(*id, None, "eth0").id()).collect()
}

/// DEL has the cached namespace, args and capabilities; the GC of the plugins follows, in order.
#[test]
fn gc_deletes_stale_attachments_and_then_calls_the_plugins() {
    let house = House::new();
    house.plugin("a", EMPTY);
    house.plugin("b", EMPTY);
    let text = br#"{"cniVersion":"1.1.0","name":"net","plugins":[
        {"type":"a","capabilities":{"mac":true}},{"type":"b"}]}"#;
    let net = Conflist::from_bytes(text).unwrap();
    added(&house, &net, &["keep", "stale"]);
    let mut other = net.clone();
    other.name = "other".into();
    added(&house, &other, &["stale"]);

    house.runtime.gc(&net, Some(&valid(&["keep"]))).unwrap();
    let calls = house.calls();
    let order: Vec<_> = calls.iter().map(|call| format!("{}:{}", call.plugin, call.command)).collect();
    assert_eq!(order, ["b:DEL", "a:DEL", "a:GC", "b:GC"]);
    let del = &calls[1];
    assert_eq!([&del.container_id, &del.netns, &del.args], ["stale", "/run/netns/stale", "K=stale"]);
    assert_eq!(del.request()["runtimeConfig"], json!({"mac": "stale"}));
    assert_eq!(del.request()["prevResult"], json!({"cniVersion": "1.1.0"}));
    let gc = &calls[2];
    assert_eq!([&gc.container_id, &gc.netns, &gc.args, &gc.ifname], ["", "", "", ""]);
    assert_eq!(gc.request()["cni.dev/valid-attachments"], json!([{"containerID": "keep", "ifname": "eth0"}]));
    assert_eq!(gc.request().get("prevResult"), None);
    assert_eq!(names(&house.path("lib/results")), ["net-keep-eth0", "other-stale-eth0"]);
}

/// C-046: the plugins' requests have no key then.
#[test]
fn gc_without_a_set_deletes_every_cached_attachment() {
    let house = House::new();
    house.plugin("a", EMPTY);
    let net = list("1.1.0", &["a"]);
    added(&house, &net, &["x", "y"]);
    house.runtime.gc(&net, None).unwrap();
    let calls = house.calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[2].request(), json!({"type": "a", "name": "net", "cniVersion": "1.1.0"}));
    assert!(names(&house.path("lib/results")).is_empty());
}

/// C-033: plugins have GC from 1.1.0 on; disableGC switches everything off.
#[test]
fn gc_calls_plugins_from_1_1_0_on_unless_disabled() {
    let house = House::new();
    house.plugin("a", r#"printf '{"cniVersion":"1.0.0"}'"#);
    let mut net = list("1.0.0", &["a"]);
    added(&house, &net, &["x"]);
    net.disable_gc = true;
    house.runtime.gc(&net, Some(&valid(&[]))).unwrap();
    assert!(house.calls().is_empty());
    net.disable_gc = false;
    house.runtime.gc(&net, Some(&valid(&[]))).unwrap();
    assert_eq!(house.order(), ["a:DEL"]);
}

/// C-132
#[test]
fn gc_continues_after_errors_and_reports_all() {
    let house = House::new();
    house.plugin("a", EMPTY);
    house.plugin("b", EMPTY);
    let net = list("1.1.0", &["a", "b"]);
    added(&house, &net, &["x", "y"]);
    house.plugin("a", FAIL);
    let error = house.runtime.gc(&net, Some(&valid(&[]))).unwrap_err();
    assert_eq!(house.order(), ["b:DEL", "a:DEL", "b:DEL", "a:DEL", "a:GC", "b:GC"]);
    assert_eq!(
        error.to_string(),
        "failed to delete stale attachment x eth0: plugin type=\"a\" failed (delete): no luck; try again\n\
         failed to delete stale attachment y eth0: plugin type=\"a\" failed (delete): no luck; try again\n\
         failed to GC plugin a: no luck; try again"
    );
    assert_eq!(error.failure().unwrap().code, 107);
    assert_eq!(names(&house.path("lib/results")).len(), 2);
}

/// libcni succeeds without doing anything then. Here a missing cache counts as empty.
#[test]
fn gc_calls_the_plugins_even_if_the_cache_cannot_be_listed() {
    let house = House::new();
    house.plugin("a", "");
    let net = list("1.1.0", &["a"]);
    house.runtime.gc(&net, Some(&valid(&[]))).unwrap();
    assert_eq!(house.order(), ["a:GC"]);

    fs::write(house.path("lib"), "a file where the directory should be").unwrap();
    let error = house.runtime.gc(&net, Some(&valid(&["x"]))).unwrap_err();
    assert_eq!(house.order(), ["a:GC"]);
    let Error::Gc(faults) = &error else { panic!("{error}") };
    assert!(matches!(faults.as_slice(), [GcFault::Attachments(_)]), "{error}");
}
