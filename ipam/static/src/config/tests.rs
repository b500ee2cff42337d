use cni::testing::{add, add_with};

use super::{Conf, Settings};
use crate::args::Args;

fn settings(request: &cni::Request) -> Result<Settings, cni::Error> {
    let conf: Conf = request.config()?;
    conf.check(request.version, &Args::of(request)?).map_err(|error| error.to_cni_error())
}

/// The addresses of the result, as `address gateway`.
fn ips(keys: &str, args: &str) -> Vec<String> {
    let settings =
        settings(&add_with("static", keys, args)).unwrap_or_else(|error| panic!("{error:?}: {keys}"));
    let shown = settings.ips.iter().map(|ip| match ip.gateway {
        Some(gateway) => format!("{} {gateway}", ip.address),
        None => ip.address.to_string(),
    });
    shown.collect()
}

fn refusal(keys: &str, args: &str) -> String {
    settings(&add_with("static", keys, args)).unwrap_err().msg
}

const CONFIGURED: &str = r#""ipam": {"addresses": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}, {"address": "fd00::5/64"}]}"#;

/// ST-1, ST-3
#[test]
fn addresses_of_cni_args_follow_the_configured_ones() {
    assert_eq!(ips(CONFIGURED, ""), ["10.0.0.5/24 10.0.0.1", "fd00::5/64"]);
    assert_eq!(
        ips(CONFIGURED, "IP= 10.1.0.5/16 ,10.2.0.5/16"),
        ["10.0.0.5/24 10.0.0.1", "fd00::5/64", "10.1.0.5/16", "10.2.0.5/16"]
    );
    assert_eq!(ips(r#""ipam": {}"#, "IP="), [""; 0]);
    assert_eq!(ips(r#""ipam": {}"#, "IP=10.1.0.5/16;IP=10.1.0.6/16"), ["10.1.0.6/16"]);
    assert_eq!(ips(r#""ipam": {"addresses": null, "routes": null, "dns": null}"#, ""), [""; 0]);
}

/// ST-4, ST-B1
#[test]
fn a_gateway_of_cni_args_is_set_where_it_fits() {
    assert_eq!(
        ips(CONFIGURED, "IP=10.1.0.5/16;GATEWAY=fd00::1,10.1.0.1, 10.0.0.9"),
        ["10.0.0.5/24 10.0.0.9", "fd00::5/64 fd00::1", "10.1.0.5/16 10.1.0.1"]
    );
    let unused = settings(&add_with("static", CONFIGURED, "GATEWAY=192.0.2.1")).unwrap().unused_gateways;
    assert_eq!(unused, [std::net::IpAddr::from([192, 0, 2, 1])]);
}

/// ST-5, ST-6, ST-B2
#[test]
fn lists_of_the_runtime_replace_and_keep_the_gateway_of_their_subnet() {
    let by_args = r#""args": {"cni": {"ips": ["10.0.0.7/24", "10.9.0.7/24"]}}"#;
    let by_runtime = r#""runtimeConfig": {"ips": ["10.0.0.8/24", "10.0.0.8/16", "fd00::8/64"]}"#;
    let keys = format!("{CONFIGURED}, {by_args}");
    assert_eq!(ips(&keys, "IP=10.1.0.5/16"), ["10.0.0.7/24 10.0.0.1", "10.9.0.7/24"]);
    assert_eq!(ips(&keys, "GATEWAY=10.9.0.1"), ["10.0.0.7/24 10.0.0.1", "10.9.0.7/24 10.9.0.1"]);
    let keys = format!("{CONFIGURED}, {by_args}, {by_runtime}");
    assert_eq!(ips(&keys, ""), ["10.0.0.8/24 10.0.0.1", "10.0.0.8/16", "fd00::8/64"]);
    let keys = format!(r#"{CONFIGURED}, {by_args}, "runtimeConfig": {{"ips": []}}"#);
    assert_eq!(ips(&keys, ""), ["10.0.0.7/24 10.0.0.1", "10.9.0.7/24"]);
}

/// ST-10
#[test]
fn a_replaced_address_need_not_be_valid() {
    let bad =
        r#""ipam": {"addresses": [{"address": "bad"}, {"address": "10.0.0.5/24", "gateway": "x"}, null]}"#;
    assert_eq!(ips(&format!(r#"{bad}, "runtimeConfig": {{"ips": ["10.0.0.8/24"]}}"#), ""), ["10.0.0.8/24"]);
    assert_eq!(refusal(bad, ""), "the 'address' field is expected to be in CIDR notation, got: 'bad'");
}

/// ST-7, ST-8, ST-B4, ST-B5, ST-B6
#[test]
fn an_invalid_configuration_names_what_is_wrong() {
    let addresses = |list: &str| format!(r#""ipam": {{"addresses": [{list}]}}"#);
    let of = |list: &str| refusal(&addresses(list), "");
    assert_eq!(refusal("", ""), "IPAM config missing 'ipam' key");
    assert_eq!(refusal(r#""ipam": null"#, ""), "IPAM config missing 'ipam' key");
    assert_eq!(of("{}"), "the 'address' field is expected to be in CIDR notation, got: ''");
    assert_eq!(
        of(r#"{"address": "10.0.0.5/24"}, {"address": "10.0.0.6/24", "gateway": "x"}"#),
        "ipam.addresses[1].gateway: invalid IP address: x"
    );
    assert_eq!(
        of(r#"{"address": "10.0.0.5/24", "gateway": "fd00::1"}"#),
        "gateway fd00::1 is not of the address family of 10.0.0.5/24"
    );
    assert_eq!(
        of(r#"{"address": "10.0.0.5/24"}, {"address": "10.0.0.5/24"}"#),
        "address 10.0.0.5/24 is given twice"
    );
    assert_eq!(
        of(r#"{"address": "fd00::5/64"}, {"address": "fd00::5/128"}"#),
        "address fd00::5/128 is given twice"
    );
    assert_eq!(
        refusal(&addresses(r#"{"address": "10.0.0.5/24"}"#), "IP=10.0.0.5/24"),
        "address 10.0.0.5/24 is given twice"
    );
    assert_eq!(
        refusal(r#""ipam": {"routes": [{"dst": "0.0.0.0/0"}, {"gw": "10.0.0.1"}]}"#, ""),
        "failed to load netconf: ipam.routes[1].dst: missing"
    );
    let many = vec![r#"{"address": "10.0.0.5/24"}"#; super::MAX_ADDRESSES + 1].join(",");
    assert_eq!(of(&many), "1025 addresses, at most 1024 are supported");
    assert_eq!(
        refusal(r#""ipam": {}, "runtimeConfig": {"ips": ["10.0.0.5"]}"#, ""),
        "an entry in the 'ips' field is NOT in CIDR notation, got: '10.0.0.5'"
    );
    assert_eq!(
        refusal(r#""ipam": {}"#, "IP=10.0.0.5"),
        "the 'ip' field is expected to be in CIDR notation, got: '10.0.0.5'"
    );
    assert_eq!(refusal(r#""ipam": {}"#, "GATEWAY=x"), "invalid gateway address: x");
}

/// IPv4 addresses with different prefix lengths are different to the kernel.
#[test]
fn one_address_may_have_two_prefix_lengths_in_ipv4() {
    let keys = r#""ipam": {"addresses": [{"address": "10.0.0.5/24"}, {"address": "10.0.0.5/16"}]}"#;
    assert_eq!(ips(keys, ""), ["10.0.0.5/24", "10.0.0.5/16"]);
}

/// ST-9
#[test]
fn versions_before_0_3_0_hold_one_address_of_each_family() {
    let read = |version: &str, list: &str| {
        let text = format!(
            r#"{{"cniVersion": "{version}", "name": "net", "type": "static", "ipam": {{"addresses": [{list}]}}}}"#
        );
        settings(&add(&text, "")).map(|settings| settings.ips.len()).map_err(|error| error.msg)
    };
    let both = r#"{"address": "10.0.0.5/24"}, {"address": "fd00::5/64"}"#;
    let two = r#"{"address": "10.0.0.5/24"}, {"address": "10.1.0.5/24"}"#;
    for version in ["0.1.0", "0.2.0"] {
        assert_eq!(read(version, both), Ok(2));
        let text = format!("CNI version {version} does not support more than 1 address per family");
        assert_eq!(read(version, two), Err(text));
    }
    assert_eq!(read("0.3.0", two), Ok(2));
}

/// ST-2
#[test]
fn routes_keep_every_attribute_and_dns_is_copied() {
    let keys = r#""ipam": {"routes": [{"dst": "192.0.2.0/24", "gw": "10.0.0.1", "mtu": 1400, "advmss": 1300,
        "priority": 7, "table": 0, "scope": 0}], "dns": {"nameservers": ["10.0.0.1"], "domain": "a"}}"#;
    let settings = settings(&add_with("static", keys, "")).unwrap();
    let route = &settings.routes[0];
    assert_eq!((route.mtu, route.advmss, route.priority), (1400, 1300, 7));
    assert_eq!((route.table, route.scope), (Some(0), Some(0)));
    assert_eq!((settings.dns.nameservers.len(), settings.dns.domain.as_str()), (1, "a"));
}
