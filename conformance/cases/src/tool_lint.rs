//! `moor lint` on a host: what a file gets wrong of it, and files of others.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::room::Room;
use serde_json::Value;

use crate::tool::case;

pub const CASES: &[Case] = &[
    case("tool/lint_points_at_what_the_host_lacks", &["T-060"], host),
    case("tool/lint_takes_the_files_of_others", &["T-028"], foreign),
];

/// A file, and what is wrong with it: the code, the line, and the column.
const FILES: [(&str, &str, &str, (u64, u64)); 5] = [
    (
        "10-veth.conflist",
        r#"{"cniVersion": "1.0.0", "name": "veth", "plugins": [
  {"type": "bridge", "bridge": "d0"}]}"#,
        "L053",
        (2, 32),
    ),
    (
        "20-lan.conflist",
        r#"{"cniVersion": "1.0.0", "name": "lan", "plugins": [
  {"type": "macvlan", "master": "nope0"}]}"#,
        "L054",
        (2, 33),
    ),
    (
        "30-taken.conflist",
        r#"{"cniVersion": "1.0.0", "name": "taken", "plugins": [
  {"type": "bridge", "bridge": "b9",
   "ipam": {"type": "host-local", "subnet": "10.71.0.128/25"}}]}"#,
        "L047",
        (3, 45),
    ),
    (
        "40-missing.conflist",
        r#"{"cniVersion": "1.0.0", "name": "missing", "plugins": [{"type": "nobodys"}]}"#,
        "L050",
        (1, 65),
    ),
    (
        "50-sane.conflist",
        r#"{"cniVersion": "1.0.0", "name": "sane", "plugins": [{"type": "loopback"}]}"#,
        "",
        (0, 0),
    ),
];

fn host(room: &Room) -> Result<()> {
    ip::script(None, "link add d0 type veth peer name d1\naddress add 10.71.0.1/24 dev d0\nlink set d0 up")?;
    let dir = room.scratch("net.d").display().to_string();
    for (name, text, ..) in FILES {
        room.write(&format!("net.d/{name}"), text)?;
    }
    let before = room.snapshot()?;
    let (found, exit) = lint(room, &["--exec", "--dir", &dir])?;
    ensure!(exit == Some(1), "exit {exit:?}");
    let found: Vec<(String, &str, (u64, u64))> = found.iter().filter_map(place).collect();
    let expected: Vec<_> = FILES
        .into_iter()
        .filter(|(_, _, code, _)| !code.is_empty())
        .map(|(name, _, code, place)| (format!("{dir}/{name}"), code, place))
        .collect();
    ensure!(found == expected, "found {found:#?}");

    // A warning alone is an error when that is asked for.
    let taken = format!("{dir}/30-taken.conflist");
    for (args, exit) in [(&["--strict"][..], 1), (&[], 0), (&["--strict", "--offline"], 0)] {
        let answer = room.tool(&[&["lint", &taken], args].concat()).run()?;
        ensure!(answer.status.code() == Some(exit), "{args:?}: {}", answer.summary());
    }
    room.ensure_unchanged(&before, "lint")
}

/// A finding's file, code and place.
fn place(found: &Value) -> Option<(String, &str, (u64, u64))> {
    let at = (found["line"].as_u64()?, found["column"].as_u64()?);
    Some((found["file"].as_str()?.to_owned(), found["code"].as_str()?, at))
}

fn lint(room: &Room, args: &[&str]) -> Result<(Vec<Value>, Option<i32>)> {
    let answer = room.tool(&[&["--json", "lint"], args].concat()).run()?;
    let document: Value = serde_json::from_slice(&answer.stdout).with_context(|| answer.summary())?;
    let items = document["items"].as_array().with_context(|| answer.summary())?;
    Ok((items.clone(), answer.status.code()))
}

/// Files of the shape that other vendors install.
const FOREIGN: [(&str, &str); 7] = [
    ("05-cilium.conflist", include_str!("../../../testdata/tool/foreign/05-cilium.conflist")),
    ("10-calico.conflist", include_str!("../../../testdata/tool/foreign/10-calico.conflist")),
    ("10-containerd-net.conflist", include_str!("../../../testdata/tool/foreign/10-containerd-net.conflist")),
    ("10-flannel.conflist", include_str!("../../../testdata/tool/foreign/10-flannel.conflist")),
    (
        "11-crio-ipv4-bridge.conflist",
        include_str!("../../../testdata/tool/foreign/11-crio-ipv4-bridge.conflist"),
    ),
    ("200-loopback.conf", include_str!("../../../testdata/tool/foreign/200-loopback.conf")),
    ("87-podman.conflist", include_str!("../../../testdata/tool/foreign/87-podman.conflist")),
];

fn foreign(room: &Room) -> Result<()> {
    let mut names = Vec::new();
    for (name, text) in FOREIGN {
        // Each is the only network of its host.
        let path = room.write(&format!("{name}.d/{name}"), text)?.display().to_string();
        let (found, exit) = lint(room, &["--offline", &path])?;
        let errors = found.iter().filter(|found| found["severity"] == "error").count();
        ensure!(errors == 0 && exit == Some(0), "{name}: {found:#?}");
        let dir = room.scratch(&format!("{name}.d")).display().to_string();
        let listed = room.tool(&["network", "ls", "-q", "--dir", &dir]).run()?;
        names.push(String::from_utf8_lossy(&listed.stdout).trim().to_owned());
        ensure!(std::fs::read_to_string(&path)? == text, "{name} was changed");
    }
    ensure!(names.iter().all(|name| !name.is_empty()), "not all are listed: {names:?}");
    Ok(())
}
