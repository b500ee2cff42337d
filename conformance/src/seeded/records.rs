//! Defects of an older release beside the records of a newer one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::defect::{Defect, defect};
use super::wrapper::Reply;

const BOOT: &str = "/var/lib/cni/networks/.moor/net.boot";

/// The defects of this file.
pub const RECORDS: &[Defect] = &[
    defect("collects_newer_records", "portmap", "records/newer_packet_rules", |call| {
        if call.verb == "GC" {
            newer("intent").iter().for_each(|path| drop(fs::remove_file(path)));
        }
        call.sound()
    }),
    defect("takes_a_newer_record_for_a_dead_container", "portmap", ALIVE, |call| {
        if call.verb == "ADD" {
            newer("intent").iter().for_each(|path| drop(fs::remove_file(path)));
        }
        call.sound()
    }),
    defect("is_silent_about_a_newer_record", "tuning", "records/newer_settings", |call| {
        call.after(call.verb == "DEL", |reply| reply.stderr.clear())
    }),
    defect("keeps_a_device_with_a_newer_record", "host-device", "records/a_newer_device", |call| {
        if call.verb == "DEL" && !newer("device").is_empty() { Reply::nothing() } else { call.sound() }
    }),
    defect("fails_del_by_a_newer_record", "dns", "records/newer_names", |call| {
        let is_newer = !newer("dns").is_empty();
        if call.verb == "DEL" && is_newer { Reply::error(999, "upgrade dns") } else { call.sound() }
    }),
    defect("reads_a_newer_boot_record_as_its_own", "host-local", "records/a_newer_boot_record", |call| {
        if let Ok(text) = fs::read_to_string(BOOT) {
            drop(fs::write(BOOT, text.replace("v 2\n", "")));
        }
        call.sound()
    }),
    defect(
        "knows_no_chain_of_a_newer_layout",
        "portmap",
        "records/a_newer_layout_of_ports_goes_with_the_last",
        |call| {
            let listed =
                Command::new("nft").args(["list", "chain", "inet", "moor", "published-quux"]).output();
            let is_there = listed.is_ok_and(|listed| listed.status.success());
            if call.verb == "DEL" && is_there {
                Reply::error(999, "delete set localnet")
            } else {
                call.sound()
            }
        },
    ),
];

const ALIVE: &str = "records/a_newer_record_shows_that_a_container_is_alive";

/// The records of a newer release below a directory of `/run/moor`.
fn newer(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from("/run/moor").join(dir)];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let is_newer = |text: String| text.starts_with("v 2\n") || text.starts_with("{\"v\":2,");
            if path.is_dir() {
                dirs.push(path);
            } else if fs::read_to_string(&path).is_ok_and(is_newer) {
                found.push(path);
            }
        }
    }
    found
}
