//! Defects of packet rules: their owners, and the packets that they stop.

use std::path::Path;
use std::process::{Command, Stdio};

use harness::need::Need;
use serde_json::json;

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// The defects of this file.
pub const RULES: &[Defect] = &[
    defect(
        "withdraws_another_networks_rules",
        "portmap",
        "rules/del_after_a_refused_add_keeps_the_living_networks_rules",
        |call| match call.verb.as_str() {
            "DEL" => call.with(|config| config["name"] = json!("neta")),
            _ => call.sound(),
        },
    ),
    defect(
        "takes_a_running_containers_port",
        "portmap",
        "rules/networks_with_one_subnet_keep_their_own_rules",
        |call| {
            call.after_failure(|reply| {
                let result = call.config().map(|config| config["prevResult"].to_string());
                reply.code = 0;
                reply.stdout = result.unwrap_or_default().into_bytes();
            })
        },
    ),
    defect(
        "refuses_a_containers_own_port",
        "portmap",
        "portmap/a_container_has_its_ports_on_each_of_its_networks",
        |call| {
            let is_second = std::env::var("CNI_IFNAME").is_ok_and(|name| name == "eth1");
            call.after(call.verb == "ADD" && is_second, |reply| {
                reply.code = 1;
                reply.stdout =
                    json!({"code": 999, "msg": "host port 8080 is taken"}).to_string().into_bytes();
            })
        },
    ),
    defect(
        "leaves_the_loopback_open_to_packets_of_no_connection",
        "portmap",
        "portmap_loopback/frames_with_it_are_dropped",
        |call| call.after(call.verb == "ADD", |_| flush("published-input")),
    ),
    defect(
        "offers_a_port_of_the_loopback_to_the_wire",
        "portmap",
        "portmap_loopback/a_port_of_it_is_not_for_the_wire",
        |call| {
            call.after(call.verb == "ADD", |_| {
                flush("published-prerouting");
                let rule = "add rule inet moor published-prerouting fib daddr type local jump published";
                drop(Command::new("nft").arg(rule).status());
            })
        },
    ),
    defect("makes_no_fast_path", "portmap", "fast_path/a_kernel_without_flowtables_refuses", |call| {
        call.with(|config| config["fastPath"] = json!(false))
    }),
    defect(
        "lets_invalid_packets_leave",
        "bridge",
        "masquerade/invalid_packets_do_not_leave_with_the_containers_address",
        |call| {
            call.after(call.verb == "ADD", |_| {
                flush("leaving");
            })
        },
    ),
    defect(
        "waits_for_deleted_rules",
        "bridge",
        "rules/bridge_leaves_the_wait_for_deleted_rules_to_the_kernel",
        |call| {
            call.after(call.verb == "DEL", |_| {
                drop(Command::new("nft").args(["list", "tables"]).stdout(Stdio::null()).status());
            })
        },
    ),
    defect("needs_io_uring", "portmap", "rules/verbs_work_where_io_uring_is_forbidden", |call| {
        match Need::IoUring.probe(Path::new(""), Path::new("")) {
            Err(error) if call.verb == "DEL" => Reply::error(999, &error.to_string()),
            _ => call.sound(),
        }
    }),
];

fn flush(chain: &str) {
    drop(Command::new("nft").args(["flush", "chain", "inet", "moor", chain]).status());
}
