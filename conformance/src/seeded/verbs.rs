//! Defects of the verbs of `overlay`.

use serde_json::json;

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// The defects of this file.
pub const VERBS: &[Defect] = &[
    defect("overlay_check_does_not_compare", "overlay", "overlay/check_names_each_single_drift", |call| {
        if call.verb == "CHECK" { Reply::nothing() } else { call.sound() }
    }),
    defect(
        "check_does_not_say_whose_the_address_is",
        "overlay",
        "overlay/check_names_the_host_that_has_the_address_now",
        |call| {
            let hides = |reply: &mut Reply| *reply = Reply::error(999, "the address is another host's");
            if call.verb == "CHECK" { call.after_failure(hides) } else { call.sound() }
        },
    ),
    defect(
        "tells_every_version_the_mtu",
        "overlay",
        "overlay/results_of_all_versions_are_as_bridge_gives_them",
        |call| {
            call.after(call.verb == "ADD", |reply| {
                reply.edit(|result| {
                    if let Some(links) = result["interfaces"].as_array_mut() {
                        links.iter_mut().for_each(|link| link["mtu"] = json!(1450));
                    }
                });
            })
        },
    ),
    defect("overlay_gc_takes_nothing", "overlay", "overlay/gc_and_status_judge_this_host_alone", |call| {
        if call.verb == "GC" { Reply::nothing() } else { call.sound() }
    }),
    defect(
        "status_does_not_see_whose_the_rules_are",
        "overlay",
        "overlay/gc_and_status_judge_this_host_alone",
        |call| {
            let is_of_rules =
                |reply: &Reply| String::from_utf8_lossy(&reply.stdout).contains("of packet rules");
            call.after(call.verb == "STATUS", |reply| {
                if is_of_rules(reply) {
                    *reply = Reply::nothing();
                }
            })
        },
    ),
    defect(
        "fails_while_the_boot_before_is_on_record",
        "overlay",
        "overlay/a_quick_reboot_waits_for_the_record_of_the_boot_before",
        |call| {
            // A reboot leaves the files of the cluster, and no agent.
            let is_new_boot = !std::path::Path::new("/run/moor").exists()
                && std::path::Path::new("/var/lib/moor/overlay/host.json").exists();
            if call.verb == "ADD" && is_new_boot { Reply::error(11, "try again") } else { call.sound() }
        },
    ),
];
