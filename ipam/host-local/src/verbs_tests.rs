use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cni::Env;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A host of its own: data directory, run directory and boot id, all in a temporary directory.
struct Room {
    home: tempfile::TempDir,
    plugin: HostLocal,
}

impl Room {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let roots = Roots { run: home.path().join("run"), boot_id: home.path().join("boot_id") };
        let room = Self { plugin: HostLocal { roots }, home };
        room.boot("first");
        room
    }

    fn boot(&self, id: &str) {
        fs::write(&self.plugin.roots.boot_id, format!("{id}\n")).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn dir(&self) -> PathBuf {
        self.data().join("net")
    }

    fn lease(&self, ip: &str) -> PathBuf {
        self.dir().join(ip)
    }

    fn conf(&self, ipam: &Value) -> Value {
        let mut ipam = ipam.clone();
        ipam["dataDir"] = json!(self.data());
        json!({ "cniVersion": "1.1.0", "name": "net", "type": "x", "ipam": ipam })
    }

    /// The exit status and what was printed.
    fn run(&self, command: &str, id: &str, ifname: &str, args: &str, conf: &Value) -> (u8, Value) {
        let env: Env = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", "/nowhere"),
            ("CNI_IFNAME", ifname),
            ("CNI_ARGS", args),
            ("CNI_PATH", "/nowhere"),
        ]
        .into_iter()
        .collect();
        let (mut out, mut log) = (Vec::new(), Vec::new());
        let status = cni::run(&self.plugin, &env, &mut conf.to_string().as_bytes(), &mut out, &mut log);
        let printed = if out.is_empty() { Value::Null } else { serde_json::from_slice(&out).unwrap() };
        (status, printed)
    }

    fn add_conf(&self, id: &str, conf: &Value) -> Result<Vec<String>, String> {
        match self.run("ADD", id, "eth0", "", conf) {
            (0, result) => {
                let ips = result["ips"].as_array().unwrap().iter();
                Ok(ips
                    .map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned())
                    .collect())
            }
            (_, error) => Err(error["msg"].as_str().unwrap().to_owned()),
        }
    }

    fn add(&self, id: &str, ipam: &Value) -> Result<Vec<String>, String> {
        self.add_conf(id, &self.conf(ipam))
    }

    fn del(&self, id: &str, ipam: &Value) {
        assert_eq!(self.run("DEL", id, "eth0", "", &self.conf(ipam)), (0, Value::Null));
    }

    fn request(&self, id: &str, ipam: &Value, ips: Value) -> Result<Vec<String>, String> {
        let mut conf = self.conf(ipam);
        conf["runtimeConfig"] = json!({ "ips": ips });
        self.add_conf(id, &conf)
    }

    /// Every file of the network directory with its content.
    fn files(&self) -> BTreeMap<String, String> {
        let read = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        };
        fs::read_dir(self.dir()).unwrap().map(|entry| read(entry.unwrap())).collect()
    }

    fn leases(&self) -> Vec<String> {
        self.files().into_keys().filter(|name| name.parse::<IpAddr>().is_ok()).collect()
    }

    /// Whether the next operation would believe the index.
    fn index_in_force(&self) -> bool {
        let meta = fs::metadata(self.dir()).unwrap();
        let boot = crate::index::key(&self.plugin.roots.boot_id().unwrap());
        let mtime = crate::boot::mtime_nanos(&meta);
        crate::index::Index::open(&self.index_path(), boot, mtime).is_some()
    }

    fn index_path(&self) -> PathBuf {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(self.dir()).unwrap();
        self.plugin.roots.run.join(format!("{:x}-{:x}", meta.dev(), meta.ino()))
    }
}

fn small() -> Value {
    json!({ "subnet": "10.0.0.0/29" })
}

fn two_sets() -> Value {
    json!({ "ranges": [[{ "subnet": "10.0.0.0/29" }], [{ "subnet": "fd00::/126" }]] })
}

const EXHAUSTED: &str =
    "failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.6";

/// Section 3 and section 9, first row: names, bytes, modes.
#[test]
fn the_first_lease_is_byte_for_byte_the_references() {
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

/// Section 6: what an answer of every shape looks like.
#[test]
fn results_have_the_shape_of_their_version() {
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

/// Section 9: the pointer's rows.
#[test]
fn allocation_goes_on_from_the_pointer() {
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

/// Section 9: only the last-reserved address itself is free.
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
fn a_freed_address_is_not_the_next_one_given() {
    let room = Room::new();
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.2"]);
    room.del("c1", &small());
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.3"]);
}

/// Section 9; the text is searched for by operators (section 8, rule 6).
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

/// Section 4, BUG: the reference skips the duplicate check for a requested address.
#[test]
fn a_requested_address_does_not_make_a_second_lease() {
    let room = Room::new();
    room.add("c1", &small()).unwrap();
    let error = room.request("c1", &small(), json!(["10.0.0.5"])).unwrap_err();
    assert!(
        error.ends_with("10.0.0.2 has been allocated to c1, duplicate allocation is not allowed"),
        "{error}"
    );
    assert_eq!(room.leases(), ["10.0.0.2"]);
}

/// Section 4, BUG: the reference's roll-back takes the leases of an earlier, successful ADD along.
#[test]
fn a_failing_add_takes_back_its_own_leases_only() {
    let room = Room::new();
    let first = json!({ "ranges": [[{ "subnet": "fd00::/126" }]] });
    room.add("c1", &first).unwrap();
    // The IPv4 set can serve, the IPv6 set refuses the duplicate.
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

/// Section 7: `last_reserved_ip` cannot be written.
#[test]
fn a_pointer_that_cannot_be_written_leaves_no_lease() {
    let room = Room::new();
    fs::create_dir_all(room.lease("last_reserved_ip.0")).unwrap();
    let error = room.add("c1", &small()).unwrap_err();
    assert!(error.starts_with("failed to allocate for range 0: replace "), "{error}");
    let mut names: Vec<_> =
        fs::read_dir(room.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["last_reserved_ip.0", "lock"]);
}

/// Section 4: one per set, in the order in which they are asked for.
#[test]
fn requested_addresses_are_served_in_order_and_move_the_pointer() {
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
fn requests_that_cannot_be_served_say_why() {
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

/// Section 1: `IP` of CNI_ARGS.
#[test]
fn the_environment_can_ask_for_an_address() {
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
fn excluded_addresses_are_never_given() {
    let room = Room::new();
    let ipam = json!({ "subnet": "10.0.0.0/29", "exclude": ["10.0.0.2", "10.0.0.4/31", "::/0"] });
    assert_eq!(room.add("c1", &ipam).unwrap(), ["10.0.0.3"]);
    assert_eq!(room.add("c2", &ipam).unwrap(), ["10.0.0.6"]);
    assert_eq!(room.add("c3", &ipam).unwrap_err(), EXHAUSTED);
}

/// NEEDS row 42: no address inside its rest while another is free; under pressure it is given.
#[test]
fn a_freed_address_rests_while_another_is_free() {
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
    assert_eq!(room.add("d4", &small()).unwrap(), ["10.0.0.6"], "no cooldown, no rest");
}

/// Section 7: what a reference that was killed between create and write leaves.
#[test]
fn an_empty_lease_file_is_a_free_address() {
    let room = Room::new();
    fs::create_dir_all(room.dir()).unwrap();
    fs::write(room.lease("10.0.0.2"), "").unwrap();
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.2"]);
    // Emptied in place, which the directory's time does not tell.
    for id in 2..6 {
        room.add(&format!("c{id}"), &small()).unwrap();
    }
    fs::write(room.lease("10.0.0.4"), "").unwrap();
    assert!(room.index_in_force());
    assert_eq!(room.add("c9", &small()).unwrap(), ["10.0.0.4"]);
    fs::write(room.lease("10.0.0.5"), "").unwrap();
    assert_eq!(room.request("c8", &small(), json!(["10.0.0.5"])).unwrap(), ["10.0.0.5"]);
}

/// Section 8, rule 4.
#[test]
fn foreign_things_named_as_addresses_are_taken() {
    let room = Room::new();
    fs::create_dir_all(room.lease("10.0.0.2")).unwrap();
    fs::write(room.lease("10.0.0.3"), "somebody").unwrap();
    std::os::unix::fs::symlink("/nonexistent", room.lease("10.0.0.4")).unwrap();
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.5"]);
    room.del("c1", &small());
}

/// Section 8, rule 2: leases with the id alone, of references before 0.7.
#[test]
fn legacy_leases_count_and_are_freed_when_there_is_no_other() {
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

/// Section 3: only CR LF matches. Section 7: an id that is an address, and other networks below this one.
#[test]
fn del_takes_nothing_but_the_owners_lease_files() {
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

/// C-042, section 8 rule 5.
#[test]
fn del_of_what_never_was_succeeds_and_makes_the_directory() {
    let room = Room::new();
    room.del("c1", &small());
    room.del("c1", &small());
    assert_eq!(room.files().into_keys().collect::<Vec<_>>(), ["lock"]);
}

/// Section 1, REC.
#[test]
fn del_frees_the_lease_although_the_rest_of_the_configuration_is_wrong() {
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
fn del_succeeds_where_no_lease_can_be() {
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
fn a_network_name_that_no_directory_can_have_is_an_error_of_add_alone() {
    let room = Room::new();
    let mut conf = room.conf(&small());
    conf["name"] = json!("n".repeat(300));
    let (status, error) = room.run("ADD", "c1", "eth0", "", &conf);
    assert_eq!((status, &error["details"]), (1, &json!("errno=ENAMETOOLONG")));
    assert_eq!(room.run("DEL", "c1", "eth0", "", &conf), (0, Value::Null));
}

#[test]
fn a_lease_is_lost_by_no_state_of_the_index() {
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
fn no_index_at_all_is_no_failure() {
    let room = Room::new();
    fs::write(&room.plugin.roots.run, "not a directory").unwrap();
    let ipam = json!({ "subnet": "10.0.0.0/29", "cooldown": 60 });
    room.add("c1", &ipam).unwrap();
    assert!(room.add("c1", &ipam).is_err());
    room.del("c1", &ipam);
    assert!(room.leases().is_empty());
}

/// What the index is for: with it in force, an ADD finds no other's lease worth reading.
#[test]
fn a_change_by_the_reference_takes_the_index_out_of_force() {
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

/// Section 5 with C-043.
#[test]
fn check_says_what_is_expected_and_what_is() {
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

/// NEEDS row 4: exactly the stale ones go.
#[test]
fn gc_removes_exactly_what_is_not_valid() {
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
    assert_eq!(room.leases().len(), 8, "a request that does not say collects nothing");
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
    assert!(room.data().join(".moor/net.boot").exists());
}

#[test]
fn gc_of_a_network_without_a_directory_makes_none() {
    let room = Room::new();
    let mut conf = room.conf(&small());
    conf["cni.dev/valid-attachments"] = json!([]);
    assert_eq!(room.run("GC", "", "", "", &conf).0, 0);
    assert!(!room.data().exists());
}

/// Section 5, REC; C-044.
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

/// A node that is not ready gets no ADD; so STATUS itself must find that the leases are of an earlier boot.
#[test]
fn status_after_a_reboot_is_not_deceived_by_old_leases() {
    let room = Room::new();
    for id in 0..5 {
        room.add(&format!("c{id}"), &small()).unwrap();
    }
    room.boot("second");
    assert_eq!(room.run("STATUS", "", "", "", &room.conf(&small())).0, 0);
}

/// NEEDS row 1.
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

/// `reclaim` is switched on while leases live: this boot must be recorded at once, or the next one would adopt them.
#[test]
fn reclaim_that_is_switched_on_late_serves_the_next_boot() {
    let room = Room::new();
    let never = json!({ "subnet": "10.0.0.0/29", "reclaim": "never" });
    room.add("c1", &never).unwrap();
    room.add("c2", &small()).unwrap();
    assert_eq!(room.leases().len(), 2);
    room.boot("second");
    room.add("c3", &small()).unwrap();
    assert_eq!(room.leases(), ["10.0.0.4"]);
}

/// A store that the reference kept until now: its leases are live, whatever their age.
#[test]
fn the_first_contact_adopts_what_is_there() {
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

/// Both suites on one node: the reference leases after the reboot, before our first operation.
#[test]
fn a_lease_that_the_reference_made_in_this_boot_survives() {
    let room = Room::new();
    room.add("old", &small()).unwrap();
    room.boot("second");
    let now = SystemTime::now();
    for (ip, id, age) in [("10.0.0.4", "theirs", 0), ("10.0.0.5", "dead", 40 * 365 * 24 * 3600)] {
        fs::write(room.lease(ip), format!("{id}\r\neth0")).unwrap();
        let file = fs::File::options().write(true).open(room.lease(ip)).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    }
    // The store is older than all its leases; else their times are not believed.
    let born = now - Duration::from_secs(41 * 365 * 24 * 3600);
    fs::File::open(room.lease("lock")).unwrap().set_modified(born).unwrap();
    assert_eq!(room.add("new", &small()).unwrap(), ["10.0.0.3"]);
    assert_eq!(room.leases(), ["10.0.0.3", "10.0.0.4"]);
}

#[test]
fn times_of_a_wrong_clock_drop_nothing_of_the_reference() {
    let room = Room::new();
    room.add("old", &small()).unwrap();
    room.boot("second");
    fs::write(room.lease("10.0.0.4"), "theirs\r\neth0").unwrap();
    // Made while the clock said 1970; the lock file tells that the store is younger than that.
    fs::File::open(room.lease("10.0.0.4")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    room.add("new", &small()).unwrap();
    assert!(room.lease("10.0.0.4").exists());
}

/// A record of the old boot that cannot be replaced must not condemn the leases of this one.
#[test]
fn a_record_that_cannot_be_replaced_condemns_no_lease_of_this_boot() {
    let room = Room::new();
    room.add("old", &small()).unwrap();
    let record = room.data().join(".moor/net.boot");
    // A reboot takes longer than a tick of the clock that dates files.
    let now = SystemTime::now();
    for (path, age) in [(&room.lease("lock"), 30), (&room.lease("10.0.0.2"), 20), (&record, 10)] {
        fs::File::open(path).unwrap().set_modified(now - Duration::from_secs(age)).unwrap();
    }
    room.boot("second");
    // In the way of the temporary file of the record's replacement.
    fs::create_dir(record.with_file_name(format!(".moor-net.boot-{}", std::process::id()))).unwrap();
    assert_eq!(room.add("c1", &small()).unwrap(), ["10.0.0.3"]);
    assert_eq!(fs::read_to_string(&record).unwrap(), "first");
    fs::remove_dir_all(&room.plugin.roots.run).unwrap();
    assert_eq!(room.add("c2", &small()).unwrap(), ["10.0.0.4"]);
    assert_eq!(room.leases(), ["10.0.0.3", "10.0.0.4"]);
}

#[test]
fn what_a_killed_process_left_is_swept() {
    let room = Room::new();
    room.add("c1", &small()).unwrap();
    fs::write(room.lease(".moor-draft-1"), "c2\r\neth0").unwrap();
    fs::write(room.lease(".moor-last_reserved_ip.0-1"), "").unwrap();
    room.del("c2", &small());
    assert_eq!(room.files().into_keys().collect::<Vec<_>>(), ["10.0.0.2", "last_reserved_ip.0", "lock"]);
}

#[test]
fn ids_of_any_length_are_leased_and_freed() {
    let room = Room::new();
    let long = "a".repeat(100_000);
    room.add(&long, &small()).unwrap();
    assert!(room.add(&long, &small()).is_err());
    fs::remove_dir_all(&room.plugin.roots.run).unwrap();
    room.del(&long, &small());
    assert!(room.leases().is_empty());
}

#[test]
fn an_endless_pool_and_a_large_one_cost_the_same() {
    let room = Room::new();
    let ipam = json!({ "ranges": [[{ "subnet": "10.0.0.0/8" }], [{ "subnet": "fd00::/64" }]],
        "exclude": ["10.0.0.0/9", "fd00::/65"] });
    assert_eq!(room.add("c1", &ipam).unwrap(), ["10.128.0.0", "fd00::8000:0:0:0"]);
    assert_eq!(room.run("STATUS", "", "", "", &room.conf(&ipam)).0, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Ask(u8, u8),
    Del(u8),
    /// The reference's DEL: the file vanishes, and nobody tells us.
    Vanish(u8),
    LoseIndex,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..12).prop_map(Step::Add),
        2 => (0_u8..12, 0_u8..16).prop_map(|(id, host)| Step::Ask(id, host)),
        5 => (0_u8..12).prop_map(Step::Del),
        1 => (0_u8..12).prop_map(Step::Vanish),
        1 => Just(Step::LoseIndex),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    /// Any sequence: the directory is what the model says, no address is given twice, the round goes on.
    #[test]
    fn the_directory_equals_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let room = Room::new();
        let ipam = json!({ "subnet": "10.0.0.0/28", "rangeEnd": "10.0.0.9" });
        let mut model = BTreeMap::<u8, u8>::new();
        let mut last = 9;
        for step in steps {
            let free = |host: u8, model: &BTreeMap<u8, u8>| (2..=9).contains(&host) && !model.contains_key(&host);
            match step {
                Step::Add(id) | Step::Ask(id, _) => {
                    let asked = if let Step::Ask(_, host) = step { Some(host) } else { None };
                    let given = match asked {
                        None => room.add(&format!("c{id}"), &ipam),
                        Some(host) => room.request(&format!("c{id}"), &ipam, json!([format!("10.0.0.{host}")])),
                    };
                    let round = (1..=8).map(|n| 2 + (last - 2 + n) % 8).find(|host| free(*host, &model));
                    let wanted = asked.map_or(round, |host| free(host, &model).then_some(host));
                    let wanted = wanted.filter(|_| !model.values().any(|holder| *holder == id));
                    prop_assert_eq!(given.ok(), wanted.map(|host| vec![format!("10.0.0.{host}")]));
                    if let Some(host) = wanted {
                        model.insert(host, id);
                        last = host;
                    }
                }
                Step::Del(id) => {
                    room.del(&format!("c{id}"), &ipam);
                    model.retain(|_, holder| *holder != id);
                }
                Step::Vanish(host) => {
                    if model.remove(&host).is_some() {
                        fs::remove_file(room.lease(&format!("10.0.0.{host}"))).unwrap();
                    }
                }
                Step::LoseIndex => drop(fs::remove_dir_all(&room.plugin.roots.run)),
            }
            let mut files = if room.dir().exists() { room.files() } else { BTreeMap::new() };
            files.retain(|name, _| name.parse::<IpAddr>().is_ok());
            let wanted: BTreeMap<_, _> = model.iter()
                .map(|(host, id)| (format!("10.0.0.{host}"), format!("c{id}\r\neth0"))).collect();
            prop_assert_eq!(files, wanted);
        }
    }
}
