//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use attach::{Parent, child};
use cni::{AddResult, Error, Request, testing};
use host::Owner;
use host::piece::Place;
use netlink::{Mac, VlanFlags, VlanProtocol};

use crate::config::Config;
use crate::refuse_down;

fn request_with(keys: &str) -> Request {
    testing::add_with("vlan", keys, "")
}

fn config(keys: &str) -> Config {
    Config::of(&request_with(&format!(r#""master": "wan0", {keys}"#))).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request_with(keys)).unwrap_err()
}

fn parent() -> Parent {
    Parent {
        name: "wan0".into(),
        place: Place::Host,
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        carrier: true,
        down: None,
        on_demand: None,
    }
}

fn dual_stack() -> AddResult {
    AddResult {
        ips: vec![
            testing::ip(Some(0), "10.1.2.3/24", Some("10.1.2.1")),
            testing::ip(Some(0), "fd00:1::3/64", None),
        ],
        routes: vec![testing::route("0.0.0.0/0")],
        ..AddResult::default()
    }
}

fn golden(name: &str, keys: &str) {
    let result = dual_stack();
    let child = config(keys).child(&parent()).unwrap();
    let own: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    let plan = child::plan(&child, &Owner::new("net", "c1", "eth0"), &parent(), &result, &own, None);
    let plan: String = plan.iter().map(|piece| format!("{piece:?}\n")).collect();
    testing::golden("vlan", name, &plan);
}

#[test]
fn a_dual_stack_network_plans_the_link_its_addresses_and_routes() {
    golden("dual-stack", r#""vlanId": 10, "mtu": 1400"#);
}

#[test]
fn every_key_of_a_vlan_is_in_its_plan() {
    let keys = r#""vlanId": 20, "protocol": "802.1AD", "gvrp": true, "looseBinding": true, "mtu": "auto",
        "reorderHeader": false, "ingressQosMap": {"7": 5}, "egressQosMap": {"5": 7},
        "detectConflict": {"timeoutMs": 100}"#;
    golden("every-key", keys);
}

#[test]
fn the_default_is_vlan_0_as_for_the_reference() {
    let Config { vlan, mtu, dad, .. } = config(r#""enabledad": null"#);
    assert_eq!((vlan.id, vlan.protocol, mtu, dad), (0, VlanProtocol::Dot1q, None, true));
    assert_eq!(vlan.flags, VlanFlags::default());
    assert_eq!(config(r#""vlanId": 0, "protocol": """#).vlan, vlan);
}

#[test]
fn the_mtu_must_fit_the_master() {
    let mtu = |keys: &str| config(keys).child(&parent()).map(|child| child.mtu);
    for (keys, bytes) in [
        (r#""mtu": 0"#, None),
        (r#""mtu": "auto""#, None),
        (r#""mtu": 68"#, Some(68)),
        (r#""mtu": 1500"#, Some(1500)),
    ] {
        assert_eq!(mtu(keys).unwrap(), bytes, "{keys}");
    }
    for bytes in ["-1", "67", "1501", "99999999999"] {
        let error = mtu(&format!(r#""mtu": {bytes}"#)).unwrap_err();
        assert_eq!(error.msg, format!("invalid MTU {bytes}, must be [0, master MTU(1500)]"));
    }
}

#[test]
fn only_a_loose_binding_needs_no_master_that_is_up() {
    let down = Parent { down: Some("wan0".into()), ..parent() };
    let error = refuse_down(&config(r#""vlanId": 5"#), &down).unwrap_err();
    assert!(error.code == 11 && error.msg.contains("master \"wan0\" is down"), "{error:?}");
    refuse_down(&config(r#""looseBinding": true"#), &down).unwrap();
    refuse_down(&config(r#""vlanId": 5"#), &parent()).unwrap();
}

#[test]
fn errors_name_the_fault_of_the_configuration() {
    for (keys, text) in [
        (r#""vlanId": 5"#, "\"master\" field is required"),
        (r#""master": """#, "\"master\" field is required"),
        (
            r#""master": "wan0", "vlanId": 4095"#,
            "invalid VLAN ID 4095 (must be between 0 and 4094 inclusive)",
        ),
        (r#""master": "wan0", "vlanId": -1"#, "invalid VLAN ID -1"),
        (r#""master": "wan0", "vlanId": 65546"#, "invalid VLAN ID 65546"),
        (r#""master": "wan0", "protocol": "802.1x""#, "unknown VLAN protocol: \"802.1x\""),
        (r#""master": "wan0", "ingressQosMap": {"8": 0}"#, "invalid entry \"8\": 0 in ingressQosMap"),
        (r#""master": "wan0", "ingressQosMap": {"x": 0}"#, "invalid entry \"x\": 0 in ingressQosMap"),
        (r#""master": "wan0", "ingressQosMap": {"1": -1}"#, "invalid entry \"1\": -1 in ingressQosMap"),
        (r#""master": "wan0", "egressQosMap": {"1": 8}"#, "invalid entry \"1\": 8 in egressQosMap"),
        (r#""master": "wan0", "detectConflict": {}"#, "detectConflict needs timeoutMs"),
    ] {
        let error = refusal(keys);
        assert_eq!(error.code, 7, "{keys}: {error:?}");
        assert!(error.msg.contains(text), "{keys}: {error:?}");
    }
    let many: Vec<String> = (0..65).map(|from| format!(r#""{from}": 1"#)).collect();
    let error = refusal(&format!(r#""master": "wan0", "egressQosMap": {{{}}}"#, many.join(",")));
    assert!(error.msg.contains("egressQosMap has 65 entries, and 64 are the most"), "{error:?}");
    for keys in
        [r#""master": 5"#, r#""vlanId": "5""#, r#""mtu": "1500""#, r#""gvrp": 1"#, r#""egressQosMap": []"#]
    {
        let error = refusal(keys);
        assert_eq!(error.code, 999, "{keys}: {error:?}");
        assert!(error.msg.starts_with("failed to load netconf: "), "{keys}: {error:?}");
    }
    let error = config(r#""vlanId": 5"#).required_ipam().unwrap_err();
    assert_eq!(error.msg, "failed to execute IPAM delegate: no plugin name provided");
}
