//! `moor network connect` and `disconnect`: another network for a container that runs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::namespace::Container;
use harness::room::Room;
use harness::room::company::Beside;
use harness::stage::dns::until;
use nix::sys::signal::{Signal, kill};

use crate::tool::case;
use crate::tool_run::{BRIDGES, IDS, Running, moor, moor_ends, networks};

pub const CASES: &[Case] = &[
    case("tool/connect_adds_an_interface_and_disconnect_removes_it", &["T-019"], connects),
    case("tool/connect_that_fails_leaves_nothing", &["T-020"], fails),
];

const SOON: Duration = Duration::from_secs(10);

fn routes(name: &str) -> Result<Vec<String>> {
    let rows = ip::rows(Some(name), &["route", "show", "default"])?;
    Ok(rows.iter().map(|row| format!("{} {}", row["dev"], row["metric"])).collect())
}

fn container(running: &Running) -> Container {
    Container { id: running.name.clone(), path: format!("/run/netns/{}", running.name).into() }
}

fn connects(room: &Room) -> Result<()> {
    networks(room)?;
    let web = Running::start(room, "web", "front", &["--network", "front"])?;
    // The network is there after its first attachment.
    moor_ends(room, &["run", "--network", "back", "true"], 0)?;
    let (before, inside) = (room.snapshot()?, room.snapshot_in(&container(&web))?);
    let usual = routes("web")?;

    let answer =
        moor_ends(room, &["network", "connect", "--alias", "www", "--ip", "10.90.2.55", "back", "web"], 0)?;
    ensure!(answer.stdout.is_empty(), "docker prints nothing: {:?}", answer.stdout);
    let addresses = ip::addresses(Some("web"), "eth1")?;
    ensure!(addresses.iter().any(|address| address.starts_with("10.90.2.55")), "eth1 has {addresses:?}");
    ensure!(routes("web")?.first() == usual.first(), "the default route moved: {:?}", routes("web")?);
    let answer = moor_ends(room, &["run", "--network", "back", "getent", "hosts", "www"], 0)?;
    ensure!(answer.stdout.starts_with(b"10.90.2.55"), "www is not found from the other side");
    let answer = moor(room, &["network", "connect", "back", "web"])?;
    ensure!(answer.status.code() == Some(1) && answer.stderr.contains("eth1"), "{}", answer.summary());
    moor_ends(room, &["network", "disconnect", "back", "web"], 0)?;
    ensure!(routes("web")? == usual, "the default route is another: {:?}", routes("web")?);
    same(room, &web, &before, &inside)?;

    moor_ends(room, &["network", "connect", "--gw-priority", "1", "back", "web"], 0)?;
    let first = routes("web")?.first().cloned().unwrap_or_default();
    ensure!(first.starts_with("\"eth1\""), "--gw-priority does not move the default route: {first}");
    moor_ends(room, &["network", "disconnect", "back", "web"], 0)?;
    same(room, &web, &before, &inside)?;

    // Somebody else's namespace without any attachment, by its path; it ends first.
    let plain = room.container("plain")?;
    let path = plain.path.display().to_string();
    let mut command = std::process::Command::new(room.suite.join("moor"));
    command.args(["network", "connect", "--wait", "back", &path]);
    command.env("CNI_PATH", &room.suite).env("NETCONFPATH", room.scratch("net.d"));
    let mut waiting = Beside::start(&mut command)?;
    until(SOON, "plain is connected", || ip::link(Some("plain"), "eth0").is_ok_and(|link| link.is_some()))?;
    until(SOON, "plain is on record", || results().iter().any(|name| name.starts_with("back-")))?;
    room.remove(&plain)?;
    let status = waiting.0.wait().context("wait for connect --wait")?;
    ensure!(status.success(), "connect --wait: {status}");
    same(room, &web, &before, &inside)
}

fn results() -> Vec<String> {
    let entries = fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Nothing of the second network is left, on the host and in the container.
fn same(room: &Room, web: &Running, before: &[String], inside: &[String]) -> Result<()> {
    let left = room.left_since(before, &BRIDGES, &IDS)?;
    ensure!(left.is_empty(), "left on the host: {left:?}");
    let now = room.snapshot_in(&container(web))?;
    let changed = harness::diff::lines(inside, &now);
    ensure!(changed.is_empty(), "left in the container: {changed:?}");
    Ok(())
}

fn fails(room: &Room) -> Result<()> {
    networks(room)?;
    let list = fs::read_to_string(room.scratch("net.d/back.conflist"))?;
    let broken = list.replace("\"back\"", "\"broken\"").replace("\"type\":\"dns\"", "\"type\":\"missing\"");
    room.write("net.d/broken.conflist", broken)?;
    let web = Running::start(room, "web", "front", &["--network", "front"])?;
    moor_ends(room, &["run", "--network", "back", "true"], 0)?;
    let (before, inside) = (room.snapshot()?, room.snapshot_in(&container(&web))?);

    let answer = moor_ends(room, &["network", "connect", "broken", "web"], 1)?;
    ensure!(answer.stderr.contains("missing"), "the plugin is not named: {}", answer.stderr);
    same(room, &web, &before, &inside)?;
    for words in [
        &["network", "connect", "nowhere", "web"][..],
        &["network", "connect", "--ifname", "eth0", "back", "web"],
        &["network", "disconnect", "back", "web"],
        // An attachment of `moor run` is that command's own.
        &["network", "disconnect", "front", "web"],
    ] {
        moor_ends(room, words, 1)?;
        same(room, &web, &before, &inside)?;
    }
    moor_ends(room, &["network", "disconnect", "-f", "front", "web"], 0)?;
    ensure!(ip::link(Some("web"), "eth0")?.is_none(), "eth0 is still there");
    kill(web.pid()?, Signal::SIGTERM)?;
    Ok(())
}
