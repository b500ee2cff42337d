//! The plugin in real namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::{env, fs, thread};

use cni::{Env, Json, Style, run};
use loopback::Loopback;
use netlink::{Netlink, NewAddress};
use nix::sched::{CloneFlags, unshare};
use sys::NetNs;
use sys::testing::in_own_network;

/// A container's namespace and its path.
struct Container {
    netns: NetNs,
    path: String,
}

impl Container {
    fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            NetNs::current().unwrap()
        });
        let netns = made.join().unwrap();
        let path = format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd());
        Self { netns, path }
    }

    fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.netns).unwrap()
    }

    fn is_up(&self) -> bool {
        self.netlink().link_by_name("lo").unwrap().unwrap().up()
    }

    fn has_two_addresses(&self) -> bool {
        self.netlink().addresses(Some(1)).unwrap().len() == 2
    }
}

/// Exit status, and standard output on one line.
fn call(command: &str, netns: &str, members: &str) -> (u8, String) {
    let env = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/none"),
    ];
    let stdin = format!(r#"{{"name":"n","type":"loopback",{members}}}"#);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = run(&Loopback, &Env::from_iter(env), &mut stdin.as_bytes(), &mut stdout, &mut stderr);
    let document = Json::parse(&stdout).map(|tree| tree.print(Style::Compact)).unwrap_or(stdout);
    (status, String::from_utf8(document).unwrap())
}

const NEWEST: &str = r#""cniVersion":"1.1.0""#;

fn no_output() -> (u8, String) {
    (0, String::new())
}

/// C-040, C-042, C-043
#[test]
fn add_check_and_del_ignore_the_interface_name() {
    in_own_network("add_check_and_del_ignore_the_interface_name", || {
        let container = Container::new();
        let path = &container.path;
        let (status, down) = call("CHECK", path, NEWEST);
        assert!(status == 1 && down.contains("loopback interface is down"), "{down}");
        let expected = format!(
            r#"{{"cniVersion":"1.1.0","interfaces":[{{"mac":"00:00:00:00:00:00","name":"lo","sandbox":"{path}"}}],"ips":[{{"address":"127.0.0.1/8","interface":0}},{{"address":"::1/128","interface":0}}]}}"#
        );
        for _ in 0..2 {
            assert_eq!(call("ADD", path, NEWEST), (0, expected.clone()));
            assert!(container.is_up() && container.has_two_addresses());
        }
        assert_eq!(call("CHECK", path, NEWEST), no_output());
        for _ in 0..2 {
            assert_eq!(call("DEL", path, NEWEST), no_output());
            assert!(!container.is_up());
        }
    });
}

/// C-041: in the configuration's version.
#[test]
fn a_previous_result_passes_through() {
    in_own_network("a_previous_result_passes_through", || {
        let container = Container::new();
        let previous = r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.1.2.3/24"}],"dns":{}}"#;
        let members = format!(r#""cniVersion":"0.3.1","prevResult":{previous}"#);
        assert_eq!(call("ADD", &container.path, &members), (0, previous.into()));
        assert!(container.is_up());
    });
}

/// C-065: a failed ADD leaves `lo` as it was.
#[test]
fn a_failed_add_changes_nothing() {
    in_own_network("a_failed_add_changes_nothing", || {
        let container = Container::new();
        // 0.2.0 has no format for a result without an address.
        let (status, stdout) = call("ADD", &container.path, r#""cniVersion":"0.2.0","prevResult":{}"#);
        assert!(status == 1 && stdout.contains("cannot convert: no valid IP addresses"), "{stdout}");
        assert!(!container.is_up());

        let net = cni::parse_cidr("10.9.9.9/32").unwrap();
        container.netlink().add_address(&NewAddress { index: 1, net, nodad: true }).unwrap();
        let (status, stdout) = call("ADD", &container.path, NEWEST);
        assert!(status == 1 && stdout.contains("non-loopback address 10.9.9.9/32"), "{stdout}");
        assert!(!container.is_up());
    });
}

/// C-113, C-114: the path is missing, or leads to something else.
#[test]
fn without_a_namespace_del_succeeds_and_add_and_check_fail() {
    let dir = env::temp_dir().join(format!("moor-loopback-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    let (file, socket) = (dir.join("file"), dir.join("socket"));
    fs::write(&file, "").unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    let long = "/x".repeat(5000);
    let odd = [
        "/none",
        file.to_str().unwrap(),
        socket.to_str().unwrap(),
        "/dev/null",
        "a\nb",
        &long,
        "/proc/self/ns/mnt",
    ];
    let outcomes: Vec<_> =
        odd.iter().map(|netns| ["ADD", "CHECK", "DEL"].map(|command| call(command, netns, NEWEST))).collect();
    assert_eq!(call("DEL", "", NEWEST), no_output());
    fs::remove_dir_all(&dir).unwrap();
    for [add, check, del] in outcomes {
        assert_eq!(del, no_output());
        for (status, stdout) in [add, check] {
            assert!(status == 1 && stdout.contains(r#""msg":"failed to open netns "#), "{stdout}");
        }
    }
}

/// C-044, C-045
#[test]
fn status_and_gc_succeed_without_output() {
    assert_eq!(call("STATUS", "", NEWEST), no_output());
    assert_eq!(call("GC", "", &format!(r#"{NEWEST},"cni.dev/valid-attachments":[]"#)), no_output());
}
