//! The index of leases is only a cache.

use super::*;

#[test]
fn no_state_of_the_index_loses_a_lease() {
    for spoil in [
        (|path| fs::remove_file(path).unwrap()) as fn(&Path),
        |path| fs::write(path, "garbage").unwrap(),
        |path| fs::write(path, [0xff; 100_000]).unwrap(),
        |path| fs::write(path, &fs::read(path).unwrap()[..64]).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ] {
        let room = Room::new();
        room.add("c1", &small()).unwrap();
        room.add("c2", &small()).unwrap();
        assert!(room.index_in_force());
        spoil(&room.index_path());
        assert!(room.add("c1", &small()).unwrap_err().contains("duplicate allocation is not allowed"));
        spoil_again(&room, spoil);
        room.del("c1", &small());
        assert_eq!(room.leases(), ["10.0.0.3"]);
    }

    fn spoil_again(room: &Room, spoil: fn(&Path)) {
        if room.index_path().is_file() {
            spoil(&room.index_path());
        }
    }
}

#[test]
fn a_missing_index_is_not_a_failure() {
    let room = Room::new();
    fs::write(room.plugin.roots.run.parent().unwrap(), "not a directory").unwrap();
    let ipam = json!({ "subnet": "10.0.0.0/29", "cooldown": 60 });
    room.add("c1", &ipam).unwrap();
    assert!(room.add("c1", &ipam).is_err());
    room.del("c1", &ipam);
    assert!(room.leases().is_empty());
}

/// With a valid index, an ADD reads no other lease.
#[test]
fn a_change_by_the_reference_makes_the_index_invalid() {
    let room = Room::new();
    room.add("c1", &small()).unwrap();
    assert!(room.index_in_force());
    fs::write(room.lease("10.0.0.6"), "theirs\r\neth0").unwrap();
    assert!(!room.index_in_force());
    assert!(room.add("theirs", &small()).unwrap_err().contains("10.0.0.6 has been allocated"));
    assert!(room.index_in_force());
    fs::remove_file(room.lease("10.0.0.2")).unwrap();
    assert_eq!(room.request("c1", &small(), json!(["10.0.0.2"])).unwrap(), ["10.0.0.2"]);
}

/// The directory's time does not change, so the index stays valid.
#[test]
fn a_lease_that_was_rewritten_in_place_has_its_new_holder() {
    let room = Room::new();
    room.add("c1", &small()).unwrap();
    room.add("c2", &small()).unwrap();
    fs::write(room.lease("10.0.0.2"), "c3\r\neth0").unwrap();
    assert!(room.index_in_force());
    let prev = json!({ "cniVersion": "1.1.0", "ips": [{ "address": "10.0.0.2/29" }] });
    let check = |id: &str| {
        let mut conf = room.conf(&small());
        conf["prevResult"] = prev.clone();
        room.run("CHECK", id, "eth0", "", &conf).0
    };
    assert_eq!((check("c3"), check("c1")), (0, 1));
    room.del("c1", &small());
    assert_eq!(room.leases(), ["10.0.0.2", "10.0.0.3"]);
    fs::write(room.lease("10.0.0.3"), "c4\r\neth0").unwrap();
    room.del("c4", &small());
    room.del("c2", &small());
    assert_eq!(room.leases(), ["10.0.0.2"]);
    room.del("c3", &small());
    assert!(room.leases().is_empty());
}
