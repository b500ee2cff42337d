//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use attach::{Parent, child};
use cni::{AddResult, Interface, Request, testing};
use host::Owner;
use host::piece::{Piece, Place};
use netlink::{IpvlanFlag, IpvlanMode, Mac};

use crate::config::Config;
use attach::child::Addresses;

fn request(keys: &str) -> Request {
    // MAC is never looked at: ipvlan has no MAC address of its own.
    testing::add_with("ipvlan", keys, "MAC=02:00:00:00:00:09")
}

fn config(keys: &str) -> Config {
    Config::of(&request(keys)).unwrap()
}

fn parent() -> Parent {
    let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    Parent {
        name: "wan0".into(),
        place: Place::Host,
        mac,
        mtu: 1500,
        carrier: true,
        down: None,
        on_demand: None,
    }
}

fn addresses() -> AddResult {
    let ip = |address| testing::ip(Some(0), address, None);
    AddResult { ips: vec![ip("10.1.2.3/24"), ip("fd00:1::3/64")], ..AddResult::default() }
}

fn golden(name: &str, plan: &str) {
    testing::golden("ipvlan", name, plan);
}

#[test]
fn an_l3_network_plans_the_link_and_its_addresses() {
    let owner = Owner::new("net", "c1", "eth0");
    let child = config(r#""mode": "l3", "flag": "vepa", "mtu": 1400"#).child(&parent()).unwrap();
    let result = addresses();
    let own: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    let plan = child::plan(&child, &owner, &parent(), &result, &own, None);
    golden("l3", &plan.iter().map(|piece| format!("{piece:?}\n")).collect::<String>());
}

#[test]
fn a_routed_network_without_routes_has_default_routes_on_the_link() {
    // l3 and l3s do not resolve neighbours, so no gateway is needed.
    let owner = Owner::new("net", "c1", "eth0");
    let defaults = |keys: &str, result: &AddResult| {
        let child = config(keys).child(&parent()).unwrap();
        let own: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
        let plan = child::plan(&child, &owner, &parent(), result, &own, None);
        let routes = plan.into_iter().filter_map(|piece| match piece {
            Piece::Route(route) => Some((route.route.dst.to_string(), route.route.gateway)),
            _ => None,
        });
        routes.collect::<Vec<_>>()
    };
    let both = vec![("0.0.0.0/0".to_owned(), None), ("::/0".to_owned(), None)];
    for (keys, expected) in [
        (r#""mode": "l3""#, both.clone()),
        (r#""mode": "l3s""#, both.clone()),
        (r#""mode": "l2""#, vec![]),
        (r#""mode": "l3", "defaultRoute": false"#, vec![]),
        (r#""mode": "l3", "internal": true"#, vec![]),
    ] {
        assert_eq!(defaults(keys, &addresses()), expected, "{keys}");
    }
    let mut result = addresses();
    result.routes.push(testing::route("10.0.0.0/8"));
    // A family with a route of its own gets no default route.
    let expected = vec![("10.0.0.0/8".to_owned(), None), ("::/0".to_owned(), None)];
    assert_eq!(defaults(r#""mode": "l3""#, &result), expected);
}

#[test]
fn mode_and_flag_have_defaults() {
    // IV-K2, IV-R1.
    for (keys, mode, flag) in [
        (r#""mode": """#, IpvlanMode::L2, IpvlanFlag::Bridge),
        (r#""mode": "l2", "flag": null"#, IpvlanMode::L2, IpvlanFlag::Bridge),
        (r#""mode": "l3", "flag": "private""#, IpvlanMode::L3, IpvlanFlag::Private),
        (r#""mode": "l3s", "flag": "vepa""#, IpvlanMode::L3s, IpvlanFlag::Vepa),
    ] {
        let config = config(keys);
        assert_eq!((config.ipvlan.mode, config.ipvlan.flag), (mode, flag), "{keys}");
    }
}

#[test]
fn the_master_is_configured_or_the_chains_only_interface_or_the_default_routes_link() {
    // IV-K1.
    let named = |name: &str| Interface { name: name.into(), ..Interface::default() };
    let with = |interfaces: Vec<Interface>| AddResult { interfaces, ..AddResult::default() };
    let named_master = config(r#""master": "wan0""#);
    let name = |config: &Config, previous: Option<AddResult>| config.master(previous.as_ref()).unwrap().name;
    assert_eq!(name(&named_master, Some(with(vec![]))).as_deref(), Some("wan0"));
    let unnamed = config(r#""master": """#);
    assert_eq!(name(&unnamed, None), None);
    assert_eq!(name(&unnamed, Some(with(vec![named("bond0")]))).as_deref(), Some("bond0"));
    for interfaces in [vec![], vec![named("")], vec![named("a"), named("b")]] {
        let error = unnamed.master(Some(&with(interfaces))).unwrap_err();
        assert_eq!(error.msg, "chained master failure. PrevResult lacks a single named interface");
    }
}

#[test]
fn addresses_come_from_ipam_or_the_chain() {
    // IV-2.
    let ipam = config(r#""ipam": {"type": "host-local"}"#);
    assert_eq!(ipam.addresses(Some(addresses())).unwrap(), Addresses::Ipam("host-local".into()));
    let chained = config(r#""ipam": {}"#);
    assert_eq!(chained.addresses(Some(addresses())).unwrap(), Addresses::Known(Box::new(addresses())));
    for previous in [None, Some(AddResult::default())] {
        assert_eq!(chained.addresses(previous).unwrap_err().msg, "no plugin name provided");
    }
}

#[test]
fn the_mtu_must_fit_the_master_and_a_negative_one_is_ignored() {
    let mtu = |keys: &str| config(keys).child(&parent()).map(|child| child.mtu);
    for (keys, bytes) in [(r#""mtu": 0"#, None), (r#""mtu": -5"#, None), (r#""mtu": 1500"#, Some(1500))] {
        assert_eq!(mtu(keys).unwrap(), bytes, "{keys}");
    }
    let error = mtu(r#""mtu": 1501"#).unwrap_err();
    assert_eq!((error.code, error.msg.as_str()), (7, "invalid MTU 1501, must be [0, master MTU(1500)]"));
}

#[test]
fn errors_name_the_fault_of_the_configuration() {
    for (keys, code, text) in [
        (r#""mode": "L2""#, 7, r#"unknown ipvlan mode: "L2""#),
        (r#""mode": "bridge""#, 7, r#"unknown ipvlan mode: "bridge""#),
        (r#""flag": "open""#, 7, r#"unknown ipvlan flag: "open""#),
        (r#""flag": "vepa", "hostAccess": true"#, 7, "hostAccess needs flag bridge"),
        (r#""vlan": 4095"#, 7, "invalid VLAN ID 4095"),
        (r#""master": 5"#, 999, "failed to load netconf: "),
        (r#""mtu": "1500""#, 999, "failed to load netconf: "),
    ] {
        let error = Config::of(&request(keys)).unwrap_err();
        assert_eq!(error.code, code, "{keys}: {error:?}");
        assert!(error.msg.starts_with(text), "{keys}: {error:?}");
    }
}
