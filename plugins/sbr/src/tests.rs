//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use cni::{AddResult, Error, Interface, testing};
use host::piece::Table;

use crate::config::{Config, table_of};
use crate::plan::plan;

fn link(name: &str, sandbox: Option<&str>) -> Interface {
    Interface { name: name.into(), sandbox: sandbox.map(str::to_owned), ..Interface::default() }
}

/// A bridge of the host, the container's link with an address of each family, and another link.
fn result() -> AddResult {
    let sandbox = Some("/run/netns/c1");
    AddResult {
        interfaces: vec![link("br0", None), link("eth0", sandbox), link("eth1", sandbox), link("eth0", None)],
        ips: vec![
            testing::ip(Some(1), "10.1.2.3/24", Some("10.1.2.1")),
            testing::ip(Some(2), "10.9.2.3/24", Some("10.9.2.1")),
            testing::ip(Some(3), "10.8.2.3/24", None),
            testing::ip(None, "fd00:1::3/64", None),
            testing::ip(Some(9), "fd00:2::3/64", Some("fd00:2::1")),
            testing::ip(Some(1), "10.1.2.3/16", None),
        ],
        ..AddResult::default()
    }
}

fn golden(name: &str, keys: &str) {
    let request = testing::add_with("sbr", keys, "");
    let plan = plan(&Config::of(&request).unwrap(), &request, &result()).unwrap();
    testing::golden("sbr", name, &format!("{plan:?}\n"));
}

fn refusal(keys: &str) -> Error {
    Config::of(&testing::add_with("sbr", keys, "")).unwrap_err()
}

#[test]
fn each_address_of_the_link_is_a_source() {
    golden("dual-stack", "");
}

#[test]
fn configured_gateways_replace_those_of_the_result() {
    golden(
        "every-key",
        r#""gateways": ["10.1.2.9", "fd00::9"], "addSourceHints": true, "table": 4000000000"#,
    );
}

#[test]
fn a_result_without_an_address_of_the_link_is_refused() {
    let request = testing::add_with("sbr", "", "");
    let config = Config::of(&request).unwrap();
    let other = AddResult { ips: vec![testing::ip(Some(2), "10.9.2.3/24", None)], ..result() };
    for result in [AddResult::default(), other] {
        let error = plan(&config, &request, &result).unwrap_err();
        assert_eq!(error.msg, "No IP addresses supplied on interface: eth0");
    }
}

#[test]
fn errors_name_the_fault_of_the_configuration() {
    for (keys, text) in [
        (r#""table": 0"#, "invalid table 0, must be in [1, 4294967295]"),
        (r#""table": -1"#, "invalid table -1"),
        (r#""table": 4294967296"#, "invalid table 4294967296"),
        (r#""gateways": ["10.0.0.1", "10.0.0.2"]"#, "more than one IPv4 gateway"),
        (r#""gateways": ["fd00::1", "10.0.0.1", "fd00::2"]"#, "more than one IPv6 gateway"),
        (r#""gateways": ["10.0.0.1/24"]"#, "invalid gateway \"10.0.0.1/24\""),
        (r#""gateways": ["0.0.0.0"]"#, "not the address of another host"),
    ] {
        let error = refusal(keys);
        assert_eq!(error.code, 7, "{keys}: {error:?}");
        assert!(error.msg.contains(text), "{keys}: {error:?}");
    }
    for keys in [r#""table": "100""#, r#""gateways": "10.0.0.1""#, r#""addSourceHints": 1"#] {
        let error = refusal(keys);
        assert!(error.code == 999 && error.msg.starts_with("failed to load netconf: "), "{keys}: {error:?}");
    }
}

#[test]
fn del_reads_a_valid_table_alone() {
    let of = |keys: &str| table_of(&testing::add_with("sbr", keys, ""));
    assert_eq!(of(r#""table": 7, "gateways": 5"#), Table::Configured(7));
    for keys in ["", r#""table": null"#, r#""table": "x""#, r#""table": -1"#] {
        assert_eq!(of(keys), Table::Own, "{keys}");
    }
}
