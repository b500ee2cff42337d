//! What integration tests share: a process in namespaces of its own.

use std::env;
use std::process::Command;

use nix::unistd::geteuid;

/// Names the test that runs inside already.
const INSIDE: &str = "MOOR_TEST_INSIDE";

/// Runs `body` as the test `name` alone in a process that has network and mount namespaces of its own (for an ordinary
/// user, a user namespace too: a process with threads cannot make one).
///
/// # Panics
/// The test fails there, or the namespaces cannot be had.
pub fn in_own_network(name: &str, body: impl FnOnce()) {
    in_own_namespaces(name, &["--net", "--mount"], 60, body);
}

/// The same in these namespaces (options of unshare(1)), for at most so many seconds.
///
/// # Panics
/// As [`in_own_network`].
pub fn in_own_namespaces(name: &str, which: &[&str], seconds: u32, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some_and(|inside| inside == name) {
        return body();
    }
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &seconds.to_string(), "unshare"]).args(which);
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let program = env::current_exe().unwrap_or_else(|error| panic!("this program: {error}"));
    command.arg("--").arg(program).args([name, "--exact", "--nocapture"]).env(INSIDE, name);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("timeout(1) and unshare(1) are needed for namespace tests: {error}"));
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    // A harness that finds no such test succeeds as well.
    let passed = output.status.success() && out.contains("test result: ok. 1 passed");
    assert!(passed, "{name}, in namespaces of its own: {}\n{out}\n{err}", output.status);
}
