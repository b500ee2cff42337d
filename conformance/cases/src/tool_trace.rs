//! `moor trace`: what runtimes ask plugins, and what they answer.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::room::Room;
use harness::stage::dns::until;
use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::tool::case;
use crate::tool_run::networks;

pub const CASES: &[Case] = &[
    case("tool/trace_records_every_call_of_a_command_and_changes_nothing", &["T-074"], of_a_command),
    case("tool/trace_start_loses_no_call_and_stop_restores_the_directory", &["T-075"], of_all),
    case("tool/a_recorded_plugin_ends_as_it_would_without", &["T-076"], ends),
];

const LOG: &str = "/var/log/moor/trace.jsonl";
const PLUGINS: [&str; 4] = ["bridge", "dns", "host-local", "portmap"];

/// A directory of plugins of the case's own, and a place for the log.
fn plugins(room: &Room) -> Result<PathBuf> {
    networks(room)?;
    mount(Some("tmpfs"), "/var/log", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .context("mount /var/log")?;
    let dir = room.scratch("plugins");
    fs::create_dir_all(&dir)?;
    for name in PLUGINS {
        symlink(room.suite.join(name), dir.join(name))?;
    }
    Ok(dir)
}

/// The names of a directory, with their inodes.
fn listing(dir: &Path) -> Result<BTreeMap<String, u64>> {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        names
            .insert(entry.file_name().to_string_lossy().into_owned(), entry.path().symlink_metadata()?.ino());
    }
    Ok(names)
}

fn moor(room: &Room, dir: &Path, words: &[&str]) -> Result<()> {
    let call = room.tool(words).env("CNI_PATH", dir).env("NETCONFPATH", room.scratch("net.d"));
    let answer = call.run()?;
    ensure!(answer.succeeded(), "moor {}: {}: {}", words.join(" "), answer.status, answer.stderr);
    Ok(())
}

fn log() -> Result<Vec<Value>> {
    let text = fs::read_to_string(LOG).context("read the log")?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// How often each plugin was called by each verb.
fn counts(log: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in log {
        *counts.entry(format!("{} {}", line["command"], line["plugin"]).replace('"', "")).or_default() += 1;
    }
    counts
}

fn each(count: usize) -> BTreeMap<String, usize> {
    let all = ["ADD", "DEL"].iter().flat_map(|verb| PLUGINS.map(|plugin| format!("{verb} {plugin}")));
    all.map(|call| (call, count)).collect()
}

fn of_a_command(room: &Room) -> Result<()> {
    let dir = plugins(room)?;
    let before = listing(&dir)?;
    let tool = room.suite.join("moor").display().to_string();
    moor(room, &dir, &["trace", "--", &tool, "run", "--network", "front", "--", "true"])?;
    ensure!(listing(&dir)? == before, "the directory of plugins is another");
    let log = log()?;
    ensure!(counts(&log) == each(1), "calls: {:?}", counts(&log));
    for line in &log {
        let known = line["stdin"]["name"] == "front" && line["exit"] == 0 && line["v"] == 1;
        ensure!(known && line["ifname"] == "eth0" && line["caller"]["pid"].is_u64(), "{line}");
    }
    let add = log.iter().find(|line| line["command"] == "ADD" && line["plugin"] == "bridge");
    let address = add.context("no ADD of bridge")?["stdout"]["ips"][0]["address"].clone();
    ensure!(address.as_str().is_some_and(|address| address.starts_with("10.90.1.")), "address {address}");
    ensure!(fs::metadata(LOG)?.permissions().mode() & 0o777 == 0o600, "the log is readable by others");
    Ok(())
}

fn of_all(room: &Room) -> Result<()> {
    let dir = plugins(room)?;
    let before = listing(&dir)?;
    moor(room, &dir, &["run", "--network", "front", "true"])?;
    moor(room, &dir, &["trace", "start"])?;
    let run = || moor(room, &dir, &["run", "--network", "front", "true"]);
    let stop = || moor(room, &dir, &["trace", "stop"]);
    std::thread::scope(|scope| -> Result<()> {
        let runs: Vec<_> = (0..6).map(|_| scope.spawn(run)).collect();
        runs.into_iter().try_for_each(|run| run.join().map_err(|_| anyhow::anyhow!("a run panicked"))?)
    })?;
    ensure!(counts(&log()?) == each(6), "calls: {:?}", counts(&log()?));
    // Stopped and started while runs go on: none fails.
    std::thread::scope(|scope| -> Result<()> {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        for _ in 0..4 {
            stop()?;
            moor(room, &dir, &["trace", "start"])?;
        }
        runs.into_iter().try_for_each(|run| run.join().map_err(|_| anyhow::anyhow!("a run panicked"))?)
    })?;
    stop()?;
    ensure!(listing(&dir)? == before, "after stop: {:?}, not {before:?}", listing(&dir)?);

    moor(room, &dir, &["trace", "start", "--for", "0s"])?;
    ensure!(listing(&dir)? != before, "nothing is recorded");
    run()?;
    ensure!(listing(&dir)? == before, "after the time: {:?}, not {before:?}", listing(&dir)?);

    moor(room, &dir, &["trace", "start", "portmap", "dns"])?;
    symlink(room.suite.join("portmap"), dir.join("portmap.new"))?;
    fs::rename(dir.join("portmap.new"), dir.join("portmap"))?;
    let installed = dir.join("portmap").symlink_metadata()?.ino();
    stop()?;
    ensure!(listing(&dir)?["portmap"] == installed, "an older plugin came back over a newer one");
    ensure!(listing(&dir)?["dns"] == before["dns"], "dns is not the original");
    Ok(())
}

fn ends(room: &Room) -> Result<()> {
    let dir = plugins(room)?;
    let script = "#!/bin/sh\ncat\ncase $CNI_COMMAND in\n\
                  ADD) echo $$ > /run/room/pid; exec sleep 100;;\nDEL) kill -USR2 $$;;\n\
                  *) echo err >&2; exit 3;;\nesac\n";
    let plugin = dir.join("own");
    fs::write(&plugin, script)?;
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755))?;
    moor(room, &dir, &["trace", "start", "own"])?;
    let call = |verb: &str| {
        let mut command = Command::new(&plugin);
        command.env("CNI_COMMAND", verb).stdin(Stdio::null());
        command
    };
    let output = call("CHECK").output()?;
    ensure!(output.status.code() == Some(3) && output.stderr == b"err\n", "{output:?}");
    let output = call("DEL").output()?;
    ensure!(output.status.signal() == Some(12), "the signal is not the original's: {}", output.status);
    let mut recorder = call("ADD").spawn()?;
    let read = || fs::read_to_string(room.scratch("pid")).ok().filter(|pid| pid.ends_with('\n'));
    until(Duration::from_secs(5), "the original runs", || read().is_some())?;
    let pid = read().unwrap_or_default();
    recorder.kill()?;
    recorder.wait()?;
    let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    until(Duration::from_secs(5), "the original has ended", || state().is_empty() || state().contains(") Z "))
}
