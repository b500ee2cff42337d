//! HL-13: both suites use one directory. Needs the reference's executables.

mod common;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;

use common::{Listing, OURS, REFERENCE, address, call, conf, inside, listing};

fn need_the_reference() {
    assert!(
        Path::new(REFERENCE).exists(),
        "{REFERENCE} is missing: install the package containernetworking-plugins"
    );
}

/// 64 processes at a time, half of each suite, 1000 allocations in a /20; then each suite releases
/// the leases of the other.
#[test]
fn suites_in_parallel_lease_no_address_twice_and_lose_no_lease() {
    need_the_reference();
    inside("suites_in_parallel_lease_no_address_twice_and_lose_no_lease", || {
        let home = tempfile::tempdir().unwrap();
        let conf = conf(home.path(), "10.7.0.0/20");
        let suite = |worker: usize| if worker.is_multiple_of(2) { OURS } else { REFERENCE };
        let ids =
            |worker: usize| (0..if worker < 40 { 16 } else { 15 }).map(move |n| format!("w{worker}-{n}"));
        let given: Vec<(String, String)> = thread::scope(|scope| {
            let conf = &conf;
            let work = |worker| {
                move || -> Vec<_> {
                    ids(worker).map(|id| (address(&call(&[], suite(worker), "ADD", &id, conf)), id)).collect()
                }
            };
            let workers: Vec<_> = (0..64).map(|worker| scope.spawn(work(worker))).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(given.len(), 1000);
        // Without a DEL, the suites together allocate the first thousand addresses.
        let first = u32::from(Ipv4Addr::new(10, 7, 0, 2));
        let wanted: BTreeSet<String> = (first..first + 1000).map(|n| Ipv4Addr::from(n).to_string()).collect();
        assert_eq!(given.iter().map(|(ip, _)| ip.clone()).collect::<BTreeSet<_>>(), wanted);
        let dir = home.path().join("net");
        let files = listing(&dir);
        assert_eq!(files.len(), 1002, "leases, lock and last_reserved_ip.0");
        for (ip, id) in &given {
            assert_eq!(files[ip].0, format!("{id}\r\neth0"), "{ip}");
        }

        thread::scope(|scope| {
            for worker in 0..64 {
                let conf = &conf;
                scope.spawn(move || {
                    for id in ids(worker) {
                        let output = call(&[], suite(worker + 1), "DEL", &id, conf);
                        assert!(output.status.success(), "{id}: {}", String::from_utf8_lossy(&output.stdout));
                    }
                });
            }
        });
        let left: Vec<_> = listing(&dir).into_keys().collect();
        assert_eq!(left, ["last_reserved_ip.0", "lock"]);
    });
}

/// HL-1: names and bytes, after the same calls in the same order. Modes are those of the current
/// reference; older ones let other users read the leases.
#[test]
fn the_directory_equals_that_of_the_reference() {
    need_the_reference();
    inside("the_directory_equals_that_of_the_reference", || {
        let home = tempfile::tempdir().unwrap();
        let by = |suites: &[&str]| {
            let data = home.path().join(suites.len().to_string());
            let mut conf = conf(&data, "10.7.0.0/28");
            conf["ipam"]["ranges"] = serde_json::json!([[{ "subnet": "fd00:7::/125" }]]);
            let mut turn = suites.iter().cycle();
            let mut outcomes = Vec::new();
            for step in 0..60_usize {
                // ADD and DEL of six containers in an irregular order, with second ADDs and DELs
                // without a lease, but no partial failure: the reference's roll-back is wrong.
                let id = format!("c{}", (step * 5) % 6);
                let command = if (step / 3) % 3 == 2 { "DEL" } else { "ADD" };
                let output = call(&[], turn.next().unwrap(), command, &id, &conf);
                let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
                outcomes.push((
                    id,
                    command,
                    output.status.success(),
                    result["ips"].clone(),
                    result["msg"].clone(),
                ));
            }
            (outcomes, listing(&data.join("net")))
        };
        let (reference, files) = by(&[REFERENCE]);
        let (mixed, mixed_files) = by(&[OURS, REFERENCE]);
        let (ours, our_files) = by(&[OURS, OURS, OURS]);
        assert!(reference.iter().any(|outcome| !outcome.2), "a second ADD was among the steps");
        assert_eq!(mixed, reference);
        assert_eq!(ours, reference);
        let bytes = |files: &Listing| -> Vec<_> {
            files.iter().map(|(name, (bytes, _))| (name.clone(), bytes.clone())).collect()
        };
        assert_eq!(bytes(&mixed_files), bytes(&files));
        assert_eq!(bytes(&our_files), bytes(&files));
        for (name, (_, mode)) in our_files {
            assert_eq!(mode, if name == "lock" { files["lock"].1 } else { 0o100_600 }, "{name}");
        }
    });
}

/// Upgrade and downgrade with live leases: CHECK and DEL of each suite find the other's leases.
#[test]
fn each_suite_checks_and_releases_the_others_leases() {
    need_the_reference();
    inside("each_suite_checks_and_releases_the_others_leases", || {
        let home = tempfile::tempdir().unwrap();
        let conf = conf(home.path(), "10.7.0.0/24");
        for (maker, taker) in [(OURS, REFERENCE), (REFERENCE, OURS)] {
            let ip = address(&call(&[], maker, "ADD", "c1", &conf));
            let mut check = conf.clone();
            check["prevResult"] =
                serde_json::json!({ "cniVersion": "1.0.0", "ips": [{ "address": format!("{ip}/24") }] });
            assert!(call(&[], taker, "CHECK", "c1", &check).status.success(), "{taker}");
            assert!(!call(&[], taker, "ADD", "c1", &conf).status.success(), "{taker}");
            assert!(call(&[], taker, "DEL", "c1", &conf).status.success(), "{taker}");
            assert!(!home.path().join("net").join(&ip).exists(), "{taker}");
            assert!(!call(&[], maker, "CHECK", "c1", &check).status.success(), "{maker}");
        }
    });
}
