//! Network namespaces: opening, comparing, entering and leaving them (C-110, C-113).

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};

use netlink::Netlink;
use nix::sys::stat::Mode;
use sys::testing::{another_network, ip_link, no_link, run};
use sys::{NetNs, NetNsError, network_test};

/// C-113: nonexistent and impossible paths.
#[test]
fn a_missing_path_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    let dangling = dir.path().join("dangling");
    symlink("gone", &dangling).unwrap();
    let circular = dir.path().join("circular");
    symlink(&circular, &circular).unwrap();
    let paths = [
        dir.path().join("gone"),
        "/proc/4194305/ns/net".into(),
        "".into(),
        file.join("netns"),
        "x".repeat(300).into(),
        dangling,
        circular,
    ];
    for path in paths {
        let error = NetNs::open(&path).unwrap_err();
        assert!(matches!(error, NetNsError::Gone { .. }), "{path:?}: {error}");
    }
}

/// C-113: the text, and the filesystem's type in hexadecimal.
#[test]
fn a_plain_file_is_refused_by_its_filesystem_type() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    File::create(&path).unwrap();
    let error = NetNs::open(&path).unwrap_err();
    let stat = std::process::Command::new("stat").args(["-f", "-c", "%t"]).arg(&path).output().unwrap();
    let magic = String::from_utf8(stat.stdout).unwrap();
    let expected = format!("failed to open netns {path:?}: unknown FS magic on {path:?}: {}", magic.trim());
    assert_eq!(error.to_string(), expected);
}

/// A regular file of procfs passes the filesystem check of C-113 but is not a namespace; nor is a
/// namespace of another kind a network namespace.
#[test]
fn files_that_resemble_a_namespace_are_refused() {
    for (path, magic) in [
        ("/proc/version", 0x9fa0),
        ("/proc", 0x9fa0),
        ("/proc/self/ns/mnt", 0x6e73_6673),
        ("/proc/self/ns/uts", 0x6e73_6673),
    ] {
        match NetNs::open(path) {
            Err(NetNsError::NotANetNs { magic: found, .. }) => assert_eq!(found, magic, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

/// Opening a FIFO without a writer would wait for ever.
#[test]
fn no_kind_of_file_blocks_the_open() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRUSR).unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let link = dir.path().join("link");
    symlink(&fifo, &link).unwrap();
    for path in [fifo, socket, link, dir.path().to_owned(), "/dev/null".into(), "/dev/tty".into()] {
        let error = NetNs::open(&path).unwrap_err();
        assert!(matches!(error, NetNsError::NotANetNs { .. }), "{path:?}: {error}");
    }
}

network_test! {
    /// C-110: a namespace is identified by device and inode, not by its path.
    fn one_namespace_has_many_paths() {
        let here = NetNs::current().unwrap();
        let pod = another_network();
        assert!(here.same_as(&NetNs::open("/proc/self/ns/net").unwrap()).unwrap());
        assert!(!here.same_as(&pod).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("netns");
        File::create(&mount).unwrap();
        run(&format!("mount --bind /proc/self/ns/net {}", mount.display()));
        assert!(here.same_as(&NetNs::open(&mount).unwrap()).unwrap());
        run(&format!("umount {}", mount.display()));
        assert!(matches!(NetNs::open(&mount), Err(NetNsError::NotANetNs { .. })));
    }
}

network_test! {
    fn a_thread_returns_from_a_namespace_even_when_it_panics() {
        let here = NetNs::current().unwrap();
        let pod = another_network();
        let inside = pod.enter(|| NetNs::current().unwrap()).unwrap();
        assert!(inside.same_as(&pod).unwrap());
        assert!(NetNs::current().unwrap().same_as(&here).unwrap());
        let panicked = catch_unwind(AssertUnwindSafe(|| pod.enter(|| panic!("on purpose"))));
        assert!(panicked.is_err());
        assert!(NetNs::current().unwrap().same_as(&here).unwrap());
    }
}

network_test! {
    fn a_socket_stays_in_the_namespace_it_was_opened_in() {
        let pod = another_network();
        pod.enter(|| run("ip link add inside type bridge")).unwrap();
        let netlink = Netlink::open_in(&pod).unwrap();
        assert!(netlink.link_by_name("inside").unwrap().is_some());
        assert!(Netlink::open().unwrap().link_by_name("inside").unwrap().is_none());
        assert!(no_link("inside"));
        assert_eq!(pod.enter(|| ip_link("inside")).unwrap()["ifname"], "inside");
    }
}

network_test! {
    /// Parameters belong to the thread's namespace.
    fn a_parameter_is_written_where_the_thread_is_and_only_if_it_differs() {
        let pod = another_network();
        let key = "net/ipv4/ip_forward";
        assert_eq!(sys::sysctl::read(key).unwrap(), "0");
        pod.enter(|| {
            assert!(sys::sysctl::write(key, "1").unwrap());
            assert!(!sys::sysctl::write(key, "1").unwrap());
            assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "1\n");
        })
        .unwrap();
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");
        let refused = sys::sysctl::write(key, "no number").unwrap_err();
        assert_eq!(refused.errno(), Some(22), "{refused:#}");
    }
}

network_test! {
    /// Containers often have /proc/sys mounted read-only: an unchanged value needs no write.
    fn a_read_only_proc_sys_matters_only_when_something_must_change() {
        run("mount --bind /proc/sys /proc/sys");
        run("mount -o remount,bind,ro /proc/sys");
        assert!(!sys::sysctl::write("net/ipv4/ip_forward", "0").unwrap());
        let refused = sys::sysctl::write("net/ipv4/ip_forward", "1").unwrap_err();
        assert_eq!(refused.errno(), Some(30), "{refused:#}");
    }
}

network_test! {
    fn links_of_a_namespace_with_a_number_are_listed() {
        let netlink = Netlink::open().unwrap();
        let other = another_network();
        let id = netlink.make_netns_id(other.as_fd()).unwrap();
        assert!(netlink.netns_ids().unwrap().contains(&id));
        let names: Vec<String> = netlink.links_in(id).unwrap().into_iter().map(|link| link.name).collect();
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
        assert!(netlink.links_in(i32::MAX).is_err(), "a number that no namespace has");
    }
}
