//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use std::net::IpAddr;

use cni::testing::{self, route};
use cni::{AddResult, Error, Request};
use host::Owner;
use netlink::Mac;

use crate::answer::{self, Links};
use crate::config::Config;
use crate::plan::{self, Facts};

const IPAM: &str = r#""ipam": {"type": "cluster", "subnets": ["10.9.0.0/16", "fd00:9::/64"]}"#;

fn request(keys: &str) -> Request {
    testing::add_with("overlay", keys, "")
}

fn config(keys: &str) -> Config {
    Config::of(&request(keys)).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request(keys)).unwrap_err()
}

fn dual_stack() -> AddResult {
    let ips = vec![
        testing::ip(None, "10.9.0.66/16", Some("10.9.0.1")),
        testing::ip(None, "fd00:9::42/64", Some("fd00:9::1")),
    ];
    AddResult { ips, ..AddResult::default() }
}

fn links() -> Links {
    Links {
        bridge: "mo0123456789".into(),
        bridge_mac: Mac([2, 0x6d, 10, 9, 0, 65]),
        host_veth: "veth00000001".into(),
        host_mac: Mac([2, 0, 0, 0, 0, 2]),
        ifname: "eth0".into(),
        container_mac: Mac([2, 0x6d, 10, 9, 0, 66]),
        netns: "/run/netns/c1".into(),
        mtu: 1450,
    }
}

/// The plan, one piece per line.
fn plan_of(keys: &str) -> String {
    let config = config(keys);
    let (owner, links) = (Owner::new("net", "c1", "eth0"), links());
    let mut net = config.want.clone();
    (net.vni, net.mtu) = (Some(0x6d_0001), Some(1450));
    let own: [IpAddr; 2] = ["10.9.0.65".parse().unwrap(), "fd00:9::41".parse().unwrap()];
    let local = "192.0.2.11".parse().unwrap();
    let facts = Facts { owner: &owner, links: &links, net: &net, own: &own, local, port: 4789 };
    let result = answer::complete(&config, &net, dual_stack()).unwrap();
    let announcement = plan::announcement(&facts, &result);
    let pieces = plan::plan(&config, &facts, &result);
    pieces.iter().chain([&announcement]).map(|piece| format!("{piece:?}\n")).collect()
}

fn golden(name: &str, plan: &str) {
    testing::golden("overlay", name, plan);
}

#[test]
fn a_network_plans_guard_links_addresses_filters_and_masquerade() {
    golden("usual", &plan_of(IPAM));
}

#[test]
fn an_internal_network_plans_no_way_out() {
    let plan = plan_of(&format!(r#""internal": true, {IPAM}"#));
    assert!(!plan.contains("Masquerade(") && !plan.contains("0.0.0.0/0") && !plan.contains("ip_forward"));
    golden("internal", &plan);
}

#[test]
fn an_unchecked_port_with_hairpin_plans_no_filter() {
    let plan = plan_of(&format!(r#""macspoofchk": false, "hairpinMode": true, "ipMasq": false, {IPAM}"#));
    assert!(!plan.contains("MacFilter") && !plan.contains("AddressFilter"), "{plan}");
    golden("unchecked", &plan);
}

#[test]
fn the_record_that_is_wanted_follows_from_the_configuration() {
    let want = config(&format!(r#""mtu": "auto", "multicast": true, {IPAM}"#)).want;
    let gateways: Vec<String> = want.gateways.iter().map(ToString::to_string).collect();
    assert_eq!(gateways, ["10.9.0.1", "fd00:9::1"]);
    assert_eq!((want.vni, want.mtu, want.block_size, want.multicast), (Some(0), Some(0), 64, true));
    let ipam =
        r#""ipam": {"type": "cluster", "subnets": ["10.9.0.0/24"], "gateway": "10.9.0.254", "blockSize": 4}"#;
    let want = config(&format!(r#""mtu": 1400, {ipam}"#)).want;
    assert_eq!((want.mtu, want.block_size), (Some(1400), 4));
    assert_eq!(want.gateways, ["10.9.0.254".parse::<IpAddr>().unwrap()]);
    let foreign = r#""foreignIpam": true, "ipam": {"type": "host-local", "subnet": "10.9.0.0/16"}"#;
    assert_eq!(config(foreign).want.subnets, ["10.9.0.0/16".parse().unwrap()]);
}

#[test]
fn a_result_gets_the_networks_gateways_and_default_routes() {
    let of = |keys: &str| {
        let config = config(&format!("{keys}{IPAM}"));
        let mut result = dual_stack();
        result.ips.iter_mut().for_each(|ip| ip.gateway = None);
        result.routes = vec![route("10.8.0.0/16")];
        let result = answer::complete(&config, &config.want, result).unwrap();
        assert!(result.ips.iter().all(|ip| ip.gateway.is_some() && ip.interface == Some(2)));
        let old = answer::with_links(result.clone(), &config, &links(), false);
        let result = answer::with_links(result, &config, &links(), true);
        for (result, mtu) in [(&old, None), (&result, Some(1450))] {
            assert_eq!(result.interfaces.iter().map(|link| link.mtu).collect::<Vec<_>>(), [mtu; 3]);
        }
        result.routes.iter().map(|route| route.dst.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(""), ["10.8.0.0/16", "0.0.0.0/0", "::/0"]);
    assert_eq!(of(r#""isDefaultGateway": false, "#), ["10.8.0.0/16"]);
    assert_eq!(of(r#""internal": true, "#), ["10.8.0.0/16"]);
    let error = answer::complete(&config(IPAM), &config(IPAM).want, AddResult::default()).unwrap_err();
    assert!(error.msg.contains("missing IP config"), "{}", error.msg);
}

/// O-095: each has its code, and a text that names the key and the value.
#[test]
fn a_faulty_key_is_refused_by_its_name() {
    let with = |keys: &str| format!("{keys}, {IPAM}");
    let ipam = |keys: &str| format!(r#""ipam": {{"type": "cluster", {keys}}}"#);
    let cases = [
        (with(r#""encrypted": true"#), 2, "encrypted"),
        (with(r#""cluster": "etc/cluster.json""#), 7, "etc/cluster.json"),
        (with(r#""mtu": 1279"#), 7, "1279"),
        (with(r#""mtu": 65486"#), 7, "65486"),
        (with(r#""internal": true, "ipMasq": true"#), 7, "ipMasq"),
        (with(r#""internal": true, "isDefaultGateway": true"#), 7, "isDefaultGateway"),
        (with(r#""disableContainerInterface": true"#), 7, "DisableContainerInterface"),
        (with(r#""args": {"cni": {"mac": "01:00:00:00:00:01"}}"#), 7, "01:00:00:00:00:01"),
        (with(r#""args": {"cni": {"names": ["a b"]}}"#), 7, "a b"),
        (with(r#""invalidNames": "ignore""#), 7, "ignore"),
        (r#""ipam": {}"#.into(), 7, "cluster"),
        (r#""ipam": {"type": "host-local", "subnet": "10.9.0.0/16"}"#.into(), 7, "host-local"),
        (r#""foreignIpam": true, "ipam": {"type": "dhcp"}"#.into(), 7, "foreignIpam"),
        (ipam(r#""subnets": []"#), 7, "subnets"),
        (ipam(r#""subnets": ["10.9.0.1/16"]"#), 7, "10.9.0.0/16"),
        (ipam(r#""subnets": ["10.9.0.0/7"]"#), 7, "subnets"),
        (ipam(r#""subnets": ["10.9.0.0/16", "10.8.0.0/16"]"#), 7, "subnets"),
        (ipam(r#""subnets": ["front"]"#), 7, "front"),
        (ipam(r#""subnets": ["10.9.0.0/16"], "gateway": "10.8.0.1""#), 7, "10.8.0.1"),
        (ipam(r#""subnets": ["10.9.0.0/16"], "blockSize": 5"#), 7, "blockSize"),
    ];
    for (keys, code, text) in cases {
        let error = refusal(&keys);
        assert_eq!(error.code, code, "{keys}: {}", error.msg);
        assert!(error.msg.contains(text), "{keys}: {}", error.msg);
    }
    assert_eq!(config(&format!(r#""services": false, {IPAM}"#)).names, ["c1"]);
}
