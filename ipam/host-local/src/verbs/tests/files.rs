//! Lease files of both suites, and DEL.

use super::*;

/// HL-B5: a reference that is killed between create and write leaves one.
#[test]
fn an_empty_lease_file_is_a_free_address() {
    let room = Room::new();
    fs::create_dir_all(room.dir()).unwrap();
    fs::write(room.lease("10.0.0.2"), "").unwrap();
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.2"]);
    // Emptied in place, which does not change the directory's time.
    for id in 2..6 {
        room.add(&format!("c{id}"), &small()).unwrap();
    }
    fs::write(room.lease("10.0.0.4"), "").unwrap();
    assert!(room.index_in_force());
    assert_eq!(room.add("c9", &small()).unwrap(), ["10.0.0.4"]);
    fs::write(room.lease("10.0.0.5"), "").unwrap();
    assert_eq!(room.request("c8", &small(), json!(["10.0.0.5"])).unwrap(), ["10.0.0.5"]);
}

/// HL-11.
#[test]
fn foreign_files_with_the_name_of_an_address_occupy_it() {
    let room = Room::new();
    fs::create_dir_all(room.lease("10.0.0.2")).unwrap();
    fs::write(room.lease("10.0.0.3"), "somebody").unwrap();
    std::os::unix::fs::symlink("/nonexistent", room.lease("10.0.0.4")).unwrap();
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.5"]);
    room.del("c1", &small());
}

/// HL-10: references before 0.7 wrote only the id.
#[test]
fn legacy_leases_count_and_are_released_if_there_is_no_other() {
    let room = Room::new();
    fs::create_dir_all(room.dir()).unwrap();
    fs::write(room.lease("10.0.0.2"), "c1\n").unwrap();
    let error = room.add("c1", &small()).unwrap_err();
    assert!(error.contains("10.0.0.2 has been allocated to c1"), "{error}");
    let (status, _) = room.run("CHECK", "c1", "eth0", "", &room.conf(&small()));
    assert_eq!(status, 0);
    fs::write(room.lease("10.0.0.3"), "c1\r\neth0").unwrap();
    room.del("c1", &small());
    assert_eq!(room.leases(), ["10.0.0.2"], "the exact one alone");
    room.del("c1", &small());
    assert!(room.leases().is_empty());
}

/// HL-1: only CR LF matches. HL-B7, HL-B8: directories of other networks, and an id that is an
/// address.
#[test]
fn del_only_removes_the_owners_leases() {
    let room = Room::new();
    room.add("keep", &small()).unwrap();
    fs::write(room.lease("10.0.0.5"), "c1\neth0").unwrap();
    fs::write(room.lease("last_reserved_ip.7"), "10.0.0.9").unwrap();
    fs::create_dir(room.lease("nested")).unwrap();
    fs::write(room.dir().join("nested/10.0.0.6"), "c1\r\neth0").unwrap();
    fs::write(room.lease("note"), "c1\r\neth0").unwrap();
    fs::write(room.lease("010.0.0.1"), "c1\r\neth0").unwrap();
    fs::write(room.lease("::FFFF"), "c1\r\neth0").unwrap();
    for id in ["c1", "10.0.0.9"] {
        room.del(id, &small());
    }
    for name in
        ["10.0.0.2", "10.0.0.5", "last_reserved_ip.7", "nested/10.0.0.6", "note", "010.0.0.1", "::FFFF"]
    {
        assert!(room.lease(name).exists(), "{name}");
    }
}

/// C-042.
#[test]
fn del_without_an_add_succeeds_and_creates_the_directory() {
    let room = Room::new();
    room.del("c1", &small());
    room.del("c1", &small());
    assert_eq!(room.files().into_keys().collect::<Vec<_>>(), ["lock"]);
}

/// HL-R1.
#[test]
fn del_releases_the_lease_if_the_rest_of_the_configuration_is_wrong() {
    for broken in [
        json!({ "subnet": "10.0.0.1/29" }),
        json!({ "ranges": "x" }),
        json!({}),
        json!({ "subnet": "10.0.0.0/29", "routes": [{}] }),
    ] {
        let room = Room::new();
        room.add("c1", &small()).unwrap();
        room.del("c1", &broken);
        assert!(room.leases().is_empty(), "{broken}");
    }
    let room = Room::new();
    room.add("c1", &small()).unwrap();
    let (status, _) = room.run("DEL", "c1", "eth0", "IP=nonsense;x", &room.conf(&small()));
    assert_eq!((status, room.leases().len()), (0, 0));
}

#[test]
fn del_succeeds_if_there_can_be_no_lease() {
    let room = Room::new();
    fs::write(room.data(), "a file").unwrap();
    room.del("c1", &small());
    let (status, error) = room.run("ADD", "c1", "eth0", "", &room.conf(&small()));
    assert_eq!(
        (status, &error["code"], &error["details"]),
        (1, &json!(999), &json!("errno=ENOTDIR")),
        "{error}"
    );
}

#[test]
fn a_network_name_that_is_too_long_for_a_directory_only_fails_add() {
    let room = Room::new();
    let mut conf = room.conf(&small());
    conf["name"] = json!("n".repeat(300));
    let (status, error) = room.run("ADD", "c1", "eth0", "", &conf);
    assert_eq!((status, &error["details"]), (1, &json!("errno=ENAMETOOLONG")));
    assert_eq!(room.run("DEL", "c1", "eth0", "", &conf), (0, Value::Null));
}

#[test]
fn temporary_files_of_killed_processes_are_removed() {
    let room = Room::new();
    room.add("c1", &small()).unwrap();
    fs::write(room.lease(".moor-draft-1"), "c2\r\neth0").unwrap();
    fs::write(room.lease(".moor-last_reserved_ip.0-1"), "").unwrap();
    room.del("c2", &small());
    assert_eq!(room.files().into_keys().collect::<Vec<_>>(), ["10.0.0.2", "last_reserved_ip.0", "lock"]);
}

#[test]
fn ids_may_have_any_length() {
    let room = Room::new();
    let long = "a".repeat(100_000);
    room.add(&long, &small()).unwrap();
    assert!(room.add(&long, &small()).is_err());
    fs::remove_dir_all(&room.plugin.roots.run).unwrap();
    room.del(&long, &small());
    assert!(room.leases().is_empty());
}
