//! Requests to plugins: LR-3, C-100, C-131, C-136.

use std::collections::BTreeSet;

use runtime::{AttachmentId, Conflist};
use serde_json::{Map, Value, json};

fn one(plugin: &str) -> Conflist {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"net","plugins":[{plugin}]}}"#);
    Conflist::from_bytes(text.as_bytes()).unwrap()
}

fn sent(list: &Conflist, prev_result: Option<&Value>, capabilities: Value) -> String {
    let Value::Object(capabilities) = capabilities else { panic!("capabilities are an object") };
    let request = list.plugins[0].attachment_request(list, prev_result, &capabilities);
    String::from_utf8(request).unwrap()
}

/// C-028, C-131, C-136.
#[test]
fn the_object_is_sent_re_encoded_with_the_lists_name_and_version() {
    let list = one(r#"{"type":"a", "name":"own", "cniVersion":"0.1.0", "n":12345678901234567890, "f":1400.0,
            "args":{"cni":{"ips":["<1>"]}}, "A":null}"#);
    assert_eq!(
        sent(&list, None, json!({})),
        r#"{"A":null,"args":{"cni":{"ips":["\u003c1\u003e"]}},"cniVersion":"1.1.0","f":1400,"n":12345678901234567000,"name":"net","type":"a"}"#
    );
}

/// LR-3, C-100: declared as true; the key `capabilities` stays (C-026).
#[test]
fn only_declared_and_supplied_capabilities_are_in_the_runtime_config() {
    let list = one(r#"{"type":"a","capabilities":{"mac":true,"ips":false,"dns":true}}"#);
    let request: Value =
        serde_json::from_str(&sent(&list, None, json!({"mac":"0a::","ips":[],"x":1}))).unwrap();
    assert_eq!(request["runtimeConfig"], json!({"mac": "0a::"}));
    assert_eq!(request["capabilities"], json!({"mac": true, "ips": false, "dns": true}));
    assert!(!sent(&list, None, json!({"ips": []})).contains("runtimeConfig"));
}

#[test]
fn only_injected_keys_replace_keys_of_the_file() {
    let list = one(
        r#"{"type":"a","capabilities":{"mac":true},"runtimeConfig":{"of":"file"},"prevResult":{"of":"file"}}"#,
    );
    let request = |prev: Option<&Value>, capabilities| -> Map<String, Value> {
        serde_json::from_str(&sent(&list, prev, capabilities)).unwrap()
    };
    let kept = request(None, json!({}));
    assert_eq!(
        (&kept["prevResult"], &kept["runtimeConfig"]),
        (&json!({"of": "file"}), &json!({"of": "file"}))
    );
    let replaced = request(Some(&json!({"p": 1})), json!({"mac": "m"}));
    assert_eq!(
        (&replaced["prevResult"], &replaced["runtimeConfig"]),
        (&json!({"p": 1}), &json!({"mac": "m"}))
    );
}

/// Large integers and unknown keys survive.
#[test]
fn a_previous_result_is_passed_on_unchanged() {
    let prev = json!({"cniVersion": "1.1.0", "x": {"big": 9_007_199_254_740_993_u64}});
    assert!(sent(&one(r#"{"type":"a"}"#), Some(&prev), json!({})).contains("9007199254740993"));
}

/// C-046.
#[test]
fn gc_is_sent_the_valid_set_under_both_keys() {
    let list = one(r#"{"type":"a","capabilities":{"mac":true}}"#);
    let gc = |valid: Option<&BTreeSet<AttachmentId>>| -> Value {
        serde_json::from_slice(&list.plugins[0].gc_request(&list, valid)).unwrap()
    };
    let plain = json!({"type": "a", "name": "net", "cniVersion": "1.1.0", "capabilities": {"mac": true}});
    assert_eq!(gc(None), plain);

    let empty = gc(Some(&BTreeSet::new()));
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(empty.get(key), Some(&Value::Null), "{key}");
    }

    let id = AttachmentId { container_id: "c1".into(), ifname: "eth0".into() };
    let set = gc(Some(&BTreeSet::from([id])));
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(set[key], json!([{"containerID": "c1", "ifname": "eth0"}]), "{key}");
    }
}

#[test]
fn status_is_sent_the_object_with_name_and_version_only() {
    let list = one(r#"{"type":"a","mtu":1}"#);
    let request: Value = serde_json::from_slice(&list.plugins[0].status_request(&list)).unwrap();
    assert_eq!(request, json!({"type": "a", "mtu": 1, "name": "net", "cniVersion": "1.1.0"}));
}
