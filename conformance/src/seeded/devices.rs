//! Defects of host-device: plugins that lose a device, or a part of what it had on the host.

use std::process::Command;

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// The defects of this file.
pub const DEVICES: &[Defect] = &[
    defect("forgets_the_alias_of_a_device", "host-device", "host_device/del_returns_everything", |call| {
        call.after(call.verb == "DEL", |_| ip(&["link", "set", "wan0", "alias", ""]))
    }),
    defect("leaves_a_device_without_routes", "host-device", "host_device/del_returns_everything", |call| {
        call.after(call.verb == "DEL", |_| ip(&["route", "flush", "table", "77"]))
    }),
    defect(
        "leaves_the_device_when_ipam_fails",
        "host-device",
        "host_device/a_failed_add_returns_everything",
        |call| {
            let netns = std::env::var("CNI_NETNS").unwrap_or_default();
            call.after_failure(|_| ip(&["link", "set", "wan0", "netns", &netns, "name", "eth0"]))
        },
    ),
    defect(
        "keeps_the_lease_without_a_namespace",
        "host-device",
        "host_device/del_succeeds_whatever_is_missing",
        |call| {
            let has_netns = std::env::var("CNI_NETNS").is_ok_and(|netns| !netns.is_empty());
            if call.verb == "DEL" && !has_netns { Reply::nothing() } else { call.sound() }
        },
    ),
    defect(
        "status_repairs_nothing",
        "host-device",
        "host_device/status_completes_what_the_kernel_returned",
        |call| if call.verb == "STATUS" { Reply::nothing() } else { call.sound() },
    ),
    defect(
        "finds_the_device_by_its_name_alone",
        "host-device",
        "host_device/del_finds_a_disguised_device",
        |call| if call.verb == "DEL" && !has_its_name() { Reply::nothing() } else { call.sound() },
    ),
];

/// Whether the container's interface is the device still.
fn has_its_name() -> bool {
    let netns = std::env::var("CNI_NETNS").unwrap_or_default();
    let name = netns.rsplit('/').next().map(str::to_owned);
    let link = harness::ip::link(name.as_deref(), "eth0").ok().flatten();
    link.is_some_and(|link| link["ifalias"] == "wan0")
}

fn ip(words: &[&str]) {
    drop(Command::new("ip").args(words).status());
}
