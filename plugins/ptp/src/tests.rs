//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use attach::VethMtu;
use cni::testing::{self, route};
use cni::{AddResult, Error, IpConfig, Request};
use host::Owner;
use netlink::Mac;

use crate::answer::{self, Links};
use crate::config::Config;
use crate::plan::{self, Facts};

fn request_with(keys: &str, args: &str) -> Request {
    testing::add_with("ptp", keys, args)
}

fn config(keys: &str) -> Config {
    Config::of(&request_with(keys, "")).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request_with(keys, "")).unwrap_err()
}

fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
    testing::ip(None, address, gateway)
}

fn ips(ips: Vec<IpConfig>) -> AddResult {
    AddResult { ips, ..AddResult::default() }
}

/// The plan, one piece per line; `result` is as the IPAM plugin or the runtime gives it.
fn plan_of(keys: &str, result: &AddResult) -> String {
    let config = config(keys);
    let owner = Owner::new("net", "c1", "eth0");
    let links = Links {
        host_veth: "veth00000001".into(),
        host_mac: Mac([2, 0, 0, 0, 0, 2]),
        container_mac: config.mac.unwrap_or(Mac([2, 0, 0, 0, 0, 3])),
        netns: "/run/netns/c1".into(),
    };
    let facts = Facts { owner: &owner, links: &links, mtu: config.mtu.and_then(VethMtu::fixed) };
    plan::plan(&config, &facts, result).iter().map(|piece| format!("{piece:?}\n")).collect()
}

fn completed(keys: &str, ipam: AddResult) -> String {
    plan_of(keys, &answer::complete(ipam).unwrap())
}

const IPAM: &str = r#""ipam": {"type": "host-local"}"#;

#[test]
fn a_dual_stack_network_plans_both_ends_and_forwarding() {
    let ipam = AddResult {
        routes: vec![route("0.0.0.0/0"), route("::/0")],
        ..ips(vec![ip("10.1.2.3/24", Some("10.1.2.1")), ip("fd00:1::3/64", Some("fd00:1::1"))])
    };
    testing::golden("ptp", "dual-stack", &completed(&format!(r#""mtu": 1400, {IPAM}"#), ipam));
}

#[test]
fn masquerade_and_fast_path_are_planned_before_the_container_can_send() {
    let ipam = r#""ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "10.1.3.0/24"}]]}"#;
    let keys = format!(r#""ipMasq": true, "fastPath": true, "ipspoofchk": true, {ipam}"#);
    let plan = completed(&keys, ips(vec![ip("10.1.2.3/24", Some("10.1.2.1"))]));
    testing::golden("ptp", "masquerade", &plan);
}

#[test]
fn single_addresses_without_gateways_get_link_local_ones() {
    let ipam = AddResult {
        routes: vec![route("0.0.0.0/0"), route("::/0")],
        ..ips(vec![ip("10.1.2.3/32", None), ip("fd00:1::3/128", None)])
    };
    testing::golden("ptp", "no-gateways", &completed(IPAM, ipam));
}

#[test]
fn a_gateway_and_a_subnet_of_two_addresses_have_one_route_each() {
    let two = [ip("10.1.2.3/24", Some("10.1.2.1")), ip("10.1.2.4/24", Some("10.1.2.1"))];
    let plan = completed(IPAM, ips(two.to_vec()));
    assert_eq!(plan.lines().filter(|line| line.starts_with("Route(")).count(), 2, "{plan}");
    assert_eq!(plan.lines().filter(|line| line.starts_with("OwnAddress(")).count(), 2, "{plan}");
    let given = AddResult { routes: vec![route("10.1.2.0/24")], ..ips(two.to_vec()) };
    let plan = completed(IPAM, given);
    assert_eq!(plan.lines().filter(|line| line.starts_with("Route(")).count(), 2, "{plan}");
}

#[test]
fn an_address_of_another_plugins_interface_is_not_checked() {
    let mut result = answer::complete(ips(vec![ip("10.1.2.3/24", Some("10.1.2.1"))])).unwrap();
    result.ips.push(IpConfig { interface: Some(2), ..ip("192.0.2.1/32", Some("192.0.2.9")) });
    let plan = plan_of(IPAM, &result);
    assert!(plan.contains("10.1.2.3") && !plan.contains("192.0.2"), "{plan}");
}

#[test]
fn a_gateway_that_the_host_cannot_have_is_an_error() {
    for (address, gateway, why) in [
        ("10.1.0.2/24", "fd00::1", "of the other family"),
        ("10.1.0.2/24", "10.1.0.2", "the container's own"),
        ("10.1.0.2/24", "127.0.0.1", "no link can have"),
        ("fd00::2/64", "ff02::1", "no link can have"),
    ] {
        let error = answer::complete(ips(vec![ip(address, Some(gateway))])).unwrap_err();
        assert!(error.msg.contains(why), "{error:?}");
    }
    let error = answer::complete(AddResult::default()).unwrap_err();
    assert_eq!(error.msg, "IPAM plugin returned missing IP config");
}

#[test]
fn errors_name_the_fault_of_the_configuration() {
    let cases = [
        ("", "no plugin name provided".to_owned()),
        (r#""ipam": {}"#, "no plugin name provided".to_owned()),
        (&format!(r#""mtu": 67, {IPAM}"#), "invalid MTU 67".to_owned()),
        (
            &format!(r#""ipMasq": true, "ipMasqBackend": "x", {IPAM}"#),
            r#"unknown ipmasq backend "x""#.to_owned(),
        ),
        (&format!(r#""fastPath": true, {IPAM}"#), "fastPath needs ipMasq".to_owned()),
        (&format!(r#""mac": "zz", {IPAM}"#), "address zz: invalid MAC address".to_owned()),
        (&format!(r#""runtimeConfig": {{"mac": "01:00:5e:00:00:01"}}, {IPAM}"#), "multicast".to_owned()),
    ];
    for (keys, text) in cases {
        let error = refusal(keys);
        assert!(error.code == 7 && error.msg.contains(&text), "{keys}: {error:?}");
    }
    for keys in [r#""mtu": "big""#, r#""ipMasq": 1"#, r#""mac": 5"#] {
        let error = refusal(&format!("{keys}, {IPAM}"));
        assert!(error.code == 999 && error.msg.starts_with("failed to load netconf: "), "{keys}: {error:?}");
    }
}

#[test]
fn the_first_given_mac_address_counts() {
    let args = "IgnoreUnknown=1;MAC=02:00:00:00:00:0c";
    let last = |keys: &str, args: &str| {
        let request = request_with(&format!("{keys}{IPAM}"), args);
        Config::of(&request).unwrap().mac.map(|mac| mac.0[5])
    };
    let of_runtime = r#""runtimeConfig": {"mac": "02:00:00:00:00:0a"}, "#;
    let of_args = r#""args": {"cni": {"mac": "02:00:00:00:00:0b"}}, "#;
    let key = r#""mac": "02:00:00:00:00:0d", "#;
    assert_eq!(last(&format!("{of_runtime}{of_args}{key}"), args), Some(0xa));
    assert_eq!(last(&format!("{of_args}{key}"), args), Some(0xb));
    assert_eq!(last(key, args), Some(0xc));
    assert_eq!(last(key, ""), Some(0xd));
    assert_eq!(last("", ""), None);
}
