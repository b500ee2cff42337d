//! Input of runtimes, standard input and the environment; and of administrators, conflists.

use cni::{Env, Error, Request};

/// The first lines are `NAME=VALUE` of the environment up to an empty one; the rest is standard
/// input. For any such input, each plugin decodes its configuration or reports one error, without
/// touching the machine.
pub fn request(bytes: &[u8]) {
    let (variables, stdin) = split(bytes);
    let env: Env = variables.iter().filter_map(|line| line.split_once('=')).collect();
    let Ok(request) = Request::parse(&env, stdin) else { return };
    let _ =
        (request.prev_result(), request.valid_attachments(), request.args(&["IP", "MAC", "K8S_POD_NAME"]));
    for config in CONFIGS {
        if let Err(error) = config(&request) {
            let text = error.print(request.version);
            let document: serde_json::Value = match serde_json::from_slice(&text) {
                Ok(document) => document,
                Err(bad) => panic!("an error that is not JSON: {bad}: {}", String::from_utf8_lossy(&text)),
            };
            assert!(document["code"].is_u64() && document["msg"].is_string(), "{document}");
        }
    }
}

/// Decodes the configuration of one plugin.
type Decode = fn(&Request) -> Result<(), Error>;

const CONFIGS: [Decode; 18] = [
    |request| bandwidth::Config::of(request).map(drop),
    |request| bridge::Config::of(request).map(drop),
    |request| macvlan::Config::of(request).map(drop),
    |request| ipvlan::Config::of(request).map(drop),
    |request| host_device::Config::of(request).map(drop),
    |request| vlan::Config::of(request).map(drop),
    |request| dummy::Config::of(request).map(drop),
    |request| firewall::Config::of(request).map(drop),
    |request| portmap::Config::of(request).map(drop),
    |request| ptp::Config::of(request).map(drop),
    |request| sbr::Config::of(request).map(drop),
    |request| vrf::Config::of(request).map(drop),
    |request| tap::Config::of(request).map(drop),
    |request| tuning::Config::of(request).map(drop),
    dhcp::validate,
    cluster_ipam::validate,
    host_local::validate,
    static_ipam::validate,
];

/// Any configuration file is a list or an error.
pub fn conflist(bytes: &[u8]) {
    let _ = (runtime::Conflist::from_bytes(bytes), runtime::PluginConf::from_bytes(bytes));
}

fn split(bytes: &[u8]) -> (Vec<&str>, &[u8]) {
    let (head, stdin) = match bytes.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (bytes.get(..at).unwrap_or(&[]), bytes.get(at + 2..).unwrap_or(&[])),
        None => (&[][..], bytes),
    };
    (std::str::from_utf8(head).unwrap_or("").lines().collect(), stdin)
}
