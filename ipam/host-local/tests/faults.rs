//! A kill, or an error of the kernel, at every system call that changes something or could fail.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use common::{OURS, address, call, conf, inside, listing};

/// System calls that change something, or that may fail.
const CALLS: [&str; 14] = [
    "openat",
    "mkdir",
    "flock",
    "statx",
    "write",
    "pwrite64",
    "pread64",
    "fsync",
    "linkat",
    "rename",
    "unlink",
    "utimensat",
    "getdents64",
    "ftruncate",
];

/// A store with a lease of another container, and optionally one of `c1`, from calls without a
/// fault.
struct Scene {
    home: tempfile::TempDir,
    conf: serde_json::Value,
}

impl Scene {
    fn new(with_lease: bool, with_index: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let conf = conf(home.path(), "10.7.0.0/29");
        let scene = Self { home, conf };
        assert_eq!(scene.call(&[], "ADD", "other").0, 0);
        if with_lease {
            assert_eq!(scene.call(&[], "ADD", "c1").0, 0);
        }
        if !with_index {
            // A change by another program: the next operation reads the directory and writes the
            // index.
            std::fs::write(scene.home.path().join("net/passing"), "").unwrap();
            std::fs::remove_file(scene.home.path().join("net/passing")).unwrap();
        }
        scene
    }

    fn call(&self, wrapper: &[&str], command: &str, id: &str) -> (i32, String) {
        let output = call(wrapper, OURS, command, id, &self.conf);
        let code = output.status.code().unwrap_or(-1);
        (code, String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Leases by address. After a DEL (`strict`), the directory has nothing else but `lock` and
    /// `last_reserved_ip.0`.
    fn leases(&self, strict: bool) -> BTreeMap<String, String> {
        let mut files = listing(&self.home.path().join("net"));
        files.retain(|name, _| name != "lock" && name != "last_reserved_ip.0");
        if !strict {
            files.retain(|name, _| !name.starts_with(".moor-"));
        }
        files.into_iter().map(|(name, (text, _))| (name, text)).collect()
    }

    fn only_the_others(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("10.7.0.2".to_owned(), "other\r\neth0".to_owned())])
    }
}

/// How often a run without faults makes each call.
fn counts(scene: &Scene, command: &str) -> Vec<(&'static str, usize)> {
    let log = scene.home.path().join("strace");
    let traced = format!("trace={}", CALLS.join(","));
    let wrapper = ["strace", "-f", "-o", log.to_str().unwrap(), "-e", &traced];
    assert_eq!(scene.call(&wrapper, command, "c1").0, 0);
    let log = std::fs::read_to_string(log).unwrap();
    let count = |name: &str| log.lines().filter(|line| line.contains(&format!(" {name}("))).count();
    CALLS.iter().map(|name| (*name, count(name))).filter(|(_, count)| *count > 0).collect()
}

/// Runs the command once for each of its calls, with the fault in that call, and verifies the
/// outcome.
fn inject(command: &str, fault: &str, verify: impl Fn(&Scene, i32, &str)) {
    assert!(
        Command::new("strace").arg("-V").output().is_ok(),
        "strace is missing: install the package strace"
    );
    for with_index in [true, false] {
        let with_lease = command == "DEL";
        let mut runs = 0;
        for (name, count) in counts(&Scene::new(with_lease, with_index), command) {
            for when in 1..=count {
                let scene = Scene::new(with_lease, with_index);
                let injection = format!("inject={name}:{fault}:when={when}");
                let traced = format!("trace={name}");
                let (code, out) = scene.call(
                    &["strace", "-f", "-o", "/dev/null", "-e", &traced, "-e", &injection],
                    command,
                    "c1",
                );
                let what = format!("{command} {injection}, index {with_index}: exit {code}, {out}");
                verify(&scene, code, &what);
                runs += 1;
            }
        }
        assert!(runs > 10, "the calls were counted");
    }
}

/// After the fault, DEL with the same ids removes everything of this container and nothing of the
/// other, and the address can be leased again.
fn recover(scene: &Scene, what: &str) {
    assert_eq!(scene.call(&[], "DEL", "c1"), (0, String::new()), "{what}");
    assert_eq!(scene.leases(true), scene.only_the_others(), "{what}");
    let ip = address(&call(&[], OURS, "ADD", "c1", &scene.conf));
    assert_ne!(ip, "10.7.0.2", "{what}");
    assert_eq!(scene.leases(true).len(), 2, "{what}");
    assert_eq!(scene.call(&[], "DEL", "other").0, 0, "{what}");
    assert_eq!(scene.leases(true).into_keys().collect::<Vec<_>>(), [ip], "{what}");
}

#[test]
fn del_removes_everything_of_a_killed_add() {
    inside("del_removes_everything_of_a_killed_add", || {
        inject("ADD", "signal=KILL", |scene, _, what| {
            let leases = scene.leases(false);
            // A lease is never incomplete.
            assert!(
                leases.values().all(|text| text == "other\r\neth0" || text == "c1\r\neth0"),
                "{what}: {leases:?}"
            );
            recover(scene, what);
        });
    });
}

#[test]
fn the_next_del_completes_a_killed_one() {
    inside("the_next_del_completes_a_killed_one", || {
        inject("DEL", "signal=KILL", |scene, _, what| recover(scene, what));
    });
}

#[test]
fn a_failed_system_call_in_add_leaves_no_lease() {
    inside("a_failed_system_call_in_add_leaves_no_lease", || {
        // A filesystem without O_TMPFILE returns EOPNOTSUPP.
        for fault in ["error=ENOSPC", "error=EIO", "error=EROFS", "error=EOPNOTSUPP"] {
            inject("ADD", fault, |scene, code, what| {
                let mut leases = scene.leases(true);
                let own = leases.iter().find(|(_, text)| *text == "c1\r\neth0").map(|(ip, _)| ip.clone());
                // Not every error is fatal: ADD works without the index and the record.
                assert_eq!(own.is_some(), code == 0, "{what}: {leases:?}");
                if let Some(ip) = own {
                    leases.remove(&ip);
                }
                assert_eq!(leases, scene.only_the_others(), "{what}");
                recover(scene, what);
            });
        }
    });
}

#[test]
fn a_failed_system_call_in_del_is_reported_if_the_lease_remains() {
    inside("a_failed_system_call_in_del_is_reported_if_the_lease_remains", || {
        for fault in ["error=EIO", "error=EROFS"] {
            inject("DEL", fault, |scene, code, what| {
                let held = scene.leases(true).values().any(|text| text == "c1\r\neth0");
                assert!(!(held && code == 0), "{what}");
                recover(scene, what);
            });
        }
    });
}

/// A real full filesystem.
#[test]
fn add_on_a_full_disk_fails_and_loses_no_lease() {
    inside("add_on_a_full_disk_fails_and_loses_no_lease", || {
        let home = tempfile::tempdir().unwrap();
        let mount = |options: &str, at: &Path| {
            let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
            assert!(done.unwrap().success());
        };
        mount("size=64k,nr_inodes=8", home.path());
        let conf = conf(home.path(), "10.7.0.0/24");
        let mut made = 0;
        let error = loop {
            let output = call(&[], OURS, "ADD", &format!("c{made}"), &conf);
            if !output.status.success() {
                break String::from_utf8_lossy(&output.stdout).into_owned();
            }
            made += 1;
            assert!(made < 8, "eight inodes hold fewer leases");
        };
        assert!(error.contains("ENOSPC") && error.contains("No space left on device"), "{error}");
        let leases = || {
            let mut files = listing(&home.path().join("net"));
            files.retain(|name, _| name.starts_with("10.7."));
            files.len()
        };
        assert_eq!(leases(), made);
        for id in 0..=made {
            assert!(call(&[], OURS, "DEL", &format!("c{id}"), &conf).status.success());
        }
        assert_eq!(leases(), 0);
    });
}
