//! Defects of dhcp.

use std::fs;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// The daemon's socket.
const SOCKET: &str = "/run/cni/dhcp.sock";
/// Where its records are.
const RECORDS: &str = "/run/moor/dhcp";

/// The defects of this file.
pub const LEASES: &[Defect] = &[
    defect("keeps_the_lease_after_del", "dhcp", "dhcp/add_leases_and_del_releases", |call| {
        if call.verb == "DEL" { Reply::nothing() } else { call.sound() }
    }),
    defect("check_asks_a_server", "dhcp", "dhcp/check_acquires_no_lease", |call| {
        let verb = if call.verb == "CHECK" { "ADD" } else { &call.verb };
        call.with_env("CNI_COMMAND", verb)
    }),
    defect("ignores_the_priority", "dhcp", "dhcp/routes_and_parameters_reach_the_result", |call| {
        call.with(|config| config["ipam"]["priority"] = Value::Null)
    }),
    defect("sends_no_options", "dhcp", "dhcp/options_are_provided_and_requested", |call| {
        call.with(|config| config["ipam"]["provide"] = Value::Null)
    }),
    defect("needs_a_daemon_for_del", "dhcp", "dhcp/del_needs_neither_daemon_nor_server", |call| {
        let is_there = UnixStream::connect(SOCKET).is_ok();
        call.after(call.verb == "DEL" && !is_there, |reply| *reply = Reply::error(999, "no daemon"))
    }),
    defect("gc_releases_everything", "dhcp", "dhcp/gc_releases_what_is_not_valid", |call| {
        call.with(|config| config["cni.dev/valid-attachments"] = json!([]))
    }),
    defect("has_no_ipv6", "dhcp", "dhcp/slaac_addresses_routes_and_names_reach_the_result", |call| {
        call.with(|config| config["ipam"]["ipv6"] = Value::Null)
    }),
    defect("does_without_ipv6", "dhcp", "dhcp/ipv6_that_is_not_there_fails_add_unless_optional", |call| {
        call.with(|config| config["ipam"]["ipv6Optional"] = json!(true))
    }),
    defect("asks_for_no_prefix", "dhcp", "dhcp/a_prefix_is_delegated_and_released", |call| {
        call.with(|config| config["ipam"]["prefixDelegation"] = Value::Null)
    }),
    defect("asks_no_other_host", "dhcp", "dhcp/addresses_of_other_hosts_are_declined", |call| {
        call.with(|config| config["ipam"]["probeTimeoutMs"] = json!(0))
    }),
    defect(
        "forgets_the_lease_of_dhcpv6",
        "dhcp",
        "dhcp/dhcpv6_leases_of_every_server_are_released",
        |call| {
            if call.verb == "DEL" {
                let records = fs::read_dir(RECORDS).into_iter().flatten().flatten().map(|file| file.path());
                for record in records.filter(|path| path.extension().is_some_and(|it| it == "lease6")) {
                    // What is left fails the case as well.
                    let _ = fs::remove_file(record);
                }
            }
            call.sound()
        },
    ),
];
