//! The system calls of an operation: as many with ten thousand leases as with one.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::{OURS, call, conf, inside};

/// HL-R6: an operation reads a few files, but not the directory.
#[test]
fn ten_thousand_leases_cost_no_more_than_one() {
    assert!(
        Command::new("strace").arg("-V").output().is_ok(),
        "strace is missing: install the package strace"
    );
    inside("ten_thousand_leases_cost_no_more_than_one", || {
        let home = tempfile::tempdir().unwrap();
        let conf = conf(home.path(), "10.7.0.0/16");
        let log = home.path().join("strace");
        let counted = |command: &str, id: &str| {
            let wrapper = ["strace", "-f", "-o", log.to_str().unwrap()];
            let output = call(&wrapper, OURS, command, id, &conf);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            let log = std::fs::read_to_string(&log).unwrap();
            let count = |name: &str| log.lines().filter(|line| line.contains(&format!(" {name}("))).count();
            (log.lines().count(), count("openat"), count("getdents64"))
        };
        assert!(call(&[], OURS, "ADD", "first", &conf).status.success());
        let few = [counted("ADD", "c1"), counted("DEL", "c1")];
        for n in 0..10_000 {
            let ip = format!("10.7.{}.{}", 100 + n / 200, n % 200);
            std::fs::write(home.path().join("net").join(ip), format!("x{n}\r\neth0")).unwrap();
        }
        // The first operation after a change reads the directory.
        assert!(call(&[], OURS, "ADD", "second", &conf).status.success());
        let many = [counted("ADD", "c2"), counted("DEL", "c2")];
        for (few, many) in few.into_iter().zip(many) {
            // A page of memory more or less does not matter.
            assert!(many.0.abs_diff(few.0) <= 4, "calls: {few:?}, {many:?}");
            assert_eq!((many.1, many.2), (few.1, 0), "files opened, directories read");
            assert!(many.1 <= 20, "{many:?}");
        }
    });
}
