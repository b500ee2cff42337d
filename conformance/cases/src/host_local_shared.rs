//! host-local: a store that several machines share, boot records, leases that are rewritten in
//! place, and range bounds that are no host addresses.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::room::Room;
use harness::store::{self, NET};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::host_local::{add, attach, given, ranges};

pub const CASES: &[Case] = &[
    Case::new("host_local/machines_sharing_a_store_keep_each_others_leases", &["HL-R7"], machines),
    Case::new("host_local/gc_of_one_machine_keeps_another_machines_leases", &["HL-R7"], gc),
    Case::new("host_local/a_machine_without_an_id_reclaims_nothing", &["HL-R7"], no_id),
    Case::new("host_local/an_older_versions_boot_record_keeps_live_leases", &["HL-R7"], old),
    Case::new("host_local/the_last_release_removes_the_boot_record", &["HL-R8"], record),
    Case::new("host_local/a_lease_rewritten_in_place_is_released", &["HL-R9"], rewritten),
    Case::new("host_local/a_range_bound_that_is_no_host_address_is_named", &["HL-R10"], bounds),
];

fn config() -> Value {
    ranges(json!([[{"subnet": "10.0.0.0/28"}]]))
}

/// Makes this room another machine, or the same one after a reboot: /run is lost with the kernel's
/// memory.
fn machine(room: &Room, number: u32) -> Result<()> {
    room.become_machine(number)?;
    fs::remove_dir_all("/run/moor").ok();
    Ok(())
}

/// Simulates a reboot of this machine.
fn boot(room: &Room, number: u32) -> Result<()> {
    let id = room.write("boot_id", format!("00000000-0000-4000-9000-{number:012x}\n"))?;
    let target = "/proc/sys/kernel/random/boot_id";
    mount(Some(&id), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("cover the boot id")?;
    fs::remove_dir_all("/run/moor").ok();
    Ok(())
}

fn lease(room: &Room, id: &str) -> Result<()> {
    add(room, id, &config())?.result().map(drop)
}

fn ensure_leased(owners: &[&str], when: &str) -> Result<()> {
    let mut wanted: Vec<String> = owners.iter().map(|id| store::content(id, "eth0")).collect();
    let mut found: Vec<String> = store::leases(NET)?.into_iter().map(|(_, text)| text).collect();
    wanted.sort();
    found.sort();
    ensure!(found == wanted, "{when}: leased to {found:?}, not to {wanted:?}");
    Ok(())
}

fn machines(room: &Room) -> Result<()> {
    machine(room, 1)?;
    lease(room, "a1")?;
    machine(room, 2)?;
    lease(room, "b1")?;
    ensure_leased(&["a1", "b1"], "another machine's first ADD")?;
    machine(room, 1)?;
    lease(room, "a2")?;
    ensure_leased(&["a1", "a2", "b1"], "the first one's next")?;
    boot(room, 11)?;
    lease(room, "a3")?;
    ensure_leased(&["a1", "a2", "a3", "b1"], "after a reboot of one that is not alone")?;
    for id in ["a1", "a2", "a3", "b1"] {
        attach(room, "DEL", id, &config())?.silent()?;
    }
    // When one machine is left, a reboot frees its earlier leases.
    lease(room, "a4")?;
    boot(room, 12)?;
    lease(room, "a5")?;
    ensure_leased(&["a5"], "after a reboot of one that is alone")
}

fn gc(room: &Room) -> Result<()> {
    machine(room, 1)?;
    lease(room, "a1")?;
    machine(room, 2)?;
    let keys = json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": []});
    for round in ["before its first ADD", "after it"] {
        room.call("host-local", "GC").config(&with(&config(), keys.clone())).run()?.silent()?;
        ensure!(
            store::leases(NET)?.iter().any(|(_, text)| text.starts_with("a1\r")),
            "{round}: a1's is gone"
        );
        lease(room, &format!("b {round}").replace(' ', "-"))?;
    }
    Ok(())
}

fn no_id(room: &Room) -> Result<()> {
    for id in ["", "uninitialized\n"] {
        let none = room.write("no-machine", id)?;
        let target = "/etc/machine-id";
        mount(Some(&none), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("remove the id")?;
        boot(room, 21)?;
        lease(room, "a")?;
        boot(room, 22)?;
        lease(room, "b")?;
        ensure_leased(&["a", "b"], &format!("machine-id {id:?}"))?;
        // A machine that has an id reclaims nothing either: the leases may be those of a machine
        // without one.
        machine(room, 3)?;
        lease(room, "c")?;
        boot(room, 23)?;
        lease(room, "d")?;
        ensure_leased(&["a", "b", "c", "d"], &format!("beside one with machine-id {id:?}"))?;
        fs::remove_dir_all("/var/lib/cni/networks")?;
    }
    Ok(())
}

/// Only a boot is recorded: its machine may be this one or any other.
fn old(room: &Room) -> Result<()> {
    machine(room, 1)?;
    for (record, boots) in [("00000000-0000-4000-8000-000000000009", 2), ("", 2), ("\u{0}what", 2)] {
        store::write(NET, "10.0.0.9", &store::content("old", "eth0"))?;
        store::write("/var/lib/cni/networks/.moor", "net.boot", record)?;
        fs::remove_dir_all("/run/moor").ok();
        lease(room, "new")?;
        ensure_leased(&["new", "old"], &format!("beside the record {record:?}"))?;
        for number in 0..boots {
            boot(room, 30 + number)?;
            lease(room, &format!("boot{number}"))?;
        }
        ensure_leased(
            &[&format!("boot{}", boots - 1)],
            &format!("{boots} boots after the record {record:?}"),
        )?;
        fs::remove_dir_all("/var/lib/cni/networks")?;
    }
    Ok(())
}

fn record(room: &Room) -> Result<()> {
    let left = || -> Vec<String> {
        let entries = fs::read_dir("/var/lib/cni/networks/.moor").into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    for id in ["a", "b"] {
        lease(room, id)?;
    }
    for (id, stays) in [("a", true), ("b", false), ("b", false)] {
        attach(room, "DEL", id, &config())?.silent()?;
        ensure!(left().is_empty() != stays, "after the DEL of {id} there is {:?}", left());
    }
    lease(room, "c")?;
    let keys = json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": []});
    room.call("host-local", "GC").config(&with(&config(), keys)).run()?.silent()?;
    ensure!(left().is_empty(), "after GC there is {:?}", left());
    // The new lease is still reclaimed at the next boot.
    lease(room, "d")?;
    boot(room, 41)?;
    lease(room, "e")?;
    ensure_leased(&["e"], "after a reboot")
}

fn rewritten(room: &Room) -> Result<()> {
    let mut address = vec![];
    for id in ["a", "b", "c"] {
        address.extend(given(&add(room, id, &config())?.result()?));
    }
    let time = || -> Result<(i64, i64)> {
        let meta = fs::metadata(NET)?;
        Ok((meta.mtime(), meta.mtime_nsec()))
    };
    let before = time()?;
    // Two leases swap files, and one gets another owner: the store's index is wrong in every entry.
    for (address, id) in address.iter().zip(["b", "a", "d"]) {
        fs::write(Path::new(NET).join(address), store::content(id, "eth0"))?;
    }
    ensure!(time()? == before, "the directory's time has moved");
    let previous = json!({"cniVersion": "1.0.0", "ips": [{"address": format!("{}/28", address[2])}]});
    let check = |id: &str| attach(room, "CHECK", id, &with(&config(), json!({"prevResult": previous})));
    check("d")?.silent().context("CHECK of the new owner")?;
    check("c")?.error().context("CHECK of the former owner")?;
    for (id, left) in [("a", &["b", "d"][..]), ("c", &["b", "d"]), ("d", &["b"]), ("b", &[])] {
        attach(room, "DEL", id, &config())?.silent()?;
        ensure_leased(left, &format!("after the DEL of {id}"))?;
    }
    Ok(())
}

fn bounds(room: &Room) -> Result<()> {
    for (start, end, what, named) in [
        ("10.0.0.15", "", "broadcast address", "10.0.0.15"),
        ("10.0.0.15", "10.0.0.15", "broadcast address", "10.0.0.15"),
        ("", "10.0.0.0", "network address", "10.0.0.0"),
        ("10.0.0.0", "10.0.0.0", "network address", "10.0.0.0"),
        ("10.0.0.9", "10.0.0.8", "after the range's end 10.0.0.8", "10.0.0.9"),
    ] {
        let range = json!([[{"subnet": "10.0.0.0/28", "rangeStart": start, "rangeEnd": end}]]);
        for verb in ["ADD", "STATUS"] {
            let config = with(&ranges(range.clone()), json!({"cniVersion": "1.1.0"}));
            let answer = match verb {
                "STATUS" => room.call("host-local", verb).config(&config).run()?,
                _ => attach(room, verb, "a", &config)?,
            };
            let error = answer.error_with(7, what).with_context(|| format!("{verb} {start}-{end}"))?;
            ensure!(error.msg.contains(named), "{verb} {start}-{end}: {error}");
        }
    }
    // Among other addresses, they are skipped.
    let whole = json!([[{"subnet": "10.0.0.0/30", "rangeStart": "10.0.0.0", "rangeEnd": "10.0.0.3"}]]);
    let got = given(&add(room, "a", &ranges(whole))?.result()?);
    ensure!(got == ["10.0.0.2"], "a whole subnet gives {got:?}");
    Ok(())
}
