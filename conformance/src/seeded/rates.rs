//! Defects of the rates of containers.

use std::process::Command;

use serde_json::json;

use super::defect::{Defect, defect};
use super::wrapper::{Call, Reply};

/// The defects of this file.
pub const RATES: &[Defect] = &[
    defect(
        "shapes_one_direction_only",
        "bandwidth",
        "bandwidth_packets/both_directions_keep_to_their_rate",
        |call| after_add(call, "ingress"),
    ),
    defect("checks_the_first_discipline_only", "bandwidth", "bandwidth/check_names_every_drift", |call| {
        call.after_failure(|reply| {
            if String::from_utf8_lossy(&reply.stdout).contains("actual htb") {
                *reply = Reply::nothing();
            }
        })
    }),
    defect("cuts_long_bursts", "bandwidth", "bandwidth/any_burst_is_kept_at_any_rate", |call| {
        call.with(|config| {
            if config["ingressBurst"].as_u64().is_some_and(|burst| burst > u32::MAX.into()) {
                config["ingressBurst"] = json!(u32::MAX);
            }
        })
    }),
    defect(
        "leaves_the_ifb_without_a_namespace",
        "bandwidth",
        "bandwidth_life/del_matrix_leaves_nothing",
        |call| {
            let is_empty = std::env::var("CNI_NETNS").is_ok_and(|path| path.is_empty());
            if call.verb == "DEL" && is_empty { call.with_env("CNI_CONTAINERID", "c") } else { call.sound() }
        },
    ),
    defect("does_not_replace", "bandwidth", "bandwidth_life/a_repeated_add_replaces", |call| {
        call.with(|config| {
            if call.verb == "ADD" && config["egressRate"] == 32_000_000 {
                config["egressRate"] = json!(16_000_000);
            }
        })
    }),
];

/// Deletes the discipline at a place of the host's end after a successful ADD.
fn after_add(call: &Call, place: &str) -> Reply {
    call.after(call.verb == "ADD", |reply| {
        let result: serde_json::Value = serde_json::from_slice(&reply.stdout).unwrap_or_default();
        let links = result["interfaces"].as_array().into_iter().flatten();
        for name in links.filter_map(|link| link["name"].as_str()).filter(|name| name.starts_with("veth")) {
            drop(Command::new("tc").args(["qdisc", "del", "dev", name, place]).status());
        }
    })
}
