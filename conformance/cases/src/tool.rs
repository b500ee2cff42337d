//! `moor`, the tool: how it is called.

use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::case::{Case, Failure};
use harness::need::{EVERY_PROCESS, Need};
use harness::room::Room;
use harness::room::call::Call;

pub const CASES: &[Case] = &[
    case("tool/a_runtime_gets_one_error_and_no_command_runs", &["T-001"], by_runtime),
    case("tool/a_plugins_name_calls_the_plugin_in_the_same_process", &["T-002"], by_plugins_name),
];

/// A case of the tool, which other suites do not have.
pub const fn case(
    name: &'static str,
    clauses: &'static [&'static str],
    run: fn(&Room) -> Result<(), Failure>,
) -> Case {
    Case::new(name, clauses, run).needs(&[Need::Tool])
}

/// A call of the tool that sees every process of the machine, as on a host: the room's own `/proc`
/// is taken away, and the machine's is below it.
pub fn with_every_process<'r>(room: &'r Room, words: &[&str]) -> Call<'r> {
    room.tool(words).under(&EVERY_PROCESS)
}

fn by_runtime(room: &Room) -> Result<()> {
    room.write(
        "net.d/10-front.conflist",
        r#"{"cniVersion":"1.0.0","name":"front","plugins":[{"type":"bridge"}]}"#,
    )?;
    let dir = room.scratch("net.d");
    let before = room.snapshot()?;
    let words: [&[&str]; 4] = [&[], &["network", "rm", "front"], &["bridge", "--help"], &["--version"]];
    for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "other", ""] {
        for words in words {
            let call = room.tool(words).env("CNI_COMMAND", verb).env("NETCONFPATH", &dir);
            let answer = call.stdin("{}").run()?;
            answer.error_with(7, "not the name of a plugin")?;
            ensure!(answer.status.code() == Some(1), "{verb:?} {words:?}: {}", answer.status);
        }
    }
    ensure!(dir.join("10-front.conflist").is_file(), "the conflist is gone");
    room.ensure_unchanged(&before, "a call by a runtime")
}

fn by_plugins_name(room: &Room) -> Result<()> {
    let own = room.call("bridge", "").unset("CNI_COMMAND").argv(&["--help"]).run()?;
    ensure!(own.succeeded(), "bridge --help: {}", own.summary());
    let answer = room.tool(&["bridge", "--help"]).run()?;
    ensure!(answer.stdout == own.stdout && answer.succeeded(), "moor bridge --help: {}", answer.summary());

    // An earlier release's link of a plugin's name, under a runtime; the plugin lies in the path alone.
    let link = room.scratch("bridge");
    symlink(room.suite.join("moor"), &link)?;
    let own = room.call("bridge", "VERSION").run()?;
    let mut linked = Command::new(&link);
    linked.env_clear().env("CNI_COMMAND", "VERSION").env("CNI_PATH", &room.suite);
    let child = linked.stdin(std::process::Stdio::null()).output().context("run the link")?;
    ensure!(child.stdout == own.stdout, "the link answers {:?}", String::from_utf8_lossy(&child.stdout));

    // A tool that lies with no plugin: the error names the plugin, and nothing loops.
    let alone = room.scratch("alone");
    std::fs::create_dir_all(&alone)?;
    std::fs::copy(room.suite.join("moor"), alone.join("moor"))?;
    symlink("moor", alone.join("bridge"))?;
    for mut command in [Command::new(alone.join("bridge")), Command::new(alone.join("moor"))] {
        let output = command.arg("bridge").env_clear().env("CNI_PATH", &alone).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(127) && text.contains("bridge"), "{}: {text}", output.status);
    }
    Ok(())
}
