//! Defects of dhcp.

use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// The daemon's socket.
const SOCKET: &str = "/run/cni/dhcp.sock";

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
];
