//! ADD: addresses, results, and failures.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// HL-1: names, bytes, modes.
#[test]
fn the_first_lease_equals_the_references() {
    let room = Room::new();
    let (status, result) = room.run("ADD", "c1", "eth0", "", &room.conf(&json!({ "subnet": "10.1.2.0/24" })));
    assert_eq!(status, 0, "{result}");
    assert_eq!(
        result,
        json!({ "cniVersion": "1.1.0", "ips": [{ "address": "10.1.2.2/24", "gateway": "10.1.2.1" }] })
    );
    let files = room.files();
    let wanted = [("10.1.2.2", "c1\r\neth0"), ("last_reserved_ip.0", "10.1.2.2"), ("lock", "")];
    assert_eq!(files, wanted.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
    for (name, mode) in [("10.1.2.2", 0o600), ("last_reserved_ip.0", 0o600), ("lock", 0o750)] {
        let is = fs::metadata(room.lease(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(is & 0o700, mode & 0o700, "{name}");
        assert_eq!(is & !mode, 0, "{name}: {is:o}");
    }
}

/// HL-8.
#[test]
fn results_have_the_format_of_their_version() {
    let room = Room::new();
    let mut conf =
        room.conf(&json!({ "subnet": "10.1.2.0/24", "routes": [{ "dst": "0.0.0.0/0", "mtu": 1400 }] }));
    let expected = [
        (
            "1.0.0",
            json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.1.2.2/24", "gateway": "10.1.2.1" }],
            "routes": [{ "dst": "0.0.0.0/0", "mtu": 1400 }] }),
        ),
        (
            "0.4.0",
            json!({ "cniVersion": "0.4.0", "ips": [{ "version": "4", "address": "10.1.2.3/24",
            "gateway": "10.1.2.1" }], "routes": [{ "dst": "0.0.0.0/0", "mtu": 1400 }], "dns": {} }),
        ),
        (
            "0.2.0",
            json!({ "cniVersion": "0.2.0", "ip4": { "ip": "10.1.2.4/24", "gateway": "10.1.2.1",
            "routes": [{ "dst": "0.0.0.0/0" }] }, "dns": {} }),
        ),
    ];
    for (version, result) in expected {
        conf["cniVersion"] = json!(version);
        assert_eq!(room.run("ADD", version, "eth0", "", &conf), (0, result));
    }
}

#[test]
fn resolv_conf_goes_into_the_result_and_a_missing_one_fails_before_a_lease_is_made() {
    let room = Room::new();
    let path = room.home.path().join("resolv.conf");
    let mut conf = room.conf(&small());
    conf["ipam"]["resolvConf"] = json!(path);
    let error = room.add_conf("c1", &conf).unwrap_err();
    assert_eq!(error, format!("open {}: no such file or directory", path.display()));
    assert!(!room.dir().exists());
    fs::write(&path, "nameserver 192.0.2.53\n").unwrap();
    let (_, result) = room.run("ADD", "c1", "eth0", "", &conf);
    assert_eq!(result["dns"], json!({ "nameservers": ["192.0.2.53"] }));
}

/// HL-2, HL-3.
#[test]
fn allocation_continues_after_the_last_reserved_address() {
    for (pointer, given) in [
        ("10.0.0.5", "10.0.0.6"),
        ("10.0.0.6", "10.0.0.2"),
        ("10.0.0.128", "10.0.0.2"),
        ("10.0.0.5\n", "10.0.0.2"),
        ("", "10.0.0.2"),
        ("garbage", "10.0.0.2"),
    ] {
        let room = Room::new();
        fs::create_dir_all(room.dir()).unwrap();
        fs::write(room.lease("last_reserved_ip.0"), pointer).unwrap();
        assert_eq!(room.add("c1", &small()).unwrap(), [given], "{pointer:?}");
        assert_eq!(room.files()["last_reserved_ip.0"], given);
    }
}

/// HL-2: only the last reserved address itself is free.
#[test]
fn the_round_ends_at_the_last_reserved_address() {
    let room = Room::new();
    for id in 0..5 {
        room.add(&format!("c{id}"), &small()).unwrap();
    }
    room.del("c1", &small());
    fs::write(room.lease("last_reserved_ip.0"), "10.0.0.3").unwrap();
    assert_eq!(room.add("new", &small()).unwrap(), ["10.0.0.3"]);
    assert_eq!(room.add("more", &small()).unwrap_err(), EXHAUSTED);
}

#[test]
fn a_released_address_is_not_allocated_next() {
    let room = Room::new();
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.2"]);
    room.del("c1", &small());
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.3"]);
}

/// HL-4; operators search logs for the text.
#[test]
fn a_second_add_fails_and_the_first_lease_stays() {
    let room = Room::new();
    room.add("c1", &two_sets()).unwrap();
    let before = room.files();
    let error = room.add("c1", &two_sets()).unwrap_err();
    assert_eq!(
        error,
        "failed to allocate for range 0: 10.0.0.2 has been allocated to c1, duplicate allocation is not allowed"
    );
    assert_eq!(room.files(), before);
    let (status, result) = room.run("ADD", "c1", "eth1", "", &room.conf(&two_sets()));
    assert_eq!((status, &result["ips"][0]["address"]), (0, &json!("10.0.0.3/29")));
}

/// HL-B1: the reference skips the duplicate check for a requested address.
#[test]
fn a_requested_address_is_refused_if_there_is_a_lease() {
    let room = Room::new();
    room.add("c1", &small()).unwrap();
    let error = room.request("c1", &small(), json!(["10.0.0.5"])).unwrap_err();
    assert!(
        error.ends_with("10.0.0.2 has been allocated to c1, duplicate allocation is not allowed"),
        "{error}"
    );
    assert_eq!(room.leases(), ["10.0.0.2"]);
}

/// HL-B3: the reference's roll-back also removes the leases of an earlier ADD that succeeded.
#[test]
fn a_failed_add_only_releases_its_own_leases() {
    let room = Room::new();
    let first = json!({ "ranges": [[{ "subnet": "fd00::/126" }]] });
    room.add("c1", &first).unwrap();
    // The IPv4 set has a free address, the IPv6 set refuses the duplicate.
    let error = room.add("c1", &two_sets()).unwrap_err();
    assert!(error.starts_with("failed to allocate for range 1: fd00::2 has been allocated"), "{error}");
    assert_eq!(room.leases(), ["fd00::2"]);
    assert!(room.index_in_force());
}

#[test]
fn an_exhausted_second_set_leaves_no_lease_of_the_first() {
    let room = Room::new();
    room.add("c1", &two_sets()).unwrap();
    room.add("c2", &two_sets()).unwrap();
    let error = room.add("c3", &two_sets()).unwrap_err();
    assert_eq!(
        error,
        "failed to allocate for range 1: no IP addresses available in range set: fd00::1-fd00::3"
    );
    assert_eq!(room.leases().len(), 4);
}

/// HL-B6.
#[test]
fn an_unwritable_last_reserved_ip_leaves_no_lease() {
    let room = Room::new();
    fs::create_dir_all(room.lease("last_reserved_ip.0")).unwrap();
    let error = room.add("c1", &small()).unwrap_err();
    assert!(error.starts_with("failed to allocate for range 0: replace "), "{error}");
    let mut names: Vec<_> =
        fs::read_dir(room.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["last_reserved_ip.0", "lock"]);
}

/// HL-K9: one per set, in the order of the requests.
#[test]
fn requested_addresses_are_allocated_in_order_and_become_the_last_reserved() {
    let room = Room::new();
    let ips = room.request("c1", &two_sets(), json!(["fd00::3", "10.0.0.5", "::ffff:10.0.0.4"]));
    assert_eq!(ips.unwrap_err(), "failed to allocate all requested IPs: 10.0.0.4");
    assert!(room.leases().is_empty());
    assert_eq!(
        room.request("c1", &two_sets(), json!(["fd00::3", "10.0.0.5/8"])).unwrap(),
        ["10.0.0.5", "fd00::3"]
    );
    assert_eq!(room.files()["last_reserved_ip.0"], "10.0.0.5");
    assert_eq!(room.add("c2", &two_sets()).unwrap(), ["10.0.0.6", "fd00::2"]);
}

#[test]
fn the_error_of_an_impossible_request_has_the_reason() {
    let room = Room::new();
    let ipam = json!({ "ranges": [[{ "subnet": "10.0.0.0/29", "rangeStart": "10.0.0.0", "rangeEnd": "10.0.0.7" }]],
        "exclude": ["10.0.0.6", "192.0.2.0/24"] });
    room.request("other", &ipam, json!(["10.0.0.5"])).unwrap();
    let prefix = "failed to allocate for range 0: ";
    for (ip, text) in [
        ("10.0.0.1", "requested ip 10.0.0.1 is subnet's gateway"),
        ("10.0.0.5", "requested IP address 10.0.0.5 is not available in range set 10.0.0.0-10.0.0.7"),
        ("10.0.0.0", "requested ip 10.0.0.0 is the network address of 10.0.0.0/29"),
        ("10.0.0.7", "requested ip 10.0.0.7 is the broadcast address of 10.0.0.0/29"),
        ("10.0.0.6", "requested ip 10.0.0.6 is in the exclude list of the network"),
    ] {
        assert_eq!(room.request("c1", &ipam, json!([ip])).unwrap_err(), format!("{prefix}{text}"));
    }
    for ip in ["10.0.0.0", "10.9.9.9"] {
        let error = room.request("c1", &small(), json!([ip])).unwrap_err();
        assert_eq!(error, format!("failed to allocate all requested IPs: {ip}"));
    }
    assert_eq!(room.leases(), ["10.0.0.5"]);
}

/// HL-K9: `IP` of CNI_ARGS.
#[test]
fn cni_args_can_request_an_address() {
    let room = Room::new();
    let conf = room.conf(&small());
    let (_, result) = room.run("ADD", "c1", "eth0", "IgnoreUnknown=1;IP=10.0.0.4/8;K8S_POD_NAME=x", &conf);
    assert_eq!(result["ips"][0]["address"], json!("10.0.0.4/29"));
    let (_, result) = room.run("ADD", "c2", "eth0", "IP=", &conf);
    assert_eq!(result["ips"][0]["address"], json!("10.0.0.5/29"));
    let (status, error) = room.run("ADD", "c3", "eth0", "IP=x", &conf);
    assert_eq!(status, 1);
    assert_eq!(error["msg"], json!("ARGS: error parsing value of pair \"IP=x\": invalid IP address x"));
}

#[test]
fn excluded_addresses_are_never_allocated() {
    let room = Room::new();
    let ipam = json!({ "subnet": "10.0.0.0/29", "exclude": ["10.0.0.2", "10.0.0.4/31", "::/0"] });
    assert_eq!(room.add("c1", &ipam).unwrap(), ["10.0.0.3"]);
    assert_eq!(room.add("c2", &ipam).unwrap(), ["10.0.0.6"]);
    assert_eq!(room.add("c3", &ipam).unwrap_err(), EXHAUSTED);
}

/// HL-K11.
#[test]
fn a_released_address_cools_down_while_another_is_free() {
    let room = Room::new();
    let ipam = json!({ "subnet": "10.0.0.0/29", "cooldown": 3600 });
    for id in 0..3 {
        room.add(&format!("c{id}"), &ipam).unwrap();
    }
    room.del("c0", &ipam);
    fs::write(room.lease("last_reserved_ip.0"), "10.0.0.6").unwrap();
    assert_eq!(room.add("d0", &ipam).unwrap(), ["10.0.0.5"], "10.0.0.2 comes first and rests");
    assert_eq!(room.add("d1", &ipam).unwrap(), ["10.0.0.6"]);
    assert_eq!(room.add("d2", &ipam).unwrap(), ["10.0.0.2"]);
    assert_eq!(room.add("d3", &ipam).unwrap_err(), EXHAUSTED);
    room.del("d1", &ipam);
    assert_eq!(room.add("d4", &small()).unwrap(), ["10.0.0.6"], "no cooldown, so it is free");
}

#[test]
fn a_huge_range_costs_the_same_as_a_large_one() {
    let room = Room::new();
    let ipam = json!({ "ranges": [[{ "subnet": "10.0.0.0/8" }], [{ "subnet": "fd00::/64" }]],
        "exclude": ["10.0.0.0/9", "fd00::/65"] });
    assert_eq!(room.add("c1", &ipam).unwrap(), ["10.128.0.0", "fd00::8000:0:0:0"]);
    assert_eq!(room.run("STATUS", "", "", "", &room.conf(&ipam)).0, 0);
}
