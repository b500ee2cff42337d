//! Plans against golden files; no root, no kernel.

use cni::{AddResult, Error, Interface, testing};
use host::Owner;
use host::piece::Piece;

use crate::config::Config;
use crate::facts::Facts;
use crate::{container, plan};

const PORTS: &str = r#""runtimeConfig": {"portMappings": [
    {"hostPort": 8080, "containerPort": 80},
    {"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000, "protocol": "udp"},
    {"hostPort": 53, "containerPort": 5353, "hostIP": "192.0.2.1"}]}"#;

/// A container behind a bridge, with an address of each family.
fn result() -> AddResult {
    let link = |name: &str, sandbox: Option<&str>| Interface {
        name: name.into(),
        sandbox: sandbox.map(str::to_owned),
        ..Interface::default()
    };
    let ip = |address| testing::ip(Some(2), address, None);
    AddResult {
        interfaces: vec![link("br0", None), link("veth1", None), link("eth0", Some("/run/netns/c1"))],
        ips: vec![ip("10.1.2.3/24"), ip("fd00:1::3/64")],
        ..AddResult::default()
    }
}

fn facts() -> Facts {
    Facts { links: vec![Some("br0".into()), None], ..Facts::default() }
}

fn plan(keys: &str, ports: &[u16], facts: &Facts) -> Result<Vec<Piece>, Error> {
    let config = Config::of(&testing::add_with("portmap", keys, "")).unwrap();
    let owner = Owner::new("net", "c1", "eth0");
    let free = config.wanted.iter().filter(|wanted| wanted.is_free());
    let chosen: Vec<_> = free.zip(ports).map(|(wanted, port)| wanted.at_port(*port)).collect();
    plan::plan(&*config.settled(&chosen)?, &owner, &result(), &chosen, facts)
}

/// The plan: a line for each piece, followed by one for each address and chain.
fn plan_of(keys: &str, ports: &[u16], facts: &Facts) -> String {
    let plan = plan(keys, ports, facts).unwrap();
    let text: String = plan.iter().map(|piece| format!("{piece:?}\n")).collect();
    text.replace(" Container {", "\n  Container {")
        .replace(" Ports {", "\n  Ports {")
        .replace("[Container", "[\n  Container")
        .replace("[Ports", "[\n  Ports")
}

fn golden(name: &str, plan: &str) {
    testing::golden("portmap", name, plan);
}

#[test]
fn ports_of_both_families_are_published_by_nf_tables() {
    golden("dual-stack", &plan_of(PORTS, &[], &facts()));
}

#[test]
fn a_chosen_port_is_published_and_remembered_with_its_conditions() {
    let keys = r#""conditionsV4": ["ip saddr 10.0.0.0/8"],
        "runtimeConfig": {"portMappings": [{"hostPort": 0, "containerPort": 80, "hostIP": "0.0.0.0"}]}"#;
    golden("free-port", &plan_of(keys, &[49_152], &facts()));
}

/// FP-1.
#[test]
fn a_fast_path_comes_after_the_ports() {
    golden("fast-path", &plan_of(&format!(r#""fastPath": true, {PORTS}"#), &[], &facts()));
}

#[test]
fn ports_in_iptables_are_published_by_a_chain_of_each_family() {
    let facts = Facts { chain: Some("CNI-DN-1".into()), ..facts() };
    golden("iptables", &plan_of(&format!(r#""backend": "iptables", {PORTS}"#), &[], &facts));
}

#[test]
fn without_masquerade_no_port_of_a_bridge_sends_frames_back() {
    let plan = plan(&format!(r#""snat": false, {PORTS}"#), &[], &facts()).unwrap();
    assert!(matches!(plan.as_slice(), [Piece::Published(_)]), "{plan:?}");
}

#[test]
fn a_host_address_of_a_family_that_the_container_lacks_is_refused() {
    let v6 = r#""runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "2001:db8::1"}]}"#;
    let config = Config::of(&testing::add_with("portmap", v6, "")).unwrap();
    let result = AddResult { ips: vec![testing::ip(None, "10.1.2.3/24", None)], ..AddResult::default() };
    let error = container::published_at(&config, &result, "eth0").unwrap_err();
    let expected = "hostIP 2001:db8::1: the container has no IPv6 address that it could lead to";
    assert_eq!((error.code, error.msg.as_str()), (7, expected));
}

#[test]
fn without_ports_for_the_containers_families_nothing_is_planned() {
    let v6 = r#""runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "::"}]}"#;
    let config = Config::of(&testing::add_with("portmap", v6, "")).unwrap();
    let result = AddResult { ips: vec![testing::ip(None, "10.1.2.3/24", None)], ..AddResult::default() };
    assert!(container::published_at(&config, &result, "eth0").unwrap().is_empty());
}
