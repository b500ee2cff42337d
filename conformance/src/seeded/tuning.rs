//! Defects of tuning: what is not set back, or is set back to the wrong value.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// The defects of this file.
pub const TUNING: &[Defect] = &[
    defect("leaves_a_parameter_set", "tuning", "tuning/del_sets_everything_back", |call| {
        call.after(call.verb == "DEL", |_| write("net/core/somaxconn", "500"))
    }),
    defect("forgets_the_first_backup", "tuning", "tuning/a_second_add_keeps_the_first_backup", |call| {
        if call.verb == "ADD" {
            fs::remove_dir_all("/run/moor/tuning").ok();
        }
        call.sound()
    }),
    defect("keeps_the_backup_of_a_dead_container", "tuning", "tuning/del_matrix", |call| {
        let path = std::env::var("CNI_NETNS").unwrap_or_default();
        match call.verb == "DEL" && !Path::new(&path).exists() {
            true => Reply::nothing(),
            false => call.sound(),
        }
    }),
    defect("prints_the_mac_address_as_written", "tuning", "tuning/settings_of_the_link", |call| {
        let mac = call.config().map(|config| config["mac"].clone()).unwrap_or_default();
        call.after(call.verb == "ADD" && mac.is_string(), |reply| {
            reply.edit(|result| result["interfaces"][0]["mac"] = mac);
        })
    }),
    defect("checks_no_parameter", "tuning", "tuning/check_names_every_drift", |call| {
        match call.verb.as_str() {
            "CHECK" => call.without("sysctl"),
            _ => call.sound(),
        }
    }),
    defect("ignores_the_allow_list", "tuning", "tuning/allow_list", |call| {
        if call.verb == "ADD" {
            fs::remove_file("/etc/cni/tuning/allowlist.conf").ok();
        }
        call.sound()
    }),
    defect("collects_valid_attachments", "tuning", "tuning/gc_sets_back_dead_attachments", |call| match call
        .verb
        .as_str()
    {
        "GC" => call.with(|config| config["cni.dev/valid-attachments"] = json!([])),
        _ => call.sound(),
    }),
];

/// Sets a parameter of the container.
fn write(key: &str, value: &str) {
    let netns = std::env::var("CNI_NETNS").unwrap_or_default();
    if let Some(name) = netns.rsplit('/').next() {
        let set = || Ok(fs::write(Path::new("/proc/sys").join(key), value)?);
        harness::namespace::inside(name, set).ok();
    }
}
