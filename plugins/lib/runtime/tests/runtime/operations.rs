//! ADD, CHECK, DEL and STATUS on a list: LR-5, C-122, C-132, C-133.

use std::fs;

use runtime::{Attachment, Conflist, Error, ExecError};
use serde_json::{Value, json};

use crate::support::{EMPTY, FAIL, House, attachment, list, names};

/// A plugin that returns its previous result with its own mark.
fn marking(mark: &str) -> String {
    format!(
        r#"printf '{{"cniVersion":"1.1.0","mark":"{mark}","big":9007199254740993,"ips":[{{"address":"10.0.0.2/8"}}]}}'"#
    )
}

/// C-122, C-132: the result is passed on and cached as printed.
#[test]
fn add_passes_each_result_to_the_next_plugin() {
    let house = House::new();
    house.plugin("a", &marking("a"));
    house.plugin("b", &marking("b"));
    let result = house.runtime.add(&list("1.1.0", &["a", "b"]), &attachment()).unwrap();
    assert_eq!((&result["mark"], &result["big"]), (&json!("b"), &json!(9_007_199_254_740_993_u64)));

    let calls = house.calls();
    assert_eq!(calls.iter().map(|call| call.plugin.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(calls[0].request().get("prevResult"), None);
    assert_eq!(calls[1].request()["prevResult"]["mark"], "a");
    assert_eq!(house.runtime.cached_result(&list("1.1.0", &["a"]), &attachment()).unwrap(), Some(result));
}

/// LR-5: it undoes nothing; the plugin's error follows a prefix, unchanged.
#[test]
fn add_stops_at_the_first_error_and_caches_nothing() {
    let house = House::new();
    house.plugin("a", EMPTY);
    house.plugin("b", FAIL);
    house.plugin("c", EMPTY);
    let error = house.runtime.add(&list("1.1.0", &["a", "b", "c"]), &attachment()).unwrap_err();
    assert_eq!(error.to_string(), r#"plugin type="b" failed (add): no luck; try again"#);
    let failure = error.failure().unwrap();
    assert_eq!((failure.code, failure.msg.as_str(), failure.details.as_str()), (107, "no luck", "try again"));
    assert_eq!(house.order(), ["a:ADD", "b:ADD"]);
    assert!(names(&house.path("lib/results")).is_empty());

    let missing = house.runtime.add(&list("1.1.0", &["gone"]), &attachment()).unwrap_err().to_string();
    let bin = house.path("bin");
    let wanted = format!(
        r#"plugin type="gone" failed (add): failed to find plugin "gone" in path [{}]"#,
        bin.display()
    );
    assert_eq!(missing, wanted);

    let named = br#"{"name":"net","plugins":[{"type":"b","name":"own"}]}"#;
    let error = house.runtime.add(&Conflist::from_bytes(named).unwrap(), &attachment()).unwrap_err();
    assert!(error.to_string().starts_with(r#"plugin type="b" name="own" failed (add): "#), "{error}");
}

/// C-013, C-022: no plugin is started.
#[test]
fn add_refuses_malformed_names() {
    let house = House::new();
    house.plugin("a", EMPTY);
    let refused = |list: &Conflist, id: &str, ifname: &str| {
        let error = house.runtime.add(list, &Attachment::new(id, None, ifname)).unwrap_err();
        let failure = error.failure().unwrap().clone();
        (failure.code, failure.msg, failure.details)
    };
    let good = list("1.1.0", &["a"]);
    let mut bad = good.clone();
    bad.name = "a/b".into();
    let row = |code: u64, msg: &str, details: &str| (code, msg.to_owned(), details.to_owned());
    assert_eq!(refused(&good, "", "eth0"), row(3, "missing containerID", ""));
    assert_eq!(refused(&good, "../x", "eth0"), row(4, "invalid characters in containerID", "../x"));
    assert_eq!(refused(&bad, "c", "eth0"), row(7, "invalid characters found in network name", "a/b"));
    let too_long = row(4, "interface name is too long", "interface name should be less than 16 characters");
    assert_eq!(refused(&good, "c", "0123456789abcdef"), too_long);
    assert!(house.calls().is_empty());
}

/// C-083, C-057.
#[test]
fn add_gives_a_result_without_version_the_lists() {
    let house = House::new();
    let answer = |printed: &str, version: &str| {
        house.plugin("a", &format!("printf '{printed}'"));
        house.runtime.add(&list(version, &["a"]), &attachment())
    };
    assert_eq!(answer(r#"{"x":1}"#, "1.0.0").unwrap(), json!({"cniVersion": "1.0.0", "x": 1}));
    assert_eq!(answer(r#"{"cniVersion":""}"#, "").unwrap(), json!({"cniVersion": "0.1.0"}));
    assert_eq!(answer("null", "1.1.0").unwrap(), json!({"cniVersion": "1.1.0"}));
    assert_eq!(answer(r#"{"cniVersion":"0.2.0"}"#, "1.0.0").unwrap(), json!({"cniVersion": "0.2.0"}));

    for (printed, wanted) in [
        ("", "failed to unmarshal raw result: "),
        ("hello", "failed to unmarshal raw result: "),
        ("{}{}", "failed to unmarshal raw result: "),
        ("[]", "failed to unmarshal raw result: "),
        (r#"{"cniVersion":"9.9.9"}"#, "unsupported CNI result version \"9.9.9\""),
    ] {
        let error = answer(printed, "1.1.0").unwrap_err();
        let prefix = format!("plugin type=\"a\" failed (add): {wanted}");
        assert!(error.to_string().starts_with(&prefix), "{error}");
        let Error::Plugin { error, .. } = error else { panic!("{error}") };
        let ExecError::BadResult { output, .. } = *error else { panic!("{error}") };
        assert_eq!(output.stdout, printed.as_bytes());
    }
}

/// The network is up then, as with libcni.
#[test]
fn add_fails_if_the_result_cannot_be_cached() {
    let house = House::new();
    house.plugin("a", EMPTY);
    house.file("lib", "a file where the directory should be");
    let error = house.runtime.add(&list("1.1.0", &["a"]), &attachment()).unwrap_err();
    assert!(error.to_string().starts_with(r#"failed to set network "net" cached result: "#), "{error}");
    assert_eq!(house.order(), ["a:ADD"]);
}

/// LR-5, C-122, C-132.
#[test]
fn check_sends_the_cached_result_to_every_plugin_until_one_fails() {
    let house = House::new();
    house.plugin("a", &marking("a"));
    house.plugin("b", &marking("b"));
    let net = list("1.1.0", &["a", "b"]);
    let mut attachment = attachment();
    house.runtime.add(&net, &attachment).unwrap();
    house.calls();
    house.runtime.check(&net, &attachment).unwrap();
    let calls = house.calls();
    assert_eq!(calls.len(), 2);
    for call in &calls {
        assert_eq!((call.command.as_str(), call.netns.as_str()), ("CHECK", "/run/netns/c1"));
        assert_eq!(call.request()["prevResult"]["mark"], "b");
    }

    house.plugin("a", FAIL);
    let error = house.runtime.check(&net, &attachment).unwrap_err();
    assert_eq!((error.to_string().as_str(), house.order().len()), ("no luck; try again", 1));

    house.plugin("a", EMPTY);
    attachment.container_id = "never-added".into();
    house.runtime.check(&net, &attachment).unwrap();
    assert_eq!(house.calls()[0].request().get("prevResult"), None);
}

/// Versions below 0.4.0, disableCheck, and a corrupt cache.
#[test]
fn check_can_be_refused_disabled_or_stopped() {
    let house = House::new();
    house.plugin("a", EMPTY);
    let error = house.runtime.check(&list("0.3.1", &["a"]), &attachment()).unwrap_err().to_string();
    assert_eq!(error, r#"configuration version "0.3.1" does not support the CHECK command"#);
    assert!(matches!(house.runtime.check(&list("x", &["a"]), &attachment()), Err(Error::Version(_))));

    let mut disabled = list("1.1.0", &["a"]);
    disabled.disable_check = true;
    house.runtime.check(&disabled, &attachment()).unwrap();

    house.file("lib/results/net-c1-eth0", "{broken");
    let error = house.runtime.check(&list("1.1.0", &["a"]), &attachment()).unwrap_err().to_string();
    assert!(error.starts_with(r#"failed to get network "net" cached result: "#), "{error}");
    assert!(house.calls().is_empty());
}

/// C-120.
#[test]
fn a_cached_result_is_sent_in_the_lists_version() {
    let house = House::new();
    house.plugin("a", &marking("a"));
    house.runtime.add(&list("1.1.0", &["a"]), &attachment()).unwrap();
    house.calls();
    house.runtime.check(&list("0.4.0", &["a"]), &attachment()).unwrap();
    let prev = house.calls()[0].request()["prevResult"].clone();
    assert_eq!((&prev["cniVersion"], &prev["ips"][0]["version"]), (&json!("0.4.0"), &json!("4")));
    assert_eq!(prev["mark"], "a", "what the specification does not name survives");
}

/// LR-5, C-132.
#[test]
fn del_runs_in_reverse_order_and_removes_the_record_after_success() {
    let house = House::new();
    for plugin in ["a", "b", "c"] {
        house.plugin(plugin, &marking(plugin));
    }
    let net = list("1.1.0", &["a", "b", "c"]);
    let record = house.cached("net", &attachment());
    house.runtime.add(&net, &attachment()).unwrap();
    house.calls();

    house.plugin("b", FAIL);
    let error = house.runtime.del(&net, &attachment()).unwrap_err();
    assert_eq!(error.to_string(), r#"plugin type="b" failed (delete): no luck; try again"#);
    assert_eq!(house.order(), ["c:DEL", "b:DEL"]);
    assert!(record.exists(), "a failed DEL can be tried again with the same previous result");

    house.plugin("b", "");
    house.runtime.del(&net, &attachment()).unwrap();
    let calls = house.calls();
    assert_eq!(calls.iter().map(|call| call.plugin.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    assert!(calls.iter().all(|call| call.request()["prevResult"]["mark"] == "c"));
    assert!(!record.exists());

    // R-4: a second time, without record and namespace.
    house.runtime.del(&net, &Attachment::new("c1", None, "eth0")).unwrap();
    let calls = house.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| call.netns.is_empty() && call.request().get("prevResult").is_none()));
}

/// C-122: libcni would keep the record forever.
#[test]
fn del_below_0_4_0_sends_no_result_and_removes_the_record() {
    let house = House::new();
    house.plugin("a", r#"printf '{"cniVersion":"0.3.1"}'"#);
    let net = list("0.3.1", &["a"]);
    house.runtime.add(&net, &attachment()).unwrap();
    house.runtime.del(&net, &attachment()).unwrap();
    assert_eq!(house.calls()[1].request().get("prevResult"), None);
    assert!(names(&house.path("lib/results")).is_empty());
}

#[test]
fn del_removes_a_corrupt_record_and_continues() {
    let house = House::new();
    for broken in ["{", "[]", "null", r#"{"kind":"cniCacheV1","config":"not base64!"}"#] {
        house.file("lib/results/net-c1-eth0", broken);
        house.plugin("a", FAIL);
        house.runtime.del(&list("1.1.0", &["a"]), &attachment()).unwrap_err();
        assert!(!house.cached("net", &attachment()).exists(), "{broken}");
        assert_eq!(house.calls()[0].request().get("prevResult"), None);
    }
}

/// The record still identifies the attachment for GC.
#[test]
fn del_keeps_an_unconvertible_record_until_it_succeeds() {
    let house = House::new();
    house.plugin("a", r#"printf '{"cniVersion":"1.1.0"}'"#);
    house.runtime.add(&list("1.1.0", &["a"]), &attachment()).unwrap();
    let changed = list("9.9.9", &["a"]);
    house.plugin("a", FAIL);
    house.runtime.del(&changed, &attachment()).unwrap_err();
    assert!(house.cached("net", &attachment()).exists());
    house.plugin("a", "");
    house.runtime.del(&changed, &attachment()).unwrap();
    assert!(!house.cached("net", &attachment()).exists());
    assert!(house.calls().iter().skip(1).all(|call| call.request().get("prevResult").is_none()));
}

/// DEL does not check names; the cache must not follow a hostile one.
#[test]
fn del_with_a_hostile_id_runs_the_plugins_and_touches_no_other_file() {
    let house = House::new();
    house.plugin("a", "");
    let other = house.file("lib/precious", "");
    house.file("lib/results/x", "");
    house.runtime.del(&list("1.1.0", &["a"]), &Attachment::new("/../../precious", None, "/..")).unwrap();
    house.runtime.del(&list("1.1.0", &["a"]), &Attachment::new("", None, "")).unwrap();
    assert_eq!(house.order().len(), 2);
    assert!(other.exists());
}

/// C-044, C-132: the variables of attachments are empty.
#[test]
fn status_returns_the_first_error_unchanged() {
    let house = House::new();
    house.plugin("a", "");
    house.plugin("b", r#"printf '{"code":50,"msg":"full"}'; exit 1"#);
    house.plugin("c", "");
    house.runtime.status(&list("1.0.0", &["b"])).unwrap();
    assert!(house.calls().is_empty(), "below 1.1.0 no plugin is called");

    let error = house.runtime.status(&list("1.1.0", &["a", "b", "c"])).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.failure().unwrap().code), ("full", 50));
    let calls = house.calls();
    assert_eq!(calls.iter().map(|call| call.plugin.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let call = &calls[0];
    assert_eq!([&call.container_id, &call.netns, &call.args, &call.ifname], ["", "", "", ""]);
    assert_eq!(call.request(), json!({"type": "a", "name": "net", "cniVersion": "1.1.0"}));
}

/// C-100: in ADD, and in the DEL of GC, which has them from the record.
#[test]
fn capabilities_reach_only_the_plugin_that_declares_them() {
    let house = House::new();
    house.plugin("a", EMPTY);
    house.plugin("b", EMPTY);
    let text = br#"{"cniVersion":"1.1.0","name":"net","plugins":[
        {"type":"a"},{"type":"b","capabilities":{"mac":true}}]}"#;
    let mut attachment = attachment();
    attachment.capabilities.insert("mac".into(), "0a:00:00:00:00:01".into());
    house.runtime.add(&Conflist::from_bytes(text).unwrap(), &attachment).unwrap();
    let requests: Vec<Value> = house.calls().iter().map(|call| call.request()).collect();
    assert_eq!(requests[0].get("runtimeConfig"), None);
    assert_eq!(requests[1]["runtimeConfig"], json!({"mac": "0a:00:00:00:00:01"}));
}

/// ADD and DEL only leave records in the cache.
#[test]
fn no_temporary_file_stays_in_the_cache() {
    let house = House::new();
    house.plugin("a", EMPTY);
    house.runtime.add(&list("1.1.0", &["a"]), &attachment()).unwrap();
    house.runtime.add(&list("1.1.0", &["a"]), &attachment()).unwrap();
    assert_eq!(names(&house.path("lib/results")), ["net-c1-eth0"]);
    fs::remove_dir_all(house.path("lib")).unwrap();
    house.runtime.del(&list("1.1.0", &["a"]), &attachment()).unwrap();
    assert!(!house.path("lib").exists(), "DEL makes no directories");
}
