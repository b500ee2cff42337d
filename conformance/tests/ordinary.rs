//! Cases run for an ordinary user, too, where the kernel allows user namespaces.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A command, as another user if this one is root.
fn as_ordinary_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(program);
    command
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t")
}

#[test]
fn an_ordinary_user_gets_verdicts() {
    let mut probe = as_ordinary_user(Path::new("unshare"));
    if !probe.args(["--user", "--map-root-user", "--net", "true"]).status().unwrap().success() {
        println!("not run: an ordinary user can have no user namespace here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("conformance");
    fs::copy(env!("CARGO_BIN_EXE_conformance"), &program).unwrap();
    let loopback = dir.path().join("loopback");
    fs::write(&loopback, "#!/bin/sh\necho its own error >&2\nexit 1\n").unwrap();
    for path in [dir.path(), &loopback] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let mut run = as_ordinary_user(&program);
    let run = run.arg("run").arg("--cni-path").arg(dir.path()).current_dir("/");
    let done = run.args(["--lane", "native", "--filter", "loopback/result_in"]).output().unwrap();
    let report = String::from_utf8_lossy(&done.stdout);
    // 2 would be: no case can run here.
    assert_eq!(done.status.code(), Some(1), "{report}{}", String::from_utf8_lossy(&done.stderr));
    assert!(report.contains("its own error"), "{report}");
}
