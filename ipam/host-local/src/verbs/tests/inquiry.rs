//! CHECK, GC and STATUS.

use super::*;

/// HL-7, C-043.
#[test]
fn check_reports_expected_and_actual_leases() {
    let room = Room::new();
    let mut conf = room.conf(&small());
    let check = |conf: &Value| room.run("CHECK", "c1", "eth0", "", conf);
    let (_, error) = check(&conf);
    assert_eq!(error["msg"], json!("host-local: Failed to find address added by container c1"));
    room.add("c1", &small()).unwrap();
    assert_eq!(check(&conf).0, 0);
    let prev = |ip: &str| json!({ "cniVersion": "1.1.0", "ips": [{ "address": ip }] });
    conf["prevResult"] = prev("10.0.0.2/29");
    assert_eq!(check(&conf).0, 0);
    conf["prevResult"] = prev("192.0.2.7/24");
    assert_eq!(check(&conf).0, 0, "not of our ranges");
    conf["prevResult"] = prev("10.0.0.3/29");
    let (_, error) = check(&conf);
    assert_eq!(
        error["msg"],
        json!("host-local: lease of 10.0.0.3: expected: leased to c1 eth0, actual: not leased")
    );
    room.add("c2", &small()).unwrap();
    let (_, error) = check(&conf);
    assert!(error["msg"].as_str().unwrap().ends_with("actual: leased to c2 eth0"));
}

/// HL-R2
#[test]
fn gc_removes_exactly_the_stale_leases() {
    let room = Room::new();
    let ipam = json!({ "subnet": "10.0.0.0/24" });
    for id in 0..6 {
        room.add(&format!("c{id}"), &ipam).unwrap();
    }
    fs::write(room.lease("10.0.0.100"), "old").unwrap();
    fs::write(room.lease("10.0.0.101"), "gone").unwrap();
    fs::create_dir_all(room.data().join("other")).unwrap();
    fs::write(room.data().join("other/10.0.0.2"), "c9\r\neth0").unwrap();
    let gc = |valid: Option<Value>| {
        let mut conf = room.conf(&ipam);
        if let Some(valid) = valid {
            conf["cni.dev/valid-attachments"] = valid;
        }
        assert_eq!(room.run("GC", "", "", "", &conf), (0, Value::Null));
    };
    gc(None);
    assert_eq!(room.leases().len(), 8, "a request without the key collects nothing");
    gc(Some(json!([
        { "containerID": "c1", "ifname": "eth0" },
        { "containerID": "c4", "ifname": "eth0" },
        { "containerID": "c5", "ifname": "eth1" },
        { "containerID": "old", "ifname": "net1" },
    ])));
    assert_eq!(room.leases(), ["10.0.0.100", "10.0.0.3", "10.0.0.6"]);
    assert!(room.add("c1", &ipam).unwrap_err().contains("duplicate"), "the index knows who stayed");
    gc(Some(Value::Null));
    assert_eq!(room.files().into_keys().collect::<Vec<_>>(), ["last_reserved_ip.0", "lock"]);
    assert!(room.data().join("other/10.0.0.2").exists());
    assert!(!room.data().join(".moor/net.boot").exists(), "it goes with the last lease");
}

#[test]
fn gc_creates_no_directory() {
    let room = Room::new();
    let mut conf = room.conf(&small());
    conf["cni.dev/valid-attachments"] = json!([]);
    assert_eq!(room.run("GC", "", "", "", &conf).0, 0);
    assert!(!room.data().exists());
}

/// HL-R3, C-044.
#[test]
fn status_names_the_cause() {
    let room = Room::new();
    let status = |ipam: &Value| room.run("STATUS", "", "", "", &room.conf(ipam));
    assert_eq!(status(&small()), (0, Value::Null));
    assert!(!room.data().exists(), "STATUS makes nothing");
    for id in 0..5 {
        room.add(&format!("c{id}"), &small()).unwrap();
    }
    let (exit, error) = status(&small());
    assert_eq!((exit, &error["code"]), (1, &json!(50)));
    assert_eq!(error["msg"], json!("no IP addresses available in range set: 10.0.0.1-10.0.0.6"));
    fs::write(room.lease("10.0.0.4"), "").unwrap();
    assert_eq!(status(&small()).0, 0, "an empty file is a free address");
    assert_eq!(status(&json!({})).1["code"], json!(7));
    fs::remove_dir_all(room.data()).unwrap();
    fs::write(room.data(), "a file").unwrap();
    assert_eq!(status(&small()).1["code"], json!(50));
}
