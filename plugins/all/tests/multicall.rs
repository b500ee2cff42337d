//! One executable in the place of many.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::Duration;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_moor-plugins");

/// Runs the command. Another test may fork while a program is copied, and its child has the copy
/// open for writing until it calls exec: such a program is tried again.
fn run(command: &mut Command) -> Output {
    for _ in 0..1000 {
        match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => sleep(Duration::from_millis(10)),
            result => return result.unwrap_or_else(|error| panic!("{command:?}: {error}")),
        }
    }
    panic!("{command:?}: still busy")
}

/// Runs VERSION of this program.
fn version(program: &Path, first: Option<&str>) -> Output {
    run(Command::new(program).args(first).env_clear().env("CNI_COMMAND", "VERSION"))
}

#[test]
fn the_name_of_a_link_or_copy_selects_the_plugin() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "bandwidth",
        "bridge",
        "cluster",
        "dhcp",
        "dns",
        "dummy",
        "firewall",
        "host-device",
        "host-local",
        "ipvlan",
        "loopback",
        "macvlan",
        "portmap",
        "sbr",
        "static",
        "tap",
        "tuning",
        "vlan",
        "vrf",
    ] {
        let at = |kind: &str| {
            let at = dir.path().join(kind);
            fs::create_dir_all(&at).unwrap();
            at.join(name)
        };
        fs::copy(EXECUTABLE, at("copy")).unwrap();
        fs::hard_link(at("copy"), at("hard")).unwrap();
        symlink(EXECUTABLE, at("soft")).unwrap();
        for program in [at("copy"), at("hard"), at("soft")] {
            let output = version(&program, None);
            assert!(output.status.success(), "{program:?}: {output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains("\"1.1.0\""), "{output:?}");
            let about = run(Command::new(&program).arg("--version").env_clear());
            assert!(String::from_utf8_lossy(&about.stdout).starts_with(name), "{about:?}");
        }
    }
}

#[test]
fn the_first_argument_selects_the_plugin_too() {
    assert!(version(Path::new(EXECUTABLE), Some("bridge")).status.success());
}

#[test]
fn an_unknown_name_is_an_error_for_a_runtime_and_a_list_for_a_person() {
    let output = version(Path::new(EXECUTABLE), None);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("\"code\": 7") && printed.contains("host-local"), "{printed}");

    let output = run(Command::new(EXECUTABLE).env_clear());
    assert!(output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stdout)
            .contains("bandwidth, bridge, cluster, dhcp, dns, dummy, firewall, host-device, host-local")
    );
}

/// Runs a bridge with a configuration that its IPAM plugin refuses; returns exit status and output.
fn refused(programs: &Path) -> (Option<i32>, String) {
    let conf = r#"{"cniVersion":"1.1.0","name":"net","type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/31"}}"#;
    let config = programs.join("conf");
    fs::write(&config, conf).unwrap();
    let mut command = Command::new(programs.join("bridge"));
    command.env_clear().env("CNI_COMMAND", "STATUS").env("CNI_PATH", programs);
    let output = run(command.stdin(fs::File::open(config).unwrap()));
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// A directory with this executable as the bridge.
fn programs(dir: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
    let programs = dir.path().join(name);
    fs::create_dir(&programs).unwrap();
    fs::copy(EXECUTABLE, programs.join("bridge")).unwrap();
    programs
}

/// The error of a delegate is the same, whether it runs in this process or in its own.
#[test]
fn a_delegate_in_this_process_fails_as_a_process_does() {
    let dir = tempfile::tempdir().unwrap();
    let (linked, copied, longer) =
        (programs(&dir, "linked"), programs(&dir, "copied"), programs(&dir, "longer"));
    fs::hard_link(linked.join("bridge"), linked.join("host-local")).unwrap();
    fs::copy(EXECUTABLE, copied.join("host-local")).unwrap();
    // The same program in a longer file: it runs as a process.
    let bytes = [fs::read(EXECUTABLE).unwrap(), b"more".to_vec()].concat();
    fs::copy(EXECUTABLE, longer.join("host-local")).unwrap();
    fs::write(longer.join("host-local"), bytes).unwrap();
    let printed = refused(&linked);
    assert_eq!(printed, refused(&copied));
    assert_eq!(printed, refused(&longer));
    assert!(printed.0 == Some(1) && printed.1.contains("too small to allocate from"), "{printed:?}");
}

/// A copy of this executable with all but its head blank: it cannot run as a process.
fn blank(programs: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(EXECUTABLE).unwrap();
    bytes[4096..].fill(0);
    change(&mut bytes);
    let at = programs.join("host-local");
    fs::copy(EXECUTABLE, &at).unwrap();
    fs::write(at, bytes).unwrap();
}

#[test]
fn a_copy_of_this_build_needs_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let programs = programs(&dir, "programs");
    blank(&programs, |_| {});
    assert!(refused(&programs).1.contains("too small to allocate from"));
}

#[test]
fn another_build_runs_as_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let programs = programs(&dir, "programs");
    blank(&programs, |bytes| {
        let id = bytes.windows(8).position(|bytes| bytes == b"\x03\0\0\0GNU\0").unwrap();
        bytes[id + 8] ^= 1;
    });
    let printed = refused(&programs);
    assert!(printed.0 == Some(1) && !printed.1.contains("too small to allocate from"), "{printed:?}");
}
