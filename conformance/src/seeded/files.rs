//! Defects of the files that plugins keep: permissions, locks, owners.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

use harness::store::NET;
use serde_json::{Value, json};

use super::defect::{Defect, defect};
use super::wrapper::Reply;

const RECORD: &str = "/var/lib/cni/networks/.moor/net.boot";

/// The defects of this file.
pub const FILES: &[Defect] = &[
    defect("opens_its_directory_to_all_users", "portmap", "private/no_other_user_can_hold_a_lock", |call| {
        call.after(call.verb == "ADD", |_| open("/run/moor", 0o755))
    }),
    defect(
        "opens_the_agents_directory_to_all_users",
        "overlay",
        "overlay/no_secret_of_etcd_is_seen",
        |call| {
            call.after(call.verb == "ADD", |_| {
                let agents = fs::read_dir("/run/moor/overlay").into_iter().flatten().flatten();
                agents.for_each(|agent| open(&agent.path().display().to_string(), 0o755));
            })
        },
    ),
    defect("creates_a_lock_with_the_umask", "portmap", "private/files_are_private_under_any_umask", |call| {
        call.after(call.verb == "ADD", |_| open("/run/moor/intent/.lock", 0o644))
    }),
    defect(
        "waits_for_a_lock_without_a_timeout",
        "host-local",
        "private/a_lock_holder_in_another_pid_namespace_is_reported",
        |call| {
            if call.verb == "DEL" {
                drop(File::open(format!("{NET}/lock")).and_then(|lock| lock.lock()));
            }
            call.sound()
        },
    ),
    defect(
        "does_not_name_the_holder",
        "host-local",
        "private/a_lock_timeout_names_a_stopped_plugin",
        |call| call.after_failure(|reply| reply.edit(|error| error["msg"] = json!("the store is busy"))),
    ),
    defect(
        "frees_another_machines_leases",
        "host-local",
        "host_local/machines_sharing_a_store_keep_each_others_leases",
        |call| {
            let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
            let foreign = fs::read_to_string(RECORD).is_ok_and(|text| !text.contains(machine.trim()));
            if call.verb == "ADD" && foreign {
                drop(fs::write(RECORD, format!("{} an-earlier-boot\n", machine.trim())));
            }
            call.sound()
        },
    ),
    defect(
        "gc_removes_another_machines_leases",
        "host-local",
        "host_local/gc_of_one_machine_keeps_another_machines_leases",
        |call| {
            if call.verb == "GC" {
                drop(fs::remove_file(RECORD));
            }
            call.sound()
        },
    ),
    defect(
        "keeps_a_boot_record_forever",
        "host-local",
        "host_local/the_last_release_removes_the_boot_record",
        |call| {
            let record = fs::read(RECORD);
            call.after(call.verb == "DEL", |_| drop(record.and_then(|bytes| fs::write(RECORD, bytes))))
        },
    ),
    defect(
        "leaves_a_rewritten_lease",
        "host-local",
        "host_local/a_lease_rewritten_in_place_is_released",
        |call| match call.verb.as_str() {
            "ADD" => call.after(true, |reply| {
                let result: Value = serde_json::from_slice(&reply.stdout).unwrap_or_default();
                let given = result["ips"][0]["address"].as_str().unwrap_or_default();
                drop(fs::write(memory(), given.split('/').next().unwrap_or_default()));
            }),
            "DEL" if is_rewritten() => Reply::nothing(),
            _ => call.sound(),
        },
    ),
    defect(
        "does_not_name_a_wrong_bound",
        "host-local",
        "host_local/a_range_bound_that_is_no_host_address_is_named",
        |call| {
            call.after_failure(|reply| reply.edit(|error| error["msg"] = json!("RangeStart not in network")))
        },
    ),
    defect(
        "names_only_part_of_a_path",
        "portmap",
        "stdin/wrong_types_in_a_previous_result_name_the_key",
        |call| {
            call.after_failure(|reply| {
                reply.edit(|error| {
                    let text = error["msg"].as_str().unwrap_or_default().replace("prevResult.", "");
                    error["msg"] = json!(text);
                });
            })
        },
    ),
    defect(
        "uses_two_codes_for_wrong_types",
        "macvlan",
        "stdin/wrong_types_name_the_key_in_every_plugin",
        |call| call.after_failure(|reply| reply.edit(|error| error["code"] = json!(7))),
    ),
];

fn open(path: &str, mode: u32) {
    drop(fs::set_permissions(path, Permissions::from_mode(mode)));
}

fn container() -> String {
    std::env::var("CNI_CONTAINERID").unwrap_or_default()
}

/// The container's address, as the defective plugin recorded it.
fn memory() -> String {
    format!("/run/seeded-{}", container())
}

/// Whether the lease of that address belongs to another container.
fn is_rewritten() -> bool {
    let text = |address: String| fs::read_to_string(format!("{NET}/{address}"));
    !fs::read_to_string(memory()).and_then(text).is_ok_and(|text| text.starts_with(&container()))
}
