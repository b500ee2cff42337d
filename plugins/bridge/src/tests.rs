//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use attach::{Masquerading, VethMtu};
use cni::testing::{self, route};
use cni::{AddResult, Error, IpConfig, Request, Route};
use host::Owner;
use netlink::Mac;

use crate::answer::{self, Links};
use crate::config::Config;
use crate::plan::{self, Facts};

fn request(keys: &str) -> Request {
    request_with(keys, "")
}

fn request_with(keys: &str, args: &str) -> Request {
    testing::add_with("bridge", keys, args)
}

fn config(keys: &str) -> Config {
    Config::of(&request(keys)).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request(keys)).unwrap_err()
}

fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
    testing::ip(None, address, gateway)
}

fn dual_stack() -> AddResult {
    AddResult {
        ips: vec![ip("10.1.2.3/24", Some("10.1.2.1")), ip("fd00:1::3/64", None)],
        routes: vec![route("10.9.0.0/16")],
        ..AddResult::default()
    }
}

/// The plan, one piece per line.
fn plan_of(keys: &str, ipam: AddResult) -> String {
    let config = config(keys);
    let owner = Owner::new("net", "c1", "eth0");
    let links = Links {
        bridge_mac: Mac([2, 0, 0, 0, 0, 1]),
        host_veth: "veth00000001".into(),
        host_mac: Mac([2, 0, 0, 0, 0, 2]),
        ifname: "eth0".into(),
        container_mac: config.mac.unwrap_or(Mac([2, 0, 0, 0, 0, 3])),
        netns: "/run/netns/c1".into(),
        vlan_mac: None,
    };
    let result = match config.ipam {
        Some(_) => answer::complete(&config, ipam).unwrap(),
        None => ipam,
    };
    let mtu = config.mtu.and_then(VethMtu::fixed);
    let facts = Facts { owner: &owner, links: &links, mtu, vlan_port: "veth00000002".into() };
    let pieces = plan::plan(&config, &facts, &result);
    let announcement = plan::announcement(&config, &facts, &result);
    pieces.iter().chain(&announcement).map(|piece| format!("{piece:?}\n")).collect()
}

fn golden(name: &str, plan: &str) {
    testing::golden("bridge", name, plan);
}

const IPAM: &str = r#""ipam": {"type": "host-local"}"#;

#[test]
fn a_dual_stack_gateway_network_plans_addresses_routes_and_forwarding() {
    golden("gateway-dual-stack", &plan_of(&format!(r#""isDefaultGateway": true, {IPAM}"#), dual_stack()));
}

#[test]
fn a_layer_2_network_only_plans_links() {
    golden("layer2", &plan_of(r#""bridge": "br0", "mtu": 1400, "hairpinMode": true"#, AddResult::default()));
}

#[test]
fn a_disabled_container_interface_is_neither_set_up_nor_waited_for() {
    let plan = plan_of(r#""disableContainerInterface": true"#, AddResult::default());
    assert!(!plan.contains("Up(") && !plan.contains("Forwarding("), "{plan}");
}

#[test]
fn a_vlan_network_puts_the_gateway_on_the_vlan_interface() {
    let keys = format!(
        r#""vlan": 100, "vlanTrunk": [{{"minID": 200, "maxID": 202}}, {{"id": 204}}], "isGateway": true, {IPAM}"#
    );
    golden("vlan-gateway", &plan_of(&keys, dual_stack()));
}

#[test]
fn duplicate_address_detection_is_optional() {
    let plan = plan_of(&format!(r#""enabledad": true, {IPAM}"#), dual_stack());
    assert!(plan.contains("dad: true"), "{plan}");
    let plan = plan_of(IPAM, dual_stack());
    assert!(!plan.contains("dad: true"), "{plan}");
}

#[test]
fn a_default_route_without_a_gateway_is_not_added_twice() {
    // BR-B1: the reference fails with "file exists".
    let ipam = AddResult { routes: vec![route("0.0.0.0/0")], ..dual_stack() };
    let plan = plan_of(&format!(r#""isDefaultGateway": true, {IPAM}"#), ipam);
    assert_eq!(plan.matches("V4(Ipv4Network { addr: 0.0.0.0, prefix: 0 })").count(), 1, "{plan}");
}

#[test]
fn a_route_of_link_scope_gets_no_gateway() {
    // A route of link scope has no gateway: the reference fails with "network is unreachable".
    let ipam = AddResult { routes: vec![Route { scope: Some(253), ..route("10.9.0.0/16") }], ..dual_stack() };
    let plan = plan_of(IPAM, ipam);
    let line = plan.lines().find(|line| line.starts_with("Route(")).unwrap();
    assert!(line.contains("gateway: None") && line.contains("scope: 253"), "{line}");
}

#[test]
fn route_attributes_reach_the_plan() {
    let wished = Route { mtu: 1400, advmss: 1360, priority: 7, table: Some(100), ..route("10.9.1.1/16") };
    let plan = plan_of(IPAM, AddResult { routes: vec![wished], ..dual_stack() });
    let line = plan.lines().find(|line| line.starts_with("Route(")).unwrap();
    for part in ["mtu: Some(1400)", "advmss: Some(1360)", "priority: Some(7)", "table: 100", "addr: 10.9.0.0"]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[test]
fn two_ranges_of_one_family_have_two_gateways() {
    let ipam = AddResult {
        ips: vec![ip("10.1.0.2/24", Some("10.1.0.1")), ip("10.2.0.2/24", Some("10.2.0.1"))],
        ..AddResult::default()
    };
    let plan = plan_of(&format!(r#""isDefaultGateway": true, {IPAM}"#), ipam);
    let gateways = plan.lines().find(|line| line.starts_with("Gateways(")).unwrap();
    assert!(gateways.contains("10.1.0.1") && gateways.contains("10.2.0.1"), "{gateways}");
    assert_eq!(plan.matches("prefix: 0 }").count(), 1, "one default route a family: {plan}");
}

#[test]
fn an_address_of_another_plugins_interface_is_not_checked() {
    // C-043: CHECK tolerates later chain members' edits.
    let config = config(IPAM);
    let mut result = answer::complete(&config, dual_stack()).unwrap();
    result.ips.push(IpConfig { interface: Some(3), ..ip("192.0.2.1/32", None) });
    let owner = Owner::new("net", "c1", "eth0");
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let links = Links {
        bridge_mac: mac,
        host_veth: "veth00000001".into(),
        host_mac: mac,
        ifname: "eth0".into(),
        container_mac: mac,
        netns: "/run/netns/c1".into(),
        vlan_mac: None,
    };
    let facts = Facts { owner: &owner, links: &links, mtu: None, vlan_port: String::new() };
    let announcement = plan::announcement(&config, &facts, &result);
    let plan = format!("{:?} {announcement:?}", plan::plan(&config, &facts, &result));
    assert!(plan.contains("10.1.2.3") && !plan.contains("192.0.2.1"), "{plan}");
}

/// They come before the container's link is up (BR-R13). All subnets of the network are inside
/// (BR-R15), in an order that does not depend on that of the addresses.
#[test]
fn masquerade_and_mac_filter_are_planned_before_the_container_can_send() {
    let ipam = r#""ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "10.1.3.0/24"}], [{"subnet": "fd00:1::/64"}]]}"#;
    let plan =
        plan_of(&format!(r#""isGateway": true, "ipMasq": true, "macspoofchk": true, {ipam}"#), dual_stack());
    golden("masquerade", &plan);
}

/// FP-1: the container's port, with the addresses that are masqueraded.
#[test]
fn a_fast_path_is_planned_after_the_masquerade() {
    let plan =
        plan_of(&format!(r#""isGateway": true, "ipMasq": true, "fastPath": true, {IPAM}"#), dual_stack());
    golden("fast-path", &plan);
    let error = refusal(&format!(r#""fastPath": true, {IPAM}"#));
    assert!(error.code == 7 && error.msg.contains("ipMasq"), "{error:?}");
}

#[test]
fn without_ipam_nothing_is_masqueraded() {
    let config = config(r#""ipMasq": true, "ipMasqBackend": "iptables""#);
    assert!(config.outside.masquerade == Masquerading::No && !config.outside.needs_rules());
}

#[test]
fn an_unknown_back_end_is_refused() {
    let with = |backend: &str| format!(r#""ipMasq": true, "ipMasqBackend": {backend}, {IPAM}"#);
    for backend in ["null", r#""""#, r#""nftables""#] {
        assert_eq!(config(&with(backend)).outside.masquerade, Masquerading::NfTables, "{backend}");
    }
    assert_eq!(config(&with(r#""iptables""#)).outside.masquerade, Masquerading::Iptables);
    let error = refusal(&with(r#""x""#));
    assert_eq!((error.code, error.msg.as_str()), (7, r#"unknown ipmasq backend "x""#));
    assert_eq!(refusal(&with("1")).code, 999);
    // Like the reference, this ignores a key that is not used.
    assert_eq!(config(&format!(r#""ipMasqBackend": "x", {IPAM}"#)).outside.masquerade, Masquerading::No);
}

#[test]
fn errors_name_the_fault_of_the_configuration() {
    let cases = [
        (r#""bridge": """#, "LinkAttrs.Name cannot be empty"),
        (r#""bridge": "../../etc/x""#, "invalid bridge name"),
        (r#""bridge": "a23456789012345x""#, "invalid bridge name"),
        (r#""bridge": "br\n0""#, "invalid bridge name"),
        (r#""bridge": "br%d""#, "invalid bridge name"),
        (r#""vlan": 5000"#, "invalid VLAN ID 5000 (must be between 0 and 4094)"),
        (r#""vlan": -1"#, "invalid VLAN ID -1 (must be between 0 and 4094)"),
        (r#""vlanTrunk": [{"minID": 1}]"#, "maxID is missing"),
        (r#""vlanTrunk": [{"maxID": 1}]"#, "minID is missing"),
        (r#""vlanTrunk": [{"minID": 0, "maxID": 5}]"#, "incorrect trunk minID parameter"),
        (r#""vlanTrunk": [{"minID": 1, "maxID": 4095}]"#, "incorrect trunk maxID parameter"),
        (r#""vlanTrunk": [{"minID": 9, "maxID": 5}]"#, "minID is greater than maxID in trunk parameter"),
        (r#""vlanTrunk": [{"id": 4095}]"#, "incorrect trunk id parameter"),
        (r#""hairpinMode": true, "promiscMode": true"#, "hairpin mode and promiscuous mode at the same time"),
        (r#""disableContainerInterface": true, "ipam": {"type": "x"}"#, "cannot use IPAM when"),
        (r#""mtu": 67"#, "invalid MTU 67"),
        (r#""mtu": 65536"#, "invalid MTU 65536"),
        (r#""runtimeConfig": {"mac": "zz"}"#, "address zz: invalid MAC address"),
        (r#""runtimeConfig": {"mac": "01:00:5e:00:00:01"}"#, "multicast"),
        (
            r#""bridge": "a2345678901", "vlan": 4000, "isGateway": true, "ipam": {"type": "x"}"#,
            "longer than 15 bytes",
        ),
    ];
    for (keys, text) in cases {
        let error = refusal(keys);
        assert!(error.msg.contains(text), "{keys}: {error:?}");
    }
    for keys in [r#""mtu": "big""#, r#""mtu": 1400.5"#, r#""mtu": [1]"#, r#""bridge": 5"#, r#""vlan": "7""#] {
        let error = refusal(keys);
        assert_eq!(error.code, 999, "{keys}: {error:?}");
        assert!(error.msg.starts_with("failed to load netconf: "), "{keys}: {error:?}");
    }
}

#[test]
fn the_mtu_is_a_number_or_auto_or_the_kernels_default() {
    assert_eq!(config(r#""mtu": 9000"#).mtu, Some(VethMtu::Bytes(9000)));
    assert_eq!(config(r#""mtu": "auto""#).mtu, Some(VethMtu::Auto));
    for keys in [r#""mtu": 0"#, r#""mtu": -5"#, r#""mtu": null"#, r#""bridge": "b""#] {
        assert_eq!(config(keys).mtu, None);
    }
}

#[test]
fn the_first_given_mac_address_counts() {
    // C-101: runtimeConfig, then args.cni, then CNI_ARGS.
    let args = "IgnoreUnknown=1;MAC=02:00:00:00:00:0c";
    let last = |keys: &str| Config::of(&request_with(keys, args)).unwrap().mac.map(|mac| mac.0[5]);
    let both =
        r#""runtimeConfig": {"mac": "02:00:00:00:00:0a"}, "args": {"cni": {"mac": "02:00:00:00:00:0b"}}"#;
    assert_eq!(last(both), Some(0xa));
    assert_eq!(last(r#""args": {"cni": {"mac": "02:00:00:00:00:0b"}}"#), Some(0xb));
    assert_eq!(last(r#""runtimeConfig": {"mac": ""}"#), Some(0xc));
    assert_eq!(config(r#""bridge": "b""#).mac, None);
}

#[test]
fn an_empty_trunk_only_switches_vlan_filtering_on() {
    let config = config(r#""vlanTrunk": []"#);
    assert!(config.vlan_filtering());
    assert!(plan_of(r#""vlanTrunk": []"#, AddResult::default()).contains("vlans: None"));
}

#[test]
fn gateways_of_the_ipam_section_are_known() {
    let config = config(
        r#""ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.2.0.0/24", "gateway": "10.2.0.9"}]]}"#,
    );
    let known: Vec<String> = config.ipam_gateways.iter().map(ToString::to_string).collect();
    assert_eq!(known, ["10.1.0.1/24", "10.2.0.9/24"]);
}

#[test]
fn an_ipam_result_without_addresses_is_an_error() {
    let error = answer::complete(&config(IPAM), AddResult::default()).unwrap_err();
    assert_eq!(error.msg, "IPAM plugin returned missing IP config");
}

#[test]
fn a_gateway_of_the_other_family_is_an_error() {
    let ipam = AddResult { ips: vec![ip("10.1.0.2/24", Some("fd00::1"))], ..AddResult::default() };
    assert!(answer::complete(&config(IPAM), ipam).unwrap_err().msg.contains("other family"));
}
