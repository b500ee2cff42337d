//! Delegation when another vendor's plugin has the name of one of the suite's (C-080): installers
//! of other networks write their own `loopback`, `host-local` and `portmap` into the same
//! directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge};
use harness::fake::Fake;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::{Answer, Call};

pub const CASES: &[Case] = &[
    Case::new("delegation/another_vendors_plugin_of_the_same_name_is_run", &["C-080"], replaced),
    Case::new("delegation/a_copy_of_the_delegate_works", &["C-080"], copy),
    Case::new("delegation/a_copy_of_one_executable_is_called_in_its_process", &["HO-40"], in_process)
        .needs(&[Need::Strace]),
];

/// An address that host-local would not allocate first.
const ANSWER: &str = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
printf '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.207/24","gateway":"10.1.2.1"}]}'"#;

/// A directory with a copy of the suite's host-local.
fn copied(room: &Room) -> Result<PathBuf> {
    let dir = room.scratch("copies");
    fs::create_dir_all(&dir)?;
    fs::copy(room.suite.join("host-local"), dir.join("host-local")).context("copy host-local")?;
    Ok(dir)
}

fn call(room: &Room, verb: &str, container: &Container, cni_path: &Path) -> Result<Answer> {
    room.attach("bridge", verb, container).env("CNI_PATH", cni_path).config(&bridge(USUAL)).run()
}

fn replaced(room: &Room) -> Result<()> {
    let dir = copied(room)?;
    let fake = Fake::new(room, "host-local", ANSWER)?;
    let container = room.container("c1")?;
    // As `cp -f` does: into the existing file.
    fs::write(dir.join("host-local"), fs::read(fake.dir.join("host-local"))?)?;
    let result = call(room, "ADD", &container, &dir)?.result()?;
    ensure!(
        result["ips"][0]["address"] == "10.1.2.207/24",
        "the address is not that of the plugin in CNI_PATH: {result}"
    );
    call(room, "DEL", &container, &dir)?.silent()?;
    ensure!(fake.commands()? == ["ADD", "DEL"], "it was called for {:?}", fake.commands()?);
    Ok(())
}

fn copy(room: &Room) -> Result<()> {
    let dir = copied(room)?;
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    call(room, "ADD", &container, &dir)?.result()?;
    call(room, "DEL", &container, &dir)?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn in_process(room: &Room) -> Result<()> {
    let dir = room.scratch("copies");
    fs::create_dir_all(&dir)?;
    for name in ["bridge", "host-local"] {
        fs::copy(room.suite.join("moor-plugins"), dir.join(name)).context("copy moor-plugins")?;
    }
    let container = room.container("c1")?;
    let log = room.scratch("strace").display().to_string();
    let words = ["strace", "-f", "-qq", "-e", "trace=execve,?execveat", "-o", &log];
    for verb in ["ADD", "DEL"] {
        let call = Call::new(room, dir.join("bridge")).env("CNI_COMMAND", verb).env("CNI_PATH", &dir);
        let call = call.env("CNI_CONTAINERID", &container.id).env("CNI_NETNS", &container.path);
        let answer = call.env("CNI_IFNAME", "eth0").config(&bridge(USUAL)).under(&words).run()?;
        ensure!(answer.succeeded(), "{}", answer.summary());
        let programs = fs::read_to_string(&log)?.matches("execve").count();
        ensure!(programs == 1, "{verb} runs {programs} programs");
    }
    Ok(())
}
