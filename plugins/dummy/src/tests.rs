//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use cni::{AddResult, Error, Request, testing};
use host::Owner;
use netlink::Mac;

use crate::config::Config;
use crate::plan::plan;

const IPAM: &str = r#""ipam": {"type": "host-local"}"#;

fn request_with(keys: &str) -> Request {
    testing::add_with("dummy", keys, "")
}

fn config(keys: &str) -> Config {
    Config::of(&request_with(&format!("{IPAM}, {keys}"))).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request_with(keys)).unwrap_err()
}

fn golden(name: &str, keys: &str, result: &AddResult) {
    let config = config(keys);
    let own: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    let plan = plan(&Owner::new("net", "c1", "dummy0"), config.mac, config.mtu, result, &own);
    testing::golden("dummy", name, &plan.iter().map(|piece| format!("{piece:?}\n")).collect::<String>());
}

#[test]
fn an_ipv4_network_plans_the_link_its_address_and_its_state() {
    let result = AddResult { ips: vec![testing::ip(Some(0), "10.1.2.3/32", None)], ..AddResult::default() };
    golden("ipv4", r#""mtu": null"#, &result);
}

#[test]
fn a_dual_stack_network_plans_no_duplicate_detection() {
    let result = AddResult {
        ips: vec![testing::ip(Some(0), "10.1.2.3/24", None), testing::ip(Some(0), "fd00:1::3/64", None)],
        routes: vec![testing::route("10.9.0.0/16")],
        ..AddResult::default()
    };
    golden("dual-stack", r#""mtu": 9000, "mac": "02:00:00:00:00:03""#, &result);
}

#[test]
fn the_first_given_mac_address_counts() {
    let last = |keys: &str| config(keys).mac.map(|Mac(bytes)| bytes[5]);
    assert_eq!(
        last(r#""mac": "02:00:00:00:00:0c", "runtimeConfig": {"mac": "02:00:00:00:00:0a"}"#),
        Some(0xa)
    );
    assert_eq!(last(r#""mac": "02:00:00:00:00:0c", "runtimeConfig": {"mac": ""}"#), Some(0xc));
    assert_eq!(last(r#""mac": null"#), None);
}

#[test]
fn errors_name_the_fault_of_the_configuration() {
    let error = refusal(r#""mtu": 0"#);
    assert_eq!((error.code, error.msg.as_str()), (7, "dummy interface requires an IPAM configuration"));
    for (keys, text) in [
        (r#""mtu": -1"#, "invalid MTU -1, must be 0 or [68, 65535]"),
        (r#""mtu": 67"#, "invalid MTU 67"),
        (r#""mtu": 99999999999"#, "invalid MTU 99999999999"),
        (r#""mac": "zz""#, "invalid MAC address \"zz\""),
        (r#""mac": "01:00:5e:00:00:01""#, "multicast"),
        (r#""runtimeConfig": {"mac": "02:00"}"#, "invalid MAC address \"02:00\""),
    ] {
        let error = refusal(&format!("{IPAM}, {keys}"));
        assert_eq!(error.code, 7, "{keys}: {error:?}");
        assert!(error.msg.contains(text), "{keys}: {error:?}");
    }
    for keys in [r#""mtu": "auto""#, r#""mac": 5"#] {
        let error = refusal(&format!("{IPAM}, {keys}"));
        assert!(error.code == 999 && error.msg.starts_with("failed to load netconf: "), "{keys}: {error:?}");
    }
}
