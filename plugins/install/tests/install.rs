//! What `moor-install` does to a host's directories.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{CONFLIST, OURS, Scene};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn refused(scene: &Scene, options: &[&str]) -> String {
    let before = scene.host();
    let output = scene.call(&[], "install", options);
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(scene.host(), before, "nothing is touched before all is looked at");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_names_are_those_that_make_install_installs() {
    let makefile = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Makefile");
    let makefile = fs::read_to_string(makefile).unwrap();
    let plugins = makefile.lines().find_map(|line| line.strip_prefix("PLUGINS  = ")).unwrap();
    let mut expected: Vec<_> = plugins.split_whitespace().map(|name| format!("bin/{name}")).collect();
    expected.extend(
        ["dnsname", "flannel", "moor", "moor-plugins", "overlay-agent"].map(|name| format!("bin/{name}")),
    );
    expected.extend(["net.d/05-flannel.conflist".to_owned(), format!("net.d/{CONFLIST}")]);
    expected.sort();
    let scene = Scene::new();
    scene.succeeds("install", &[]);
    assert_eq!(scene.host().into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn uninstall_gives_back_what_was_there() {
    let scene = Scene::new();
    let before = scene.host();
    let inode = || fs::metadata(scene.path("bin/bridge")).unwrap().ino();
    let theirs = inode();
    scene.succeeds("install", &[]);
    let ours = fs::read(scene.path("bin/bridge")).unwrap();
    assert!(ours.starts_with(b"moor-plugins 1"));
    assert_eq!(scene.host()["bin/bridge"].0, 0o100_755);
    assert_eq!(scene.host()["net.d/10-moor.conflist"].0, 0o100_644);
    scene.succeeds("uninstall", &[]);
    assert_eq!(scene.host(), before);
    assert_eq!(inode(), theirs, "the very file");
    assert!(scene.is_clean());
    assert_eq!(scene.succeeds("uninstall", &[]), "");
}

#[test]
fn a_second_install_writes_nothing() {
    let scene = Scene::new();
    scene.succeeds("install", &[]);
    let log = scene.path("strace");
    let traced = "trace=openat,mkdir,write,fchmod,linkat,rename,unlink,rmdir";
    let output = scene.call(&["strace", "-f", "-o", log.to_str().unwrap(), "-e", traced], "install", &[]);
    assert!(output.status.success(), "{output:?}");
    let log = fs::read_to_string(log).unwrap();
    for line in log.lines().filter(|line| line.contains('(')) {
        let is_read = line.contains("openat(") && !line.contains("O_CREAT");
        assert!(is_read || line.contains("write(1, "), "{line}");
    }
}

#[test]
fn an_upgrade_keeps_the_first_other_and_takes_away_what_it_no_longer_has() {
    let scene = Scene::new();
    let before = scene.host();
    scene.succeeds("install", &[]);
    scene.release("2");
    scene.succeeds("install", &["--only", "bridge,host-local"]);
    let host = scene.host();
    assert!(host["bin/bridge"].1.starts_with(b"moor-plugins 2"));
    assert_eq!(host["bin/dhcp"], before["bin/dhcp"], "given back");
    assert!(!host.contains_key("bin/moor") && !host.contains_key("bin/vlan"));
    scene.succeeds("uninstall", &[]);
    assert_eq!(scene.host(), before);
}

#[test]
fn what_another_has_put_over_ours_is_kept_by_install_and_stays_with_uninstall() {
    let scene = Scene::new();
    scene.succeeds("install", &[]);
    fs::remove_file(scene.path("bin/bridge")).unwrap();
    scene.program("bridge", "the reference's next bridge");
    let theirs = scene.host()["bin/bridge"].clone();
    let back = scene.copy();
    back.succeeds("uninstall", &[]);
    assert_eq!(back.host()["bin/bridge"], theirs);
    let printed = scene.succeeds("install", &[]);
    assert!(printed.contains("bin/bridge, in the place of another's"), "{printed}");
    scene.succeeds("uninstall", &[]);
    assert_eq!(scene.host()["bin/bridge"], theirs);
}

/// Without CAP_FOWNER another user's file cannot be linked.
#[test]
fn a_file_that_cannot_be_linked_is_copied() {
    let scene = Scene::new();
    fs::remove_file(scene.path("bin/static")).unwrap();
    let before = scene.host();
    let injection = "inject=linkat:error=EPERM";
    let output = scene.call(&["strace", "-f", "-o", "/dev/null", "-e", injection], "install", &[]);
    assert!(output.status.success(), "{output:?}");
    scene.succeeds("uninstall", &[]);
    assert_eq!(scene.host(), before);
}

#[test]
fn the_first_conflist_needs_a_word() {
    let scene = Scene::new();
    fs::remove_file(scene.path("net.d/05-flannel.conflist")).unwrap();
    let error = refused(&scene, &[]);
    assert!(error.contains("10-moor.conflist would be the first conflist of"), "{error}");
    scene.succeeds("install", &["--first"]);
    scene.release("2");
    scene.succeeds("install", &[]);
    assert!(scene.host()["net.d/10-moor.conflist"].1.ends_with(b"\"release\":2}"));
}

/// An administrator's conflist of our name is no permission.
#[test]
fn another_conflist_of_that_name_is_not_replaced_as_the_first() {
    let scene = Scene::new();
    fs::remove_file(scene.path("net.d/05-flannel.conflist")).unwrap();
    fs::write(scene.path("net.d").join(CONFLIST), "{}").unwrap();
    assert!(refused(&scene, &[]).contains("would be the first"));
}

#[test]
fn what_cannot_be_installed_is_refused() {
    let scene = Scene::new();
    let error = refused(&scene, &["--only", "bridge"]);
    assert!(error.contains("names the plugin \"host-local\"") && error.contains("failed to find"), "{error}");
    fs::create_dir(scene.path("bin/vlan")).unwrap();
    assert!(refused_beside(&scene).contains("bin/vlan is a directory"));
    fs::remove_dir(scene.path("bin/vlan")).unwrap();
    fs::write(scene.path("image").join(CONFLIST), "{").unwrap();
    assert!(refused(&scene, &[]).contains("read the conflist"));
    fs::remove_dir_all(scene.path("bin")).unwrap();
    scene.release("1");
    let output = scene.call(&[], "install", &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("must be mounted at") && error.contains("No such file"), "{error}");
}

fn refused_beside(scene: &Scene) -> String {
    String::from_utf8(scene.call(&[], "install", &[]).stderr).unwrap()
}

#[test]
fn a_directory_that_is_mounted_noexec_is_refused() {
    let scene = Scene::new();
    let before = scene.host();
    let script = format!("mount -t tmpfs -o noexec t '{}' && exec \"$@\"", scene.path("bin").display());
    let wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let output = scene.call(&wrapper, "install", &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("can be executed: it is mounted noexec"), "{error}");
    assert_eq!(scene.host(), before);
}

/// Only root can set a label, and only where the filesystem has such attributes.
#[test]
fn a_file_has_the_selinux_label_of_the_one_that_it_replaces() {
    let scene = Scene::new();
    let name = "security.selinux";
    let (bridge, dhcp) = (scene.path("bin/bridge"), scene.path("bin/dhcp"));
    let label = |path: &Path| {
        let script = "import os, sys; print(os.getxattr(*sys.argv[1:], follow_symlinks=False).decode())";
        let path = path.to_str().unwrap();
        let output = Command::new("python3").args(["-c", script, path, name]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let set = |path: &Path, value: &str| {
        let script = "import os, sys; os.setxattr(sys.argv[1], sys.argv[2], sys.argv[3].encode())";
        let mut python = Command::new("python3");
        python.args(["-c", script, path.to_str().unwrap(), name, value]).status().unwrap().success()
    };
    if !set(&bridge, "u:r:other_t:s0") {
        assert!(!nix::unistd::geteuid().is_root() || !initial_user_namespace(), "root cannot set a label");
        println!("not run: this user cannot set {name}");
        return;
    }
    scene.succeeds("install", &[]);
    assert_eq!(label(&bridge).as_deref(), Some("u:r:other_t:s0"), "another's file is replaced");
    assert_eq!(label(&dhcp), None, "one without a label");
    assert!(set(&dhcp, "u:r:own_t:s0"));
    scene.release("2");
    scene.succeeds("install", &[]);
    assert_eq!(label(&dhcp).as_deref(), Some("u:r:own_t:s0"), "our own file is replaced");
    assert_eq!(label(&scene.path("bin/static")), None, "it was a link");
    scene.succeeds("uninstall", &[]);
    assert_eq!(label(&bridge).as_deref(), Some("u:r:other_t:s0"));
}

fn initial_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").unwrap().split_whitespace().eq(["0", "0", "4294967295"])
}

#[test]
fn a_record_that_leads_elsewhere_is_refused() {
    let scene = Scene::new();
    scene.succeeds("install", &[]);
    let record = scene.path("bin/.moor/SHA256SUMS");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("  bridge", "  ../bridge")).unwrap();
    for verb in ["install", "uninstall"] {
        let output = scene.call(&[], verb, &[]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains("no name of a file"), "{error}");
    }
    fs::remove_dir_all(scene.path("bin/.moor")).unwrap();
    symlink("/tmp", scene.path("bin/.moor")).unwrap();
    assert!(refused_beside(&scene).contains("it is no directory"));
}

#[test]
fn the_record_is_read_by_sha256sum() {
    let scene = Scene::new();
    scene.succeeds("install", &[]);
    for dir in ["bin", "net.d"] {
        let mut check = Command::new("sha256sum");
        check.args(["--quiet", "--strict", "-c", ".moor/SHA256SUMS"]).current_dir(scene.path(dir));
        assert!(check.status().unwrap().success());
    }
}

#[test]
fn of_two_installs_at_once_each_waits_for_the_other() {
    let scene = Scene::new();
    let before = scene.host();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| scene.succeeds("install", &[]));
        }
    });
    scene.succeeds("uninstall", &[]);
    assert_eq!(scene.host(), before);
}

#[test]
fn wait_ends_with_sigterm() {
    let scene = Scene::new();
    let (image, list) = (scene.path("image"), scene.path("image").join(CONFLIST));
    let (bin, net_d) = (scene.path("bin"), scene.path("net.d"));
    let all = [("--from", &image), ("--conflist", &list), ("--bin", &bin), ("--net-d", &net_d)];
    for verb in ["wait", "install"] {
        let mut command = Command::new(OURS);
        command.arg(verb).stdout(Stdio::null());
        if verb == "install" {
            command.arg("--wait");
            command.args(all.iter().flat_map(|(option, path)| [option.as_ref(), path.as_os_str()]));
        }
        let mut child = command.spawn().unwrap();
        let is_installed = || verb == "wait" || net_d.join(CONFLIST).exists();
        let began = Instant::now();
        while !is_installed() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(is_installed());
        std::thread::sleep(Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none(), "{verb} waits");
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{verb}");
    }
}
