//! A network of a test's own, and the eyes of iproute2 to look at it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, dead_code)]

pub mod nft;

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use sys::NetNs;

/// Runs `body` as the test `name` in a network of its own, with a `/run` of its own.
pub fn in_own_network(name: &str, body: impl FnOnce()) {
    sys::testing::in_own_network(name, || {
        run("mount -t tmpfs none /run");
        body();
    });
}

/// A test that has a network of its own.
#[macro_export]
macro_rules! network_test {
    ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
        $(#[$attribute])*
        #[test]
        fn $name() {
            common::in_own_network(stringify!($name), || $body);
        }
    };
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A second network namespace, which lives as long as the value.
pub fn another_network() -> NetNs {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        NetNs::current().unwrap()
    })
    .join()
    .unwrap()
}

/// What a command of iproute2 says in JSON, in the thread's network namespace.
pub fn look(command: &str) -> Value {
    let said = run(command);
    if said.trim().is_empty() { Value::Array(Vec::new()) } else { serde_json::from_str(&said).unwrap() }
}

/// Runs a command in the thread's network namespace; it must succeed.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let (said, complained) = texts(&output);
    assert!(output.status.success(), "{command}: {said}{complained}");
    said
}

/// The one link of that name, as `ip` sees it in the thread's network namespace.
pub fn ip_link(name: &str) -> Value {
    look(&format!("ip -j -d link show dev {name}"))[0].take()
}

/// Whether `ip` sees no link of that name.
pub fn no_link(name: &str) -> bool {
    let links = look("ip -j link show");
    links.as_array().unwrap().iter().all(|link| link["ifname"] != name)
}

/// Looks until it is so, for at most five seconds.
pub fn becomes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = soon();
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
    }
    true
}

/// A deadline that is only reached when something is wrong.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}
