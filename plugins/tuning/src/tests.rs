//! Configurations, records and results; no root, no kernel.

use cni::{Error, Request, testing};
use host::Owner;
use host::piece::LinkSettings;

use crate::config::Config;
use crate::parameter::Parameter;
use crate::plan::{self, Facts};
use crate::record::{Record, latest};

fn request(keys: &str, args: &str) -> Request {
    testing::add_with("tuning", keys, args)
}

fn config(keys: &str) -> Config {
    Config::of(&request(keys, "")).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request(keys, "")).unwrap_err()
}

fn parameter(key: &str, value: &str) -> Parameter {
    Parameter { written: key.into(), key: key.into(), value: value.into() }
}

/// TU-K3.
#[test]
fn the_mac_address_of_the_call_counts_before_the_networks() {
    let keys = |upto: usize| {
        let all = [
            r#""mac": "02:00:00:00:00:0A""#,
            r#""runtimeConfig": {"mac": "02:00:00:00:00:0B"}"#,
            r#""args": {"cni": {"mac": "02:00:00:00:00:0C"}}"#,
        ];
        all[..upto].join(", ")
    };
    let mac = |upto, args| Config::of(&request(&keys(upto), args)).unwrap().link.mac.unwrap().to_string();
    assert_eq!(mac(1, ""), "02:00:00:00:00:0a");
    assert_eq!(mac(1, "MAC=02:00:00:00:00:0D"), "02:00:00:00:00:0d");
    assert_eq!(mac(2, "MAC=02:00:00:00:00:0D"), "02:00:00:00:00:0b");
    assert_eq!(mac(3, "MAC=02:00:00:00:00:0D"), "02:00:00:00:00:0c");
}

/// TU-K8, TU-B1.
#[test]
fn arguments_count_before_keys_and_need_none_beside_them() {
    let of_args = config(
        r#""args": {"cni": {"sysctl": {"net.core.x": "1"}, "mtu": 1400, "promisc": true,
        "allmulti": false, "txQLen": 0}}"#,
    );
    assert_eq!(of_args.parameters[0].key, "net/core/x");
    let all = LinkSettings {
        mac: None,
        mtu: Some(1400),
        promiscuous: Some(true),
        all_multicast: Some(false),
        queue_length: Some(0),
    };
    assert_eq!(of_args.link, all);
    let merged = config(
        r#""sysctl": {"net/core/x": "1", "net.core.y": "2"}, "mtu": 1300, "allmulti": true,
        "args": {"cni": {"sysctl": {"net.core.x": "3", "net.core.z": null}, "mtu": 0, "promisc": false}}"#,
    );
    let values: Vec<_> = merged.parameters.iter().map(|it| (it.key.as_str(), it.value.as_str())).collect();
    assert_eq!(values, [("net/core/y", "2"), ("net/core/x", "3")]);
    let link = LinkSettings { mtu: Some(1300), all_multicast: Some(true), ..LinkSettings::default() };
    assert_eq!(merged.link, link);
}

/// TU-K9.
#[test]
fn keys_out_of_bounds_are_refused() {
    for (keys, text) in [
        (r#""mac": "zz""#, "invalid args zz for MAC addr: invalid MAC address"),
        (r#""mac": "01:00:00:00:00:01""#, "neither zero nor a multicast"),
        (r#""mtu": 67"#, "invalid MTU 67"),
        (r#""mtu": -1"#, "invalid MTU -1"),
        (r#""mtu": 65536"#, "invalid MTU 65536"),
        (r#""txQLen": -1"#, "invalid txQLen -1"),
        (r#""txQLen": 1048577"#, "invalid txQLen 1048577"),
        (r#""dataDir": "run""#, "invalid dataDir"),
        (r#""sysctl": {"kernel.x": "1"}"#, r#"invalid net sysctl key: "kernel.x""#),
        (r#""sysctl": {"net.x.y": "1\n2"}"#, "invalid value of sysctl net.x.y"),
        (r#""sysctl": {"net.x.y": "1", "net.x.y": "1"}"#, "duplicated sysctl keys are not allowed"),
        (r#""sysctl": {"net.x.y": "1", "net/x/y": "2"}"#, "duplicated sysctl keys are not allowed"),
        (r#""args": {"cni": {"sysctl": {"net.x.y": "1", "net.x.y": "1"}}}"#, "duplicated sysctl keys"),
    ] {
        let refused = refusal(keys);
        assert!(refused.msg.contains(text), "{keys}: {refused:?}");
    }
    let wrong = refusal(r#""sysctl": {"net.x.y": 1}"#);
    assert_eq!(wrong.msg, "failed to load netconf: sysctl.net.x.y: expected a string, found number 1");
    let many: Vec<String> = (0..257).map(|n| format!(r#""net.x.y{n}": "1""#)).collect();
    assert!(refusal(&format!(r#""sysctl": {{{}}}"#, many.join(","))).msg.contains("257 sysctls"));
}

#[test]
fn nothing_configured_is_nothing_to_do() {
    for keys in
        ["", r#""mtu": 0, "promisc": false, "mac": "", "sysctl": {}"#, r#""sysctl": null, "args": {}"#]
    {
        assert!(config(keys).is_empty(), "{keys}");
        assert!(plan::plan(&config(keys), "eth0", &Facts::default()).is_empty());
    }
}

fn record(ifname: &str, at: u64) -> Record {
    Record {
        owner: Owner::new("net", "c1", ifname),
        netns: None,
        space: "7".into(),
        index: 2,
        at,
        backup: None,
        link: LinkSettings::default(),
        parameters: Vec::new(),
    }
}

fn facts(mtu: Option<u32>, values: &[&str]) -> Facts {
    Facts {
        link: LinkSettings { mtu, ..LinkSettings::default() },
        parameters: values.iter().map(|value| Some((*value).to_owned())).collect(),
    }
}

/// TU-B2.
#[test]
fn a_second_add_keeps_what_the_first_found() {
    let mut record = record("eth0", 1);
    record.keep(&[parameter("net/x", "1")], &facts(Some(1500), &["0"]), &[]);
    record.keep(&[parameter("net/y", "1"), parameter("net/x", "2")], &facts(Some(1400), &["5", "1"]), &[]);
    assert_eq!(record.link.mtu, Some(1500));
    let back = [("net/x".to_owned(), "0".to_owned()), ("net/y".to_owned(), "5".to_owned())];
    assert_eq!(record.set_back(&[], Some("eth0")), back);
}

/// TU-R2.
#[test]
fn a_parameter_of_two_attachments_is_the_latest_ones() {
    let (mut first, mut second) = (record("eth0", 1), record("eth1", 2));
    first.keep(&[parameter("net/x", "1")], &facts(None, &["0"]), &[]);
    second.keep(&[parameter("net/x", "2")], &facts(None, &["1"]), std::slice::from_ref(&first));
    let value = |back: Vec<(String, String)>| back.into_iter().next().unwrap().1;
    let both = [first.clone(), second.clone()];
    assert_eq!(latest(&both, "net/x").unwrap().value, "2");
    // Whichever goes first, the other's value stays, and then the namespace's own comes back.
    assert_eq!(value(first.set_back(std::slice::from_ref(&second), Some("eth0"))), "2");
    assert_eq!(value(second.set_back(std::slice::from_ref(&first), Some("eth1"))), "1");
    assert_eq!(value(second.set_back(&[], Some("eth1"))), "0");
}

/// TU-R1.
#[test]
fn parameters_of_a_link_follow_its_name() {
    let mut record = record("eth0", 1);
    let keys = [parameter("net/ipv4/conf/eth0/x", "1"), parameter("net/ipv4/y", "1")];
    record.keep(&keys, &facts(None, &["0", "0"]), &[]);
    let keys = |name| record.set_back(&[], name).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(Some("lan0")), ["net/ipv4/conf/lan0/x", "net/ipv4/y"]);
    assert_eq!(keys(None), ["net/ipv4/y"]);
}
