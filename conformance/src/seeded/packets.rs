//! Defects of overlay that packets between hosts show.

use std::process::{Command, Stdio};

use harness::ip;
use serde_json::{Value, json};

use super::defect::{Defect, defect};
use super::wrapper::{Call, Reply};

/// The defects of this file.
pub const PACKETS: &[Defect] = &[
    defect("lets_in_anybodys_frames", "overlay", "overlay/only_hosts_of_the_cluster_send_frames", |call| {
        accept_all(call, "overlay-guard")
    }),
    defect("tracks_packets_of_vxlan", "overlay", "overlay/packets_have_the_hosts_own_source", |call| {
        accept_all(call, "overlay-untracked")
    }),
    defect("forwards_between_networks", "overlay", "overlay/networks_do_not_reach_each_other", |call| {
        accept_all(call, "overlay-forward")
    }),
    defect("floods_containers", "overlay", "overlay/only_packets_for_another_host_leave_a_host", |call| {
        call.after(call.verb == "ADD", |reply| {
            let result: Value = serde_json::from_slice(&reply.stdout).unwrap_or_default();
            let port = result["interfaces"][1]["name"].as_str().unwrap_or_default();
            let _ = ip::run(&["link", "set", port, "type", "bridge_slave", "flood", "on"]);
        })
    }),
    defect(
        "filters_no_sources",
        "overlay",
        "overlay/a_container_sends_with_its_own_addresses_alone",
        |call| call.with(|config| config["macspoofchk"] = json!(false)),
    ),
    defect("ignores_internal", "overlay", "overlay/an_internal_network_reaches_nothing_outside", |call| {
        call.without("internal")
    }),
    defect(
        "ignores_multicast",
        "overlay",
        "overlay/multicast_reaches_all_hosts_once_where_it_is_on",
        |call| call.without("multicast"),
    ),
];

/// Inserts a rule before all of a chain of the host, for as long as the case may last: later calls
/// and the agent write the chain again.
fn accept_all(call: &Call, chain: &str) -> Reply {
    call.after(call.verb == "ADD", |_| {
        let script =
            format!("for _ in $(seq 80); do nft insert rule inet moor {chain} accept; sleep 0.1; done");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        drop(shell.spawn());
    })
}
