//! Defects of dns.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use cases::dns_strangers;
use nix::sys::socket::{UnixAddr, connect};
use serde_json::json;

use super::defect::{Defect, defect};
use super::hoard;
use super::wrapper::Reply;

/// The defects of this file.
pub const NAMES: &[Defect] = &[
    defect(
        "treats_inaccessible_namespaces_as_gone",
        "dns",
        "dns/a_namespace_given_by_process_is_served_while_the_process_lives",
        |call| {
            call.after(call.verb == "ADD" && namespace().starts_with("/proc/"), |_| {
                records().iter().for_each(|path| drop(fs::remove_file(path)));
            })
        },
    ),
    defect(
        "enters_any_namespace_at_the_path",
        "dns",
        "dns/another_namespace_at_the_path_is_not_entered",
        |call| {
            call.after(call.verb == "DEL", |_| {
                let inside = format!("--net={}", namespace());
                drop(Command::new("nsenter").args([&inside, "ip", "link", "set", "lo", "up"]).status());
            })
        },
    ),
    defect("needs_the_responder_for_del", "dns", "dns/del_succeeds_while_the_responder_is_stopped", |call| {
        call.after(call.verb == "DEL" && is_stopped(), |reply| *reply = Reply::error(999, "no answer"))
    }),
    defect("does_not_name_the_process", "dns", "dns/errors_name_a_stopped_responder", |call| {
        call.after_failure(|reply| reply.edit(|error| error["msg"] = "no answer".into()))
    }),
    defect("queries_once", "dns", "dns/check_passes_despite_lost_packets", |call| {
        let inside = format!("--net={}", namespace());
        let lossy =
            || Command::new("nsenter").args([&inside, "nft", "list", "table", "inet", "lossy"]).output();
        let lost = call.verb == "CHECK" && lossy().is_ok_and(|listed| listed.status.success());
        call.after(lost, |reply| *reply = Reply::error(999, "timed out"))
    }),
    defect("kills_any_process_in_a_pid_file", "dns", "dns/only_dnsnames_dnsmasq_is_stopped", |call| {
        if call.verb == "ADD"
            && let Ok(pid) = fs::read_to_string("/run/containers/cni/dnsname/net/pidfile")
        {
            drop(Command::new("kill").args(["-9", pid.trim()]).status());
        }
        call.sound()
    }),
    defect("leaves_dnsnames_dnsmasq", "dns", "dns/dnsmasq_stops_with_its_last_container", |call| {
        if call.verb == "DEL" { Reply::nothing() } else { call.sound() }
    }),
    defect("forgets_records_of_dnsname", "dns", "dns/names_of_dnsname_are_taken_over", |call| {
        call.after(call.verb == "ADD", |_| {
            let of_dnsname = |path: &PathBuf| path.to_string_lossy().contains("/att/=");
            records().into_iter().filter(of_dnsname).for_each(|path| drop(fs::remove_file(path)));
        })
    }),
    // A wrapper cannot replace the responder, so these configure one that breaks the promise.
    defect("has_no_budget_per_client", "dns", "dns/a_flood_loses_no_answers_of_others", |call| {
        call.with(|config| config["internal"] = json!(true))
    }),
    defect("orders_servers_for_all_networks", "dns", "dns/a_slow_name_does_not_fail_a_server", |call| {
        call.with(|config| {
            if let Some(servers) = config["upstreams"].as_array_mut() {
                servers.reverse();
            }
        })
    }),
    defect(
        "claims_names_below_a_network",
        "dns",
        "dns/a_network_may_have_the_name_of_a_public_domain",
        |call| call.with(|config| config["internal"] = json!(true)),
    ),
    defect("ignores_ttls", "dns", "dns/a_kept_answer_ends_with_its_shortest_ttl", hoard::put_between),
    defect(
        "shares_answers_between_networks",
        "dns",
        "dns/networks_share_no_kept_answers",
        hoard::put_between,
    ),
    defect(
        "believes_additional_records",
        "dns",
        "dns/nothing_is_learned_from_other_records",
        hoard::put_between,
    ),
    defect(
        "shares_answers_of_all_servers",
        "dns",
        "dns/containers_with_their_own_servers_share_no_kept_answers",
        |call| call.without("runtimeConfig"),
    ),
    defect("keeps_answers_despite_zero", "dns", "dns/a_cache_of_zero_keeps_nothing", |call| {
        call.without("cache")
    }),
    defect("does_not_report_dots", "dns", "dns/names_with_dots_are_warned_about_or_refused", |call| {
        call.after(true, |reply| reply.stderr.clear())
    }),
    defect(
        "refuses_names_that_dnsname_accepted",
        "dns",
        "dns/names_that_dnsname_accepted_fail_no_container",
        |call| call.with(|config| config["type"] = json!("dns")),
    ),
    defect("does_not_restore_removed_records", "dns", "dns/removed_records_are_restored", |call| {
        call.after(call.verb == "CHECK", |_| {
            places().into_iter().for_each(|place| drop(fs::remove_dir_all(place.join("net"))));
        })
    }),
    defect(
        "sends_its_records_to_any_listener",
        "dns",
        "dns/a_container_on_the_hosts_network_cannot_pose_as_plugin_or_responder",
        |call| {
            if call.verb == "ADD" {
                drop(hand_over());
            }
            call.sound()
        },
    ),
    defect("trusts_another_users_files", "dns", "dns/records_of_another_user_are_not_trusted", |call| {
        drop(std::os::unix::fs::chown("/run/moor/dns", Some(0), Some(0)));
        call.sound()
    }),
    defect("leaves_its_locks_open", "dns", "dns/other_users_cannot_take_its_locks", |call| {
        call.after(call.verb == "ADD", |_| {
            for place in places() {
                drop(fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o755)));
            }
        })
    }),
];

/// Passes a directory of the host to any process with the responder's abstract name.
fn hand_over() -> anyhow::Result<()> {
    let name = dns_strangers::responders_name().context("no responder listens")?;
    let socket = dns_strangers::open()?;
    connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    let dir = fs::File::open("/run")?;
    Ok(dns_strangers::send(&socket, br#"{"ask":"settle"}"#, &[dir.as_fd()])?)
}

fn namespace() -> String {
    std::env::var("CNI_NETNS").unwrap_or_default()
}

fn listed(dir: PathBuf) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn places() -> Vec<PathBuf> {
    listed("/run/moor/dns".into())
}

/// The records of attachments.
fn records() -> Vec<PathBuf> {
    let networks = places().into_iter().flat_map(|place| listed(place.join("net")));
    networks.flat_map(|network| listed(network.join("att"))).collect()
}

/// Whether a responder is stopped.
fn is_stopped() -> bool {
    places().into_iter().any(|place| {
        let about = fs::read_to_string(place.join("responder.lock")).unwrap_or_default();
        let pid = about.split_whitespace().next().unwrap_or_default();
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
    })
}
