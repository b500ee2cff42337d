//! `make install`: the installed files, and how other installers can change them.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_moor-plugins");
const MAKEFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Makefile");
const NAMES: [&str; 23] = [
    "bandwidth",
    "bridge",
    "cluster",
    "dhcp",
    "dns",
    "dnsname",
    "dummy",
    "firewall",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "moor-plugins",
    "overlay",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tap",
    "tuning",
    "vlan",
    "vrf",
];

/// Installs this executable below `home`; returns the directory of the plugins.
fn installed(home: &Path, options: &[&str]) -> std::path::PathBuf {
    let bin = home.join("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        fs::copy(EXECUTABLE, bin.join("moor-plugins")).unwrap();
        // In the place of the agent and the tool, which other packages build.
        fs::copy("/bin/sh", bin.join("moor")).unwrap();
        fs::copy("/bin/sh", bin.join("overlay-agent")).unwrap();
    }
    let mut make = Command::new("make");
    // A make that runs this test passes its options by these variables.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    make.arg("-C").arg(home).args(["-f", MAKEFILE, "install", "PREFIX=/plugins"]);
    let output = make.arg(format!("DESTDIR={}", home.display())).args(options).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    home.join("plugins")
}

fn about(program: &Path) -> String {
    let output = Command::new(program).arg("--version").env_clear().output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn another_networks_loopback_replaces_only_loopback() {
    let home = tempfile::tempdir().unwrap();
    let plugins = installed(home.path(), &[]);
    let others = home.path().join("loopback");
    fs::write(&others, "#!/bin/sh\necho another\n").unwrap();
    let copied = Command::new("cp").arg("-f").arg(&others).arg(&plugins).status().unwrap();
    assert!(copied.success());
    for name in NAMES {
        let printed = about(&plugins.join(name));
        match name {
            "loopback" => assert_eq!(printed, "another\n"),
            "dnsname" => assert!(printed.starts_with("dns"), "{printed}"),
            _ => assert!(printed.starts_with(name), "{name}: {printed}"),
        }
    }
}

#[test]
fn links_are_optional_and_the_next_install_replaces_them() {
    let home = tempfile::tempdir().unwrap();
    let links = |plugins: &Path| fs::metadata(plugins.join("bridge")).unwrap().nlink();
    let plugins = installed(home.path(), &["LINKS=1"]);
    let tool = home.path().join("usr/local/bin/moor");
    assert_eq!(fs::read_link(tool).unwrap(), Path::new("/plugins/moor"));
    assert!(fs::symlink_metadata(plugins.join("moor")).unwrap().is_file());
    assert_eq!(links(&plugins), NAMES.len() as u64);
    assert_eq!(links(&installed(home.path(), &[])), 1);
    let files = NAMES.map(|name| fs::metadata(plugins.join(name)).unwrap().ino());
    let mut different = files.to_vec();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), NAMES.len(), "{files:?}");
}

#[test]
fn man_pages_and_completions_go_where_man_and_the_shells_look() {
    let home = tempfile::tempdir().unwrap();
    let share = home.path().join("bin/share");
    let files = ["man/man1/moor.1", "bash-completion/completions/moor", "zsh/site-functions/_moor"];
    installed(home.path(), &[]);
    assert!(!home.path().join("usr/local/share").exists(), "without make man there are none");
    for file in files {
        let file = share.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "text").unwrap();
    }
    installed(home.path(), &["MANDIR=/usr/share/man"]);
    let there = ["usr/share/man/man1/moor.1", "usr/local/share/bash-completion/completions/moor"];
    for file in there.into_iter().chain(["usr/local/share/zsh/site-functions/_moor"]) {
        let file = home.path().join(file);
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
    }
}
