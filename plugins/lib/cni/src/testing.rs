//! Helpers for unit tests of plugins: requests, results, and the comparison of a plan with its
//! golden file.

use crate::{Env, IpConfig, Request, Route, parse_cidr, parse_ip};

/// The environment of a call for this interface of a container.
pub fn env(command: &str, container_id: &str, ifname: &str, args: &str) -> Env {
    Env::from_iter([
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", container_id),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", ifname),
        ("CNI_ARGS", args),
        ("CNI_PATH", "/nowhere"),
    ])
}

/// ADD of `eth0` to container `c1`, with this standard input.
///
/// # Panics
/// The input violates the protocol.
pub fn add(stdin: &str, args: &str) -> Request {
    let request = Request::parse(&env("ADD", "c1", "eth0", args), stdin);
    request.unwrap_or_else(|error| panic!("{error:?}: {stdin}"))
}

/// ADD of `eth0` to container `c1` on network `net`, with these keys in the plugin's configuration.
///
/// # Panics
/// The keys are not members of a JSON object.
pub fn add_with(plugin: &str, keys: &str, args: &str) -> Request {
    let comma = if keys.is_empty() { "" } else { ", " };
    add(&format!(r#"{{"cniVersion": "1.1.0", "name": "net", "type": "{plugin}"{comma}{keys}}}"#), args)
}

/// An address of a result.
///
/// # Panics
/// A text is not an address.
pub fn ip(interface: Option<usize>, address: &str, gateway: Option<&str>) -> IpConfig {
    let address = parse_cidr(address).unwrap_or_else(|error| panic!("{error}: {address}"));
    let gateway = gateway.map(|text| parse_ip(text).unwrap_or_else(|error| panic!("{error}: {text}")));
    IpConfig { interface, address, gateway }
}

/// A route of a result, without a gateway.
///
/// # Panics
/// The text is no prefix.
pub fn route(dst: &str) -> Route {
    let dst = parse_cidr(dst).unwrap_or_else(|error| panic!("{error}: {dst}"));
    Route { dst, gw: None, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
}

/// Compares a plan with `testdata/plans/<plugin>/<name>.txt`; with `BLESS=1` in the environment it
/// writes the file instead: review the change.
///
/// # Panics
/// They differ.
pub fn golden(plugin: &str, name: &str, plan: &str) {
    let path = format!("{}/../../../testdata/plans/{plugin}/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, plan).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(expected, plan, "the plan differs from {path}");
}
