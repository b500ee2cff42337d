//! Leases of an earlier boot.

use std::time::{Duration, SystemTime};

use super::*;

/// A node that is not ready gets no ADD, so STATUS itself must drop the leases of an earlier boot.
#[test]
fn status_after_a_reboot_ignores_old_leases() {
    let room = Room::new();
    for id in 0..5 {
        room.add(&format!("c{id}"), &small()).unwrap();
    }
    room.boot("second");
    assert_eq!(room.run("STATUS", "", "", "", &room.conf(&small())).0, 0);
}

/// HL-R4.
#[test]
fn a_reboot_frees_the_range_and_a_late_del_frees_nothing_of_the_new_owner() {
    let room = Room::new();
    for id in 0..5 {
        room.add(&format!("old{id}"), &small()).unwrap();
    }
    assert_eq!(room.add("new", &small()).unwrap_err(), EXHAUSTED);
    room.boot("second");
    assert_eq!(room.add("new0", &small()).unwrap(), ["10.0.0.2"]);
    assert_eq!(room.leases(), ["10.0.0.2"]);
    room.del("old0", &small());
    assert_eq!(room.leases(), ["10.0.0.2"]);
    assert_eq!(room.add("new1", &small()).unwrap(), ["10.0.0.3"]);
    assert_eq!(room.leases(), ["10.0.0.2", "10.0.0.3"], "one reboot reclaims once");
}

#[test]
fn reclaim_never_changes_nothing() {
    let room = Room::new();
    let never = json!({ "subnet": "10.0.0.0/29", "reclaim": "never" });
    for id in 0..5 {
        room.add(&format!("old{id}"), &never).unwrap();
    }
    let before = room.files();
    room.boot("second");
    assert_eq!(room.add("new", &never).unwrap_err(), EXHAUSTED);
    assert_eq!(room.files(), before);
    assert!(!room.data().join(".moor").exists());
}

/// `reclaim` is switched on while there are leases: this boot must be recorded at once, or the next
/// one would adopt them.
#[test]
fn reclaim_that_is_switched_on_late_works_at_the_next_boot() {
    let room = Room::new();
    let never = json!({ "subnet": "10.0.0.0/29", "reclaim": "never" });
    room.add("c1", &never).unwrap();
    room.add("c2", &small()).unwrap();
    assert_eq!(room.leases().len(), 2);
    room.boot("second");
    room.add("c3", &small()).unwrap();
    assert_eq!(room.leases(), ["10.0.0.4"]);
}

/// The reference used the store until now: its leases may be live at any age.
#[test]
fn the_first_operation_adopts_existing_leases() {
    let room = Room::new();
    fs::create_dir_all(room.dir()).unwrap();
    fs::write(room.lease("10.0.0.2"), "theirs\r\neth0").unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(room.lease("10.0.0.2")).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.3"]);
    room.boot("second");
    room.add("c2", &small()).unwrap();
    assert_eq!(room.leases().len(), 1, "the next boot drops both");
}

/// The reference leases an address after the reboot, before our first operation.
#[test]
fn a_lease_of_the_reference_from_this_boot_survives() {
    let room = Room::new();
    room.add("old", &small()).unwrap();
    room.boot("second");
    let now = SystemTime::now();
    for (ip, id, age) in [("10.0.0.4", "theirs", 0), ("10.0.0.5", "dead", 40 * 365 * 24 * 3600)] {
        fs::write(room.lease(ip), format!("{id}\r\neth0")).unwrap();
        let file = fs::File::options().write(true).open(room.lease(ip)).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    }
    // The store must be older than its leases, or their times are not trusted.
    let born = now - Duration::from_secs(41 * 365 * 24 * 3600);
    fs::File::open(room.lease("lock")).unwrap().set_modified(born).unwrap();
    assert_eq!(room.add("new", &small()).unwrap(), ["10.0.0.3"]);
    assert_eq!(room.leases(), ["10.0.0.3", "10.0.0.4"]);
}

#[test]
fn a_wrong_clock_drops_no_leases_of_the_reference() {
    let room = Room::new();
    room.add("old", &small()).unwrap();
    room.boot("second");
    fs::write(room.lease("10.0.0.4"), "theirs\r\neth0").unwrap();
    // A lease from 1970, when the clock was wrong: the lock file shows that the store is younger.
    fs::File::open(room.lease("10.0.0.4")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    room.add("new", &small()).unwrap();
    assert!(room.lease("10.0.0.4").exists());
}

/// What it says of boots is unknown, so no lease is taken for one of an earlier boot.
#[test]
fn a_boot_record_of_a_newer_release_drops_no_lease() {
    let room = Room::new();
    room.add("c1", &small()).unwrap();
    let record = room.data().join(".moor/net.boot");
    let text = fs::read_to_string(&record).unwrap();
    // Further words of a line are skipped.
    fs::write(&record, text.replace('\n', " more words\n")).unwrap();
    room.add("c2", &small()).unwrap();
    assert_eq!(room.leases(), ["10.0.0.2", "10.0.0.3"]);
    let newer = format!("v 2\n{text}");
    fs::write(&record, &newer).unwrap();
    room.boot("second");
    room.add("c3", &small()).unwrap();
    assert_eq!(room.leases(), ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    assert_eq!(fs::read_to_string(&record).unwrap(), newer);
    room.del("c2", &small());
    assert_eq!(room.leases(), ["10.0.0.2", "10.0.0.4"]);
}

/// The record is still of the old boot then.
#[test]
fn a_record_that_cannot_be_replaced_drops_no_lease_of_this_boot() {
    let room = Room::new();
    room.add("old", &small()).unwrap();
    let record = room.data().join(".moor/net.boot");
    // A reboot takes longer than a tick of the clock for file times.
    let now = SystemTime::now();
    for (path, age) in [(&room.lease("lock"), 30), (&room.lease("10.0.0.2"), 20), (&record, 10)] {
        fs::File::open(path).unwrap().set_modified(now - Duration::from_secs(age)).unwrap();
    }
    room.boot("second");
    // This blocks the temporary file for the new record.
    fs::create_dir(record.with_file_name(format!(".moor-net.boot-{}", std::process::id()))).unwrap();
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.3"]);
    assert_eq!(fs::read_to_string(&record).unwrap(), format!("{} first\n", "1".repeat(32)));
    fs::remove_dir_all(&room.plugin.roots.run).unwrap();
    assert_eq!(room.add("c2", &small()).unwrap(), ["10.0.0.4"]);
    assert_eq!(room.leases(), ["10.0.0.3", "10.0.0.4"]);
}

/// A lease does not name its machine.
#[test]
fn machines_that_share_a_directory_keep_each_others_leases() {
    let room = Room::new();
    room.add("a", &small()).unwrap();
    let become_machine = |id: &str, boot: &str| {
        room.machine(&id.repeat(32));
        room.boot(boot);
        fs::remove_dir_all(&room.plugin.roots.run).unwrap();
    };
    become_machine("2", "second");
    room.add("b", &small()).unwrap();
    become_machine("1", "third");
    room.add("c", &small()).unwrap();
    become_machine("2", "fourth");
    assert_eq!(room.run("GC", "", "", "", &gc(&room, json!([]))).0, 0);
    assert_eq!(room.leases(), ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    let record = fs::read_to_string(room.data().join(".moor/net.boot")).unwrap();
    assert_eq!(record, format!("{} fourth\n{} third\n", "2".repeat(32), "1".repeat(32)));
    for id in ["a", "b", "c"] {
        room.del(id, &small());
    }
    // Without leases, the directory may belong to one machine again.
    room.add("d", &small()).unwrap();
    room.boot("fifth");
    room.add("e", &small()).unwrap();
    assert_eq!(room.leases(), ["10.0.0.6"]);
}

fn gc(room: &Room, valid: Value) -> Value {
    let mut conf = room.conf(&small());
    conf["cni.dev/valid-attachments"] = valid;
    conf
}

#[test]
fn without_a_machine_id_nothing_is_reclaimed() {
    for id in ["", "uninitialized"] {
        let room = Room::new();
        room.machine(id);
        room.add("a", &small()).unwrap();
        room.boot("second");
        room.add("b", &small()).unwrap();
        // A machine with an id reclaims nothing either.
        room.machine(&"2".repeat(32));
        room.boot("third");
        room.add("c", &small()).unwrap();
        room.boot("fourth");
        room.add("d", &small()).unwrap();
        assert_eq!(room.leases().len(), 4, "machine-id {id:?}");
    }
}

/// Older versions only wrote the boot.
#[test]
fn a_record_without_a_machine_only_counts_in_this_boot() {
    let room = Room::new();
    room.add("a", &small()).unwrap();
    let record = room.data().join(".moor/net.boot");
    let old_record = |boot: &str| {
        fs::write(&record, boot).unwrap();
        fs::remove_dir_all(&room.plugin.roots.run).unwrap();
    };
    old_record("first");
    room.add("b", &small()).unwrap();
    room.boot("second");
    room.add("c", &small()).unwrap();
    assert_eq!(room.leases(), ["10.0.0.4"], "it was this machine's");
    old_record("another");
    room.add("d", &small()).unwrap();
    assert_eq!(room.leases(), ["10.0.0.4", "10.0.0.5"], "it may have been any machine's");
    room.boot("third");
    room.add("e", &small()).unwrap();
    assert_eq!(room.leases(), ["10.0.0.6"]);
}

#[test]
fn the_record_is_deleted_with_the_last_lease() {
    let room = Room::new();
    let record = room.data().join(".moor/net.boot");
    room.del("nobody", &small());
    assert!(!record.exists());
    room.add("a", &small()).unwrap();
    room.add("b", &small()).unwrap();
    room.del("a", &small());
    assert!(record.exists());
    room.del("b", &small());
    assert!(!record.exists());
    room.add("c", &small()).unwrap();
    assert!(record.exists());
    assert_eq!(room.run("GC", "", "", "", &gc(&room, json!([]))).0, 0);
    assert!(!record.exists() && room.leases().is_empty());
    // With the next lease, the boot is recorded again.
    room.add("d", &small()).unwrap();
    room.boot("second");
    room.add("e", &small()).unwrap();
    assert_eq!(room.leases(), ["10.0.0.6"]);
}
