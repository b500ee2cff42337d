//! Defects of routed veth pairs.

use std::process::Command;

use serde_json::json;

use super::defect::{Defect, defect};
use super::wrapper::{Call, Reply};

/// The defects of this file.
pub const ROUTED: &[Defect] = &[
    defect("lacks_the_hosts_route", "ptp", "ptp/first_packet_reaches_host_sibling_and_outside", |call| {
        after_add(call, "route del 10.1.2.2")
    }),
    defect("keeps_rules_without_a_namespace", "ptp", "ptp/del_matrix_leaves_nothing", |call| {
        let is_empty = std::env::var("CNI_NETNS").is_ok_and(|path| path.is_empty());
        if call.verb == "DEL" && is_empty { call.with_env("CNI_IFNAME", "eth9") } else { call.sound() }
    }),
    defect("checks_only_the_container", "ptp", "ptp/check_names_every_drift_at_both_ends", |call| {
        call.after_failure(|reply| {
            if String::from_utf8_lossy(&reply.stdout).contains("veth") {
                *reply = Reply::nothing();
            }
        })
    }),
    defect(
        "attaches_an_address_twice",
        "ptp",
        "ptp/an_address_that_another_container_has_is_refused",
        |call| {
            call.after_failure(|reply| {
                reply.code = 0;
                reply.stdout = json!({"cniVersion": "1.0.0", "ips": []}).to_string().into_bytes();
            })
        },
    ),
    defect(
        "does_not_hide_the_container",
        "ptp",
        "ptp/masquerade_hides_the_container_from_the_outside_alone",
        |call| call.without("ipMasq"),
    ),
    defect("accepts_any_source", "ptp", "ptp/a_container_sends_only_from_its_own_addresses", |call| {
        call.without("ipspoofchk")
    }),
];

/// Runs an `ip` command on the host after a successful ADD.
fn after_add(call: &Call, command: &str) -> Reply {
    call.after(call.verb == "ADD", |_| drop(Command::new("ip").args(command.split(' ')).status()))
}
