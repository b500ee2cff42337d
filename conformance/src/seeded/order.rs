//! Defects of the order of ADD and DEL, and of refusals.

use std::process::{Command, Stdio};
use std::time::Duration;

use harness::ip;
use serde_json::json;

use super::defect::{Defect, defect};
use super::wrapper::{Call, Reply};

/// The defects of this file.
pub const ORDER: &[Defect] = &[
    defect(
        "calls_ipam_before_creating_the_link",
        "bridge",
        "bridge/ipam_plugin_finds_and_uses_the_link",
        |call| match early(call) {
            Some(refused) if call.verb == "ADD" => refused,
            _ => call.sound(),
        },
    ),
    defect("deletes_the_link_before_dhcp", "bridge", "bridge/ipam_plugin_finds_and_uses_the_link", |call| {
        if call.verb == "DEL" {
            let _ = ip::run_in("c1", &["link", "del", "eth0"]);
        }
        call.sound()
    }),
    defect("waits_for_spanning_tree", "bridge", "bridge/add_succeeds_at_once_under_spanning_tree", |call| {
        call.after(call.verb == "ADD", |_| std::thread::sleep(Duration::from_secs(4)))
    }),
    defect("refuses_a_master_that_is_down", "macvlan", "macvlan/add_succeeds_while_master_is_down", |call| {
        let wan0 = ip::link(None, "wan0").ok().flatten().unwrap_or_default();
        if call.verb == "ADD" && !wan0["flags"].to_string().contains("\"UP\"") {
            return Reply::error(999, "master \"wan0\" is down");
        }
        call.sound()
    }),
    defect(
        "status_is_always_50",
        "macvlan",
        "macvlan/status_is_50_where_the_kernel_lacks_a_feature",
        |call| {
            if call.verb == "STATUS" { Reply::error(50, "this kernel has nothing") } else { call.sound() }
        },
    ),
    defect("raises_a_small_mtu", "bridge", "bridge/mtu_too_small_for_ipv6_is_refused", |call| {
        call.with(|config| {
            if config["mtu"].as_u64().is_some_and(|mtu| mtu < 1280) {
                config["mtu"] = json!(1280);
            }
        })
    }),
];

/// The error of an IPAM plugin that runs before the link exists.
fn early(call: &Call) -> Option<Reply> {
    let ipam = call.config()?["ipam"]["type"].as_str()?.to_owned();
    let path = std::env::var("CNI_PATH").ok()?;
    let program = path
        .split(':')
        .map(|dir| format!("{dir}/{ipam}"))
        .find(|file| std::path::Path::new(file).is_file())?;
    let done = Command::new(program).stdin(Stdio::null()).output().ok()?;
    (!done.status.success()).then_some(Reply { code: 1, stdout: done.stdout, stderr: done.stderr })
}
