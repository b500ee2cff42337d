//! Shared code of integration tests: running a test in a process with its own namespaces, and
//! iproute2 to examine what a test has created.

#![allow(clippy::unwrap_used, reason = "for tests")]

use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, thread};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use serde_json::Value;

use crate::NetNs;

/// Set in the process that already runs inside the namespaces, to the test's name.
const INSIDE: &str = "MOOR_TEST_INSIDE";

/// Runs `body` as the test `name` in a process with its own network and mount namespaces (for an
/// unprivileged user, a user namespace too: a multi-threaded process cannot create one).
///
/// # Panics
/// The test fails there, or the namespaces cannot be created.
pub fn in_own_network(name: &str, body: impl FnOnce()) {
    in_own_namespaces(name, &["--net", "--mount"], 60, body);
}

/// As [`in_own_network`], in these namespaces (options of unshare(1)), for at most `seconds`.
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
    // A test binary that finds no such test succeeds too.
    let passed = output.status.success() && out.contains("test result: ok. 1 passed");
    assert!(passed, "{name}, in namespaces of its own: {}\n{out}\n{err}", output.status);
}

/// A test that runs in its own network namespace, with its own `/run`.
#[macro_export]
macro_rules! network_test {
    ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
        $(#[$attribute])*
        #[test]
        fn $name() {
            $crate::testing::in_own_network(stringify!($name), || {
                $crate::testing::run("mount -t tmpfs none /run");
                $body
            });
        }
    };
}

/// A second network namespace, which lives as long as the value.
///
/// # Panics
/// It cannot be made.
pub fn another_network() -> NetNs {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        NetNs::current().unwrap()
    })
    .join()
    .unwrap()
}

/// Runs a command in the thread's network namespace and returns what it prints.
///
/// # Panics
/// It fails.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command}: {out}{err}");
    out
}

/// What a command of iproute2 prints in JSON, in the thread's network namespace.
///
/// # Panics
/// It fails, or prints something else.
pub fn look(command: &str) -> Value {
    let printed = run(command);
    if printed.trim().is_empty() { Value::Array(Vec::new()) } else { serde_json::from_str(&printed).unwrap() }
}

/// The one link of that name, as `ip` sees it in the thread's network namespace.
///
/// # Panics
/// There is none.
pub fn ip_link(name: &str) -> Value {
    look(&format!("ip -j -d link show dev {name}"))[0].take()
}

/// Whether `ip` sees no link of that name.
///
/// # Panics
/// `ip` fails.
pub fn no_link(name: &str) -> bool {
    let links = look("ip -j link show");
    links.as_array().unwrap().iter().all(|link| link["ifname"] != name)
}

/// Polls until the condition holds, for at most five seconds.
pub fn becomes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = soon();
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
    }
    true
}

/// A deadline that is reached only after a failure.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}
