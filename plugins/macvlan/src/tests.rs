//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use attach::{Parent, child};
use cni::{AddResult, Error, IpConfig, Request, testing};
use host::Owner;
use host::piece::{HostRoute, OnDemand, OnDemandKind, Place, Shim};
use netlink::Mac;
use netlink::MacvlanMode;

use crate::config::Config;

fn request_with(keys: &str, args: &str) -> Request {
    testing::add_with("macvlan", keys, args)
}

fn config(keys: &str) -> Config {
    Config::of(&request_with(keys, "")).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request_with(keys, "")).unwrap_err()
}

const PARENT: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn parent(carrier: bool) -> Parent {
    Parent {
        name: "wan0".into(),
        place: Place::Host,
        mac: Some(PARENT),
        mtu: 1500,
        carrier,
        down: None,
        on_demand: None,
    }
}

fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
    testing::ip(Some(0), address, gateway)
}

fn dual_stack() -> AddResult {
    AddResult {
        ips: vec![ip("10.1.2.3/24", Some("10.1.2.1")), ip("fd00:1::3/64", None)],
        routes: vec![testing::route("0.0.0.0/0")],
        ..AddResult::default()
    }
}

/// The plan, one piece per line.
fn plan_of(keys: &str, parent: &Parent, result: &AddResult) -> String {
    let owner = Owner::new("net", "c1", "eth0");
    let child = config(keys).child(parent).unwrap();
    let own: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    let plan = child::plan(&child, &owner, parent, result, &own, None);
    plan.iter().map(|piece| format!("{piece:?}\n")).collect()
}

fn golden(name: &str, plan: &str) {
    testing::golden("macvlan", name, plan);
}

const MAC: &str = r#""mac": "02:00:00:00:00:03""#;

#[test]
fn a_dual_stack_network_plans_the_link_its_addresses_and_routes() {
    golden("dual-stack", &plan_of(&format!(r#""mtu": 1400, {MAC}"#), &parent(true), &dual_stack()));
}

#[test]
fn host_access_on_a_vlan_plans_the_vlan_the_shim_and_the_routes() {
    let kind = OnDemandKind::Vlan { base: "wan0".into(), id: 10, mtu: 1500 };
    let on_demand = Some(OnDemand { name: "wan0.10".into(), kind });
    let parent = Parent { name: "wan0.10".into(), on_demand, ..parent(true) };
    let owner = Owner::new("net", "c1", "eth0");
    let keys = format!(r#""vlan": 10, "hostAccess": true, "ipam": {{"type": "host-local"}}, {MAC}"#);
    let child = config(&keys).child(&parent).unwrap();
    let result = dual_stack();
    let own: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    let route =
        |to: &str, source: &str| HostRoute { to: to.parse().unwrap(), source: source.parse().unwrap() };
    let shim = Shim {
        name: "moorh0".into(),
        network: "net".into(),
        parent: "wan0.10".into(),
        kind: child.kind.clone(),
        mac: Some(Mac([2, 0, 0, 0, 0, 4])),
        link_local: Some("fe80::4".parse().unwrap()),
        addresses: vec!["10.9.0.2".parse().unwrap()],
        routes: vec![route("10.1.2.3", "10.9.0.2"), route("fd00:1::3", "fd00:1::1")],
        neighbour: None,
        tag: owner.tag(),
    };
    let plan = child::plan(&child, &owner, &parent, &result, &own, Some(shim));
    golden("vlan-host-access", &plan.iter().map(|piece| format!("{piece:?}\n")).collect::<String>());
}

#[test]
fn a_layer_2_network_only_plans_a_link_that_is_up() {
    // MV-K7: no addresses, no sysctls.
    golden("layer2", &plan_of(MAC, &parent(true), &AddResult::default()));
}

#[test]
fn a_parent_without_carrier_is_not_waited_for() {
    // LK-3: without a carrier, tentative addresses are a success.
    let plan = plan_of(MAC, &parent(false), &dual_stack());
    assert!(plan.contains("Up(") && !plan.contains("Settled("), "{plan}");
}

#[test]
fn duplicate_address_detection_is_the_default() {
    assert!(plan_of(MAC, &parent(true), &dual_stack()).contains("dad: true"));
    let plan = plan_of(&format!(r#""enabledad": false, {MAC}"#), &parent(true), &dual_stack());
    assert!(!plan.contains("dad: true") && !plan.contains("router_solicitation_delay"), "{plan}");
}

#[test]
fn the_default_mode_is_bridge() {
    for (keys, mode) in [
        (r#""mode": """#, MacvlanMode::Bridge),
        (r#""mode": null"#, MacvlanMode::Bridge),
        (r#""mode": "bridge""#, MacvlanMode::Bridge),
        (r#""mode": "private""#, MacvlanMode::Private),
        (r#""MODE": "vepa""#, MacvlanMode::Vepa),
        (r#""mode": "passthru""#, MacvlanMode::Passthru),
        (r#""mode": "source", "sourceMacs": ["02:00:00:00:00:09"]"#, MacvlanMode::Source),
    ] {
        assert_eq!(config(keys).mode, mode, "{keys}");
    }
}

#[test]
fn a_passthru_link_has_its_parents_mac_address() {
    let child = config(&format!(r#""mode": "passthru", {MAC}"#)).child(&parent(true)).unwrap();
    assert_eq!(child.mac, None);
}

#[test]
fn without_a_configured_mac_address_a_random_one_is_used() {
    let mac = || config(r#""mode": "bridge""#).child(&parent(true)).unwrap().mac.unwrap();
    assert_eq!(mac().0[0] & 3, 2, "locally administered, unicast");
    assert_ne!(mac(), mac());
}

#[test]
fn the_first_given_mac_address_counts() {
    // MV-K4: runtimeConfig, then CNI_ARGS, then the configuration.
    let args = "IgnoreUnknown=1;MAC=02-00-00-00-00-0B";
    let last =
        |keys: &str, args: &str| Config::of(&request_with(keys, args)).unwrap().mac.map(|mac| mac.0[5]);
    let keys = r#""mac": "0200.0000.000c", "runtimeConfig": {"mac": "02:00:00:00:00:0a"}"#;
    assert_eq!(last(keys, args), Some(0xa));
    assert_eq!(last(r#""mac": "0200.0000.000c""#, args), Some(0xb));
    assert_eq!(last(r#""mac": "0200.0000.000c", "runtimeConfig": {"mac": ""}"#, ""), Some(0xc));
    assert_eq!(last(r#""mode": "bridge""#, ""), None);
    // C-091.
    let error = Config::of(&request_with(MAC, "mac=02:00:00:00:00:0b")).unwrap_err();
    assert!(error.msg.contains("ARGS: unknown args"), "{error:?}");
}

#[test]
fn the_mtu_must_fit_the_master() {
    let mtu = |keys: &str| config(keys).child(&parent(true)).map(|child| child.mtu);
    for (keys, bytes) in [
        (r#""mtu": 0"#, None),
        (r#""mtu": null"#, None),
        (r#""mtu": 68"#, Some(68)),
        (r#""mtu": 1500"#, Some(1500)),
    ] {
        assert_eq!(mtu(keys).unwrap(), bytes, "{keys}");
    }
    for bytes in ["-1", "67", "1501", "99999999999"] {
        let error = mtu(&format!(r#""mtu": {bytes}"#)).unwrap_err();
        assert_eq!(error.code, 7);
        assert_eq!(error.msg, format!("invalid MTU {bytes}, must be [0, master MTU(1500)]"));
    }
}

#[test]
fn errors_name_the_fault_of_the_configuration() {
    for (keys, text) in [
        (r#""mode": "Bridge""#, r#"unknown macvlan mode: "Bridge""#),
        (r#""mode": "l2""#, "unknown macvlan mode"),
        (r#""mac": "zz""#, "invalid args zz for MAC addr"),
        (r#""mac": "01:00:5e:00:00:01""#, "multicast"),
        (r#""mac": "00:00:00:00:00:00""#, "neither zero"),
        (r#""runtimeConfig": {"mac": "02:00"}"#, "invalid args 02:00 for MAC addr"),
        (r#""mode": "source""#, "mode source needs sourceMacs"),
        (r#""sourceMacs": ["02:00:00:00:00:09"]"#, "sourceMacs is for mode source, not for bridge"),
        (r#""mode": "source", "sourceMacs": ["x"]"#, "invalid args x for MAC addr"),
        (r#""vlan": 0"#, "invalid VLAN ID 0 (must be between 1 and 4094)"),
        (r#""vlan": 4095"#, "invalid VLAN ID 4095 (must be between 1 and 4094)"),
        (r#""vlan": 65546"#, "invalid VLAN ID 65546"),
        (r#""vlan": 5, "linkInContainer": true"#, "a VLAN is made on links of the host"),
        (r#""internal": true, "master": "wan0""#, "an internal network has no master"),
        (r#""internal": true, "vlan": 5"#, "an internal network has no VLAN"),
        (r#""internal": true, "linkInContainer": true"#, "an internal network has none"),
        (r#""hostAccess": true"#, "hostAccess needs ipam"),
        (r#""hostAccess": true, "mode": "private", "ipam": {"type": "x"}"#, "hostAccess needs mode bridge"),
        (r#""hostAccess": true, "linkInContainer": true"#, "hostAccess is for a master of the host"),
        (r#""hostAddresses": ["10.0.0.1"]"#, "hostAddresses needs hostAccess"),
        (r#""hostAccess": true, "hostAddresses": ["10.0.0.1/24"]"#, "without a prefix length"),
        (r#""hostAccess": true, "hostAddresses": ["0.0.0.0"]"#, "invalid address \"0.0.0.0\""),
    ] {
        let error = refusal(keys);
        assert_eq!(error.code, 7, "{keys}: {error:?}");
        assert!(error.msg.contains(text), "{keys}: {error:?}");
    }
    for keys in [
        r#""master": 5"#,
        r#""mtu": "1500""#,
        r#""mtu": 1.5"#,
        r#""bcqueuelen": -1"#,
        r#""linkInContainer": "yes""#,
        r#""vlan": "x""#,
        r#""internal": 1"#,
        r#""hostAddresses": "10.0.0.1""#,
    ] {
        let error = refusal(keys);
        assert_eq!(error.code, 999, "{keys}: {error:?}");
        assert!(error.msg.starts_with("failed to load netconf: "), "{keys}: {error:?}");
    }
}
