//! The defects: each makes one working plugin break one promise, and names the case that must fail.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::store::NET;
use serde_json::{Value, json};

use super::addresses::ADDRESSES;
use super::company::COMPANY;
use super::devices::DEVICES;
use super::files::FILES;
use super::hosts::HOSTS;
use super::leases::LEASES;
use super::links::LINKS;
use super::names::NAMES;
use super::networks::NETWORKS;
use super::order::ORDER;
use super::packets::PACKETS;
use super::rates::RATES;
use super::records::RECORDS;
use super::routed::ROUTED;
use super::rules::RULES;
use super::sources::SOURCES;
use super::tool::TOOL;
use super::tuning::TUNING;
use super::verbs::VERBS;
use super::walls::WALLS;
use super::wrapper::{Call, Reply};

/// One defect.
pub struct Defect {
    /// Its name.
    pub name: &'static str,
    /// The plugin that has it.
    pub plugin: &'static str,
    /// The case that must fail, or the comparison with the unmodified suite: `diff/<conflist>`.
    pub case: &'static str,
    /// Runs the plugin, and adds the defect.
    pub act: fn(&Call) -> Reply,
}

pub(super) const fn defect(
    name: &'static str,
    plugin: &'static str,
    case: &'static str,
    act: fn(&Call) -> Reply,
) -> Defect {
    Defect { name, plugin, case, act }
}

/// All defects.
pub fn all() -> impl Iterator<Item = &'static Defect> {
    ALL.iter()
        .chain(ADDRESSES)
        .chain(COMPANY)
        .chain(DEVICES)
        .chain(FILES)
        .chain(HOSTS)
        .chain(LEASES)
        .chain(LINKS)
        .chain(NAMES)
        .chain(NETWORKS)
        .chain(RATES)
        .chain(RECORDS)
        .chain(ROUTED)
        .chain(RULES)
        .chain(SOURCES)
        .chain(TOOL)
        .chain(TUNING)
        .chain(VERBS)
        .chain(WALLS)
        .chain(ORDER)
        .chain(PACKETS)
}

/// The defects of this file.
const ALL: &[Defect] = &[
    // Exit status and output.
    defect("prints_on_del", "bridge", "bridge/del_matrix_namespace_fine", |call| {
        call.after(call.verb == "DEL", |reply| reply.stdout = b"{}".to_vec())
    }),
    defect("returns_0_on_error", "host-local", "errors/one_object_on_stdout_and_exit_1", |call| {
        call.after(true, |reply| reply.code = 0)
    }),
    defect("fails_without_output", "bridge", "errors/one_object_on_stdout_and_exit_1", |call| {
        call.after_failure(|reply| reply.stdout.clear())
    }),
    defect("prints_errors_on_stderr_only", "host-local", "stdin/network_name_rule", |call| {
        call.after_failure(|reply| reply.stderr.append(&mut reply.stdout))
    }),
    defect(
        "uses_one_code_for_all_errors",
        "bridge",
        "stdin/anything_but_one_json_object_is_code_6",
        |call| call.after_failure(|reply| reply.edit(|error| error["code"] = json!(100))),
    ),
    defect("prints_garbage_after_the_result", "host-local", "versions/host_local_results", |call| {
        call.after(call.verb == "ADD", |reply| reply.stdout.extend(b"\ndone"))
    }),
    defect(
        "prints_a_final_newline",
        "bridge",
        "versions/results_are_indented_by_four_without_final_newline",
        |call| call.after(call.verb == "ADD", |reply| reply.stdout.push(b'\n')),
    ),
    // Input.
    defect("checks_stdin_before_environment", "bridge", "env/environment_is_checked_before_stdin", |call| {
        match call.config() {
            None if call.verb != "VERSION" => Reply::error(6, "no JSON"),
            _ => call.sound(),
        }
    }),
    defect("accepts_unknown_commands", "loopback", "env/unknown_command", |call| {
        let known = ["", "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"].contains(&call.verb.as_str());
        if known { call.sound() } else { Reply::nothing() }
    }),
    defect("matches_keys_by_case", "bridge", "stdin/keys_match_without_regard_to_case", |call| {
        call.with(|config| {
            if let Some(keys) = config.as_object_mut() {
                keys.retain(|key, _| !key.chars().all(char::is_uppercase));
            }
        })
    }),
    defect(
        "reports_wrong_versions",
        "bridge",
        "versions/version_prints_one_line_and_reads_nothing",
        |call| {
            call.after(call.verb == "VERSION", |reply| {
                reply.stdout = b"{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.1.0\"]}\n".to_vec();
            })
        },
    ),
    defect("ignores_cni_path", "bridge", "delegation/plugin_lookup_along_cni_path", |call| {
        call.with_env("CNI_PATH", &call.real.to_string_lossy())
    }),
    defect(
        "runs_its_own_delegate_for_anothers",
        "bridge",
        "delegation/another_vendors_plugin_of_the_same_name_is_run",
        |call| call.with_env("CNI_PATH", &call.real.to_string_lossy()),
    ),
    defect(
        "accepts_its_own_namespace",
        "bridge",
        "netns/own_namespace_is_refused_before_any_change",
        |call| call.with_env("CNI_NETNS_OVERRIDE", "1"),
    ),
    // Results.
    defect("does_not_convert_versions", "bridge", "versions/bridge_results", |call| {
        call.with(|config| config["cniVersion"] = json!("1.0.0"))
    }),
    defect("drops_an_address", "bridge", "versions/bridge_results", |call| {
        call.after(call.verb == "ADD", |reply| {
            reply.edit(|result| drop(result["ips"].as_array_mut().and_then(Vec::pop)));
        })
    }),
    defect("wrong_gateway", "host-local", "versions/host_local_results", |call| {
        call.after(call.verb == "ADD", |reply| {
            reply.edit(|result| {
                if let Some(gateway) = result.pointer_mut("/ips/0/gateway") {
                    *gateway = json!("10.1.2.254");
                }
            });
        })
    }),
    defect("changes_the_previous_result", "loopback", "loopback/prev_result_is_passed_through", |call| {
        call.with(|config| {
            if let Some(addresses) = config.pointer_mut("/prevResult/ips") {
                *addresses = json!([]);
            }
        })
    }),
    // Created objects.
    defect("ignores_mtu", "bridge", "bridge/mtu_applies_to_both_ends_and_a_new_bridge", |call| {
        call.without("mtu")
    }),
    defect("ignores_hairpin_mode", "bridge", "bridge/port_flags", |call| call.without("hairpinMode")),
    defect("ignores_mac", "bridge", "bridge/mac_precedence_and_syntax", |call| call.without("runtimeConfig")),
    defect(
        "does_not_masquerade",
        "bridge",
        "masquerade/rules_do_not_grow_with_containers_and_name_their_owner",
        |call| call.without("ipMasq"),
    ),
    defect(
        "allocates_an_address_twice",
        "host-local",
        "host_local/another_ifname_has_its_own_address",
        |call| call.after(call.verb == "ADD", |_| drop(harness::store::forget(NET))),
    ),
    defect(
        "second_add_allocates_again",
        "host-local",
        "host_local/same_owner_twice_fails_and_keeps_the_first",
        |call| {
            let reply = call.sound();
            if call.verb != "ADD" || reply.code == 0 {
                return reply;
            }
            call.with_env("CNI_COMMAND", "DEL");
            call.sound()
        },
    ),
    defect(
        "writes_outside",
        "bridge",
        "versions/results_are_indented_by_four_without_final_newline",
        |call| match fs::write("/etc/written-by-a-defect", "") {
            Err(error) if call.verb == "ADD" => Reply::error(999, &format!("write the notes: {error}")),
            _ => call.sound(),
        },
    ),
    // Leftovers and missed changes.
    defect("leaks_a_veth", "bridge", "bridge/del_matrix_namespace_fine", |call| {
        call.after(call.verb == "DEL", |_| {
            let pair = ["link", "add", "leak0", "type", "veth", "peer", "name", "leak1"];
            drop(Command::new("ip").args(pair).status());
        })
    }),
    defect("failed_add_leaves_the_lease", "bridge", "bridge/failed_add_leaves_nothing", |call| {
        call.after_failure(|_| {
            drop(harness::store::write(NET, "10.1.2.99", &harness::store::content("c1", "eth0")))
        })
    }),
    defect("del_needs_the_namespace", "bridge", "bridge/del_matrix_namespace_gone", |call| {
        let gone = std::env::var_os("CNI_NETNS").is_some_and(|path| !Path::new(&path).exists());
        if call.verb == "DEL" && gone { Reply::error(999, "no such namespace") } else { call.sound() }
    }),
    defect("check_always_passes", "bridge", "bridge/check_names_a_missing_container_address", |call| {
        if call.verb == "CHECK" { Reply::nothing() } else { call.sound() }
    }),
    defect("status_always_passes", "host-local", "host_local/status", |call| {
        if call.verb == "STATUS" { Reply::nothing() } else { call.sound() }
    }),
    defect("ignores_gc", "host-local", "host_local/gc", |call| {
        if call.verb == "GC" { Reply::nothing() } else { call.sound() }
    }),
    defect("gc_without_the_key_removes_all", "bridge", "bridge/gc_without_the_key_removes_nothing", |call| {
        call.with(|config| {
            if call.verb == "GC" && config.get(VALID).is_none() {
                config[VALID] = Value::Null;
            }
        })
    }),
    defect(
        "reads_octal_as_decimal",
        "portmap",
        "condition_syntax/expressions_that_nft_reads_differently_are_refused",
        |call| {
            call.with(|config| {
                if config.pointer("/conditionsV4/0") == Some(&json!("tcp dport 010")) {
                    config["conditionsV4"] = json!(["tcp dport 10"]);
                }
            })
        },
    ),
    defect(
        "check_fails_on_the_references_names",
        "bridge",
        "going_back/check_accepts_attachments_of_the_reference",
        |call| {
            // A host end with a name that this suite does not generate.
            let config = call.config().unwrap_or_default();
            let name = config.pointer("/prevResult/interfaces/1/name").and_then(Value::as_str);
            match name {
                Some(name) if call.verb == "CHECK" && name != "veth88c0c6d0" => Reply::error(
                    999,
                    "attachment eth0 of container c1 has drifted: element masq4: expected present",
                ),
                _ => call.sound(),
            }
        },
    ),
    defect(
        "makes_rules_that_do_not_load_again",
        "portmap",
        "saved_rules/every_feature_loads_again_and_works",
        |call| {
            call.after(call.verb == "ADD", |_| {
                // iptables accepts the name for a chain; in nft's language it is a keyword.
                drop(Command::new("iptables-nft").args(["-t", "nat", "-N", "masquerade"]).status());
            })
        },
    ),
    // The host's own network, and permissions of a container.
    defect(
        "returns_before_ipv6_is_usable",
        "bridge",
        "settled/bridge_ipv6_works_at_once_with_duplicate_detection_on_all_links",
        |call| after_add(call, "-6 addr flush dev br0 scope link;-6 addr add fe80::99/64 dev br0", None),
    ),
    defect("removes_the_hosts_router", "bridge", "routers/the_hosts_own_default_route_is_kept", |call| {
        after_add(call, "-6 route flush proto ra", None)
    }),
    defect(
        "changes_an_administrators_bridge",
        "bridge",
        "routers/an_administrators_bridge_keeps_its_router",
        |call| after_add(call, "", Some(("ipv6/conf/br0/accept_ra", "0"))),
    ),
    defect(
        "accepts_a_container_as_router",
        "bridge",
        "routers/a_container_on_a_bridge_is_not_accepted_as_router",
        |call| after_add(call, "", Some(("ipv6/conf/br0/accept_ra", "2"))),
    ),
    defect(
        "learns_from_link_local_frames",
        "bridge",
        "macspoofchk/a_link_local_frame_diverts_no_traffic",
        |call| {
            let reply = after_add(call, "link set br0 type bridge no_linklocal_learn 0", None);
            let result: Value = serde_json::from_slice(&reply.stdout).unwrap_or_default();
            let port = result["interfaces"][1]["name"].as_str().unwrap_or_default();
            let words = ["link", "set", port, "type", "bridge_slave", "learning", "on"];
            drop(Command::new("ip").args(words).status());
            reply
        },
    ),
    defect("lacks_the_return_route", "bridge", "bridge/gateways_outside_the_subnet_work_both_ways", |call| {
        after_add(call, "route flush proto 109 table main;-6 route flush proto 109 table main", None)
    }),
    defect("does_not_restore_lost_routes", "macvlan", "host_access/check_restores_lost_routes", |call| {
        if call.verb == "CHECK" { Reply::nothing() } else { call.sound() }
    }),
    // Found only by the comparison with an unmodified suite.
    defect("differs_in_mtu", "bridge", "diff/20-layer2.conflist", |call| {
        call.with(|config| {
            if let Some(mtu) = config.get_mut("mtu").filter(|mtu| mtu.is_number()) {
                *mtu = json!(1350);
            }
        })
    }),
    defect("leaves_a_sysctl", "bridge", "diff/10-moor.conflist", |call| {
        call.after(call.verb == "DEL", |_| drop(fs::write("/proc/sys/net/ipv4/conf/all/arp_notify", "1")))
    }),
    defect("leaves_a_file", "host-local", "diff/30-two-ranges.conflist", |call| {
        call.after(call.verb == "DEL", |_| drop(fs::write("/run/left-by-a-defect", "")))
    }),
    defect("differs_in_error_code", "bridge", "diff/20-layer2.conflist", |call| {
        call.after_failure(|reply| reply.edit(|error| error["code"] = json!(1)))
    }),
];

/// Runs an `ip` command and sets a parameter below `net` after a successful ADD.
fn after_add(call: &Call, command: &str, parameter: Option<(&str, &str)>) -> Reply {
    call.after(call.verb == "ADD", |_| {
        if let Some((key, value)) = parameter {
            drop(fs::write(format!("/proc/sys/net/{key}"), value));
        }
        for line in command.split(';').filter(|line| !line.is_empty()) {
            drop(Command::new("ip").args(line.split_whitespace()).status());
        }
    })
}

const VALID: &str = "cni.dev/valid-attachments";
