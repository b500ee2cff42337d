//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use cni::{AddResult, Error, Request, testing};
use host::Owner;
use netlink::Mac;

use crate::config::Config;
use crate::plan;

fn request_with(keys: &str, args: &str) -> Request {
    testing::add_with("tap", keys, args)
}

fn config(keys: &str) -> Config {
    Config::of(&request_with(keys, "")).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request_with(keys, "")).unwrap_err()
}

/// The plan, one piece per line.
fn plan_of(keys: &str, result: &AddResult) -> String {
    let own: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    let config = config(keys);
    let plan = plan::plan(&config, &Owner::new("net", "c1", "eth0"), config.mac, result, &own);
    plan.iter().map(|piece| format!("{piece:?}\n")).collect()
}

const MAC: &str = r#""mac": "02:00:00:00:00:03""#;

#[test]
fn a_dual_stack_network_plans_the_device_its_addresses_and_routes() {
    let keys = format!(
        r#""mtu": 1400, "owner": 107, "group": 108, "multiQueue": true, "bridge": "br0",
           "selinuxContext": "system_u:system_r:container_t:s0", {MAC}"#
    );
    let result = AddResult {
        ips: vec![
            testing::ip(Some(0), "10.1.2.3/24", Some("10.1.2.1")),
            testing::ip(Some(0), "fd00:1::3/64", None),
        ],
        routes: vec![testing::route("0.0.0.0/0")],
        ..AddResult::default()
    };
    testing::golden("tap", "dual-stack", &plan_of(&keys, &result));
}

/// TA-K8: no addresses, no sysctls.
#[test]
fn a_layer_2_network_only_plans_a_device_that_is_up() {
    testing::golden("tap", "layer2", &plan_of(MAC, &AddResult::default()));
}

/// A device without a program at its other end has no carrier.
#[test]
fn nothing_waits_for_a_carrier() {
    let ips = vec![testing::ip(Some(0), "fd00:1::3/64", None)];
    let plan = plan_of(MAC, &AddResult { ips, ..AddResult::default() });
    assert!(plan.contains("dad: false") && !plan.contains("Settled("), "{plan}");
}

/// TA-K3
#[test]
fn the_runtimes_mac_is_before_that_of_the_arguments_and_of_the_key() {
    let runtime = format!(r#"{MAC}, "runtimeConfig": {{"mac": "02:00:00:00:00:05"}}"#);
    let of = |keys: &str, args: &str| Config::of(&request_with(keys, args)).unwrap().mac.unwrap().0[5];
    let args = "IgnoreUnknown=1;X=y;MAC=02:00:00:00:00:04";
    assert_eq!((of(&runtime, args), of(MAC, args), of(MAC, "")), (5, 4, 3));
    assert_eq!(config("").mac, None::<Mac>);
    let error = Config::of(&request_with("", "MAC=01:00:00:00:00:01")).unwrap_err();
    assert!(error.code == 7 && error.msg.contains("for MAC addr"), "{error:?}");
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (keys, text) in [
        (r#""mtu": 67"#, "invalid MTU 67, must be 0 or [68, 65521]"),
        (r#""mtu": 65522"#, "invalid MTU 65522"),
        (r#""mtu": -1"#, "invalid MTU -1"),
        (r#""owner": 4294967295"#, "invalid owner 4294967295"),
        (r#""group": 4294967295"#, "invalid group 4294967295"),
        (r#""selinuxContext": "exec unconfined""#, "invalid selinuxContext"),
        (r#""selinuxContext": "a:b:c\n""#, "invalid selinuxContext"),
        (r#""selinuxContext": "a:b""#, "invalid selinuxContext"),
        (r#""mac": "zz""#, "invalid args zz for MAC addr"),
    ] {
        let error = refusal(keys);
        assert!(error.code == 7 && error.msg.contains(text), "{keys}: {error:?}");
    }
    for keys in [r#""owner": -1"#, r#""group": 4294967296"#, r#""owner": "root""#] {
        assert_eq!(refusal(keys).code, 999, "{keys}");
    }
}

#[test]
fn zero_null_and_empty_are_defaults() {
    let empty = r#""mtu": 0, "mac": "", "owner": null, "bridge": "", "selinuxContext": "", "args": null"#;
    assert_eq!(config(empty), config(""));
    // TA-K9: what is in args is not for this plugin.
    assert_eq!(config(r#""args": {"cni": {"mac": 5}}"#), config(""));
    assert_eq!(config(r#""owner": 0, "group": 0"#).owner, Some(0));
}
