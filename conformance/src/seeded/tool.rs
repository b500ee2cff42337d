//! Defects of `moor`, the tool.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::defect::{Defect, defect};

pub const TOOL: &[Defect] = &[
    defect("doctor_overlooks_filters", "moor", "tool/doctor_finds_faults_and_its_fixes_mend_them", |call| {
        call.after(true, |reply| reply.edit(|answer| leave_out(answer, "id", "filter")))
    }),
    defect(
        "gc_lists_less_than_it_removes",
        "moor",
        "tool/gc_removes_what_it_lists_and_a_second_finds_nothing",
        |call| {
            let lists = !std::env::args().any(|word| word == "--fix");
            call.after(lists, |reply| reply.edit(|answer| leave_out(answer, "kind", "lease")))
        },
    ),
    defect("check_mends_unasked", "moor", "tool/check_names_flushed_rules_and_makes_none", |call| {
        let mut reapply = Command::new(call.real.join("moor"));
        reapply.arg("reapply").stdout(Stdio::null()).stderr(Stdio::null());
        drop(reapply.status());
        call.sound()
    }),
    defect("ps_loses_a_renamed_link", "moor", "tool/ps_pairs_links_of_ours_after_a_rename", |call| {
        call.after(true, |reply| reply.edit(|answer| leave_out(answer, "state", "drift")))
    }),
    defect("ports_overlooks_the_reference", "moor", "tool/ports_has_each_kind_with_its_owner", |call| {
        call.after(true, |reply| reply.edit(|answer| leave_out(answer, "by", "portmap (nft)")))
    }),
    defect(
        "leases_frees_what_it_cannot_see",
        "moor",
        "tool/leases_frees_nothing_in_a_pid_namespace",
        |call| {
            if std::env::args().any(|word| word == "--fix") {
                // What is left fails the case as well.
                let _ = fs::remove_dir_all("/var/lib/cni/networks/leased");
            }
            call.sound()
        },
    ),
];

/// Removes the items with this value.
fn leave_out(answer: &mut Value, key: &str, value: &str) {
    if let Some(items) = answer["items"].as_array_mut() {
        items.retain(|item| item[key] != value);
    }
}
