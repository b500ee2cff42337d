//! Defects of the firewall plugin.

use std::process::Command;

use super::defect::{Defect, defect};
use super::wrapper::{Call, Reply};

/// The defects of this file.
pub const WALLS: &[Defect] = &[
    defect(
        "isolates_nothing",
        "firewall",
        "firewall/an_open_network_is_reached_from_an_isolated_one",
        |call| call.without("ingressPolicy"),
    ),
    defect(
        "isolates_networks_and_no_neighbours",
        "firewall",
        "firewall/each_policy_lets_pass_what_it_should",
        |call| {
            call.with(|config| {
                if config["ingressPolicy"] == "isolated" {
                    config["ingressPolicy"] = "same-bridge".into();
                }
            })
        },
    ),
    defect("keeps_a_port_isolated", "firewall", "firewall/del_matrix", |call| {
        let ports = call.config().map(|config| config["prevResult"]["interfaces"][1]["name"].clone());
        let port = ports.as_ref().and_then(|port| port.as_str()).map(str::to_owned);
        call.after(call.verb == "DEL", |_| {
            if let Some(port) = port {
                let words = ["link", "set", "dev", &port, "type", "bridge_slave", "isolated", "on"];
                drop(Command::new("ip").args(words).status());
            }
        })
    }),
    defect("empties_the_admin_chain", "firewall", "firewall/the_admin_chain_comes_first_and_stays", |call| {
        after(call, "ADD", "flush chain inet moor admin")
    }),
    defect("opens_no_closed_chain", "firewall", "firewall/a_closed_forward_chain_is_opened", |call| {
        after(call, "ADD", "flush chain inet fw forward")
    }),
    defect("keeps_a_policy_forever", "firewall", "firewall/the_last_container_takes_everything", |call| {
        if call.verb == "DEL" { Reply::nothing() } else { call.sound() }
    }),
    defect("polices_nothing", "firewall", "firewall/a_policy_decides_which_connections_begin", |call| {
        call.without("policy")
    }),
    defect("cuts_connections", "firewall", "firewall/a_policy_lets_connections_go_on", |call| {
        let has_policy = call.config().is_some_and(|config| config["policy"].is_object());
        call.after(call.verb == "ADD" && has_policy, |_| {
            drop(Command::new("nft").arg("insert rule inet moor admin ct state established drop").status());
        })
    }),
    defect(
        "accepts_one_family_by_iptables",
        "firewall",
        "firewall_iptables/rules_equal_the_references_byte_for_byte",
        |call| {
            call.after(call.verb == "ADD", |_| {
                drop(Command::new("ip6tables").args(["-F", "CNI-FORWARD"]).status());
            })
        },
    ),
    defect(
        "keeps_rules_of_iptables",
        "firewall",
        "firewall_iptables/del_needs_no_result_and_keeps_an_administrators_rules",
        |call| if call.verb == "DEL" { Reply::nothing() } else { call.sound() },
    ),
    defect("keeps_sources", "firewall", "firewall_firewalld/sources_appear_and_go", |call| {
        if call.verb == "DEL" { Reply::nothing() } else { call.sound() }
    }),
    defect("restores_no_source", "firewall", "firewall_firewalld/a_reload_takes_nothing_for_long", |call| {
        if call.verb == "CHECK" { Reply::nothing() } else { call.sound() }
    }),
    defect("checks_no_policy", "firewall", "firewall/check_names_every_drift", |call| {
        call.after_failure(|reply| {
            if String::from_utf8_lossy(&reply.stdout).contains("isolated-") {
                *reply = Reply::nothing();
            }
        })
    }),
];

/// Runs an `nft` command after a verb that succeeded.
fn after(call: &Call, verb: &str, command: &str) -> Reply {
    call.after(call.verb == verb, |_| drop(Command::new("nft").arg(command).status()))
}
