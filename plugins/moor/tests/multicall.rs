//! One executable in the place of many.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const MOOR: &str = env!("CARGO_BIN_EXE_moor");

/// VERSION of whatever is at the path.
fn version(program: &Path, first: Option<&str>) -> Output {
    let mut command = Command::new(program);
    let output = command.args(first).env_clear().env("CNI_COMMAND", "VERSION").output();
    output.unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

#[test]
fn a_link_and_a_copy_are_the_plugin_of_their_name() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bridge", "dns", "host-local", "ipvlan", "loopback", "macvlan"] {
        let at = |kind: &str| {
            let at = dir.path().join(kind);
            fs::create_dir_all(&at).unwrap();
            at.join(name)
        };
        fs::copy(MOOR, at("copy")).unwrap();
        fs::hard_link(at("copy"), at("hard")).unwrap();
        symlink(MOOR, at("soft")).unwrap();
        for program in [at("copy"), at("hard"), at("soft")] {
            let output = version(&program, None);
            assert!(output.status.success(), "{program:?}: {output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains("\"1.1.0\""), "{output:?}");
            let about = Command::new(&program).arg("--version").env_clear().output().unwrap();
            assert!(String::from_utf8_lossy(&about.stdout).starts_with(name), "{about:?}");
        }
    }
}

#[test]
fn the_first_argument_names_the_plugin_too() {
    assert!(version(Path::new(MOOR), Some("bridge")).status.success());
}

#[test]
fn an_unknown_name_is_one_error_for_a_runtime_and_a_list_for_a_person() {
    let output = version(Path::new(MOOR), None);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("\"code\": 7") && said.contains("host-local"), "{said}");

    let output = Command::new(MOOR).env_clear().output().unwrap();
    assert!(output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stdout)
            .contains("bridge, dns, host-local, ipvlan, loopback, macvlan")
    );
}

/// What a delegate says is the same, whether it is a process of its own or not: here a bridge whose IPAM plugin
/// refuses the configuration before anything is touched.
#[test]
fn a_delegate_in_process_fails_as_one_of_its_own_does() {
    let dir = tempfile::tempdir().unwrap();
    let conf = r#"{"cniVersion":"1.1.0","name":"net","type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/31"}}"#;
    let status = |programs: &Path| {
        let config = programs.join("conf");
        fs::write(&config, conf).unwrap();
        let mut command = Command::new(programs.join("bridge"));
        command.env_clear().env("CNI_COMMAND", "STATUS").env("CNI_PATH", programs);
        let output = command.stdin(fs::File::open(config).unwrap()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for at in [&one, &two] {
        fs::create_dir(at).unwrap();
        fs::copy(MOOR, at.join("bridge")).unwrap();
    }
    // One file under two names is called in-process; a copy is another file, and a process.
    fs::hard_link(one.join("bridge"), one.join("host-local")).unwrap();
    fs::copy(MOOR, two.join("host-local")).unwrap();
    let in_process = status(&one);
    assert_eq!(in_process, status(&two));
    assert!(in_process.0 == Some(1) && in_process.1.contains("too small to allocate from"), "{in_process:?}");
}
