//! dns: who may control the responder.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::need::{NOBODY, Need};
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, Named, control, control_at, expect, responder_pid, state_dirs};
use serde_json::{Value, json};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("dns/malformed_control_requests_are_ignored", &["D-055"], malformed),
    Case::new("dns/other_users_cannot_use_the_control_socket", &["D-055"], other_user)
        .needs(&[Need::OtherUsers]),
];

const HELLO: &str = r#"{"ask":"hello"}"#;

fn malformed(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let pid = responder_pid()?;
    let oversized = format!("{HELLO}{}", " ".repeat(5000));
    for junk in ["junk", "{}", "[]", r#"{"ask":"what"}"#, r#"{"ask":"sync"}"#, "\0", &oversized] {
        let answer = control(junk)?;
        ensure!(answer.is_empty(), "{} bytes were answered: {answer}", junk.len());
        let answer: Value = serde_json::from_str(&control(HELLO)?)?;
        ensure!(answer["pid"] == json!(pid), "{answer}");
    }
    // Valid requests about things that do not exist.
    for odd in [
        r#"{"ask":"sync","network":"../../etc"}"#,
        r#"{"ask":"adopt","network":"net","key":{"container":"x","ifname":"y"}}"#,
    ] {
        control(odd)?;
    }
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])?;
    ensure!(responder_pid()? == pid, "the responder was replaced");
    Ok(())
}

fn other_user(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let dir = state_dirs().into_iter().next().context("no state directory")?;
    let socket = dir.join("control.sock");
    let mode = |path: &Path| Ok::<u32, anyhow::Error>(fs::metadata(path)?.permissions().mode() & 0o777);
    ensure!(mode(&dir)? == 0o700 && mode(&socket)? == 0o600, "{:o} {:o}", mode(&dir)?, mode(&socket)?);
    ensure!(knock(&socket)?.contains("Permission denied"), "{}", knock(&socket)?);
    // If the modes were wrong, the responder would still check the user.
    let mut parent = Some(dir.as_path());
    while let Some(open) = parent.filter(|dir| dir.starts_with("/run/moor")) {
        fs::set_permissions(open, Permissions::from_mode(0o755))?;
        parent = open.parent();
    }
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    let answer = knock(&socket)?;
    ensure!(answer == "[]", "another user was answered: {answer}");
    ensure!(control(HELLO)?.contains("pid"), "its own user gets no answer");
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])
}

/// What another user receives at that socket, in brackets, or the error.
fn knock(socket: &Path) -> Result<String> {
    let mut command = Command::new("/proc/self/exe");
    let done = command.arg("__knock").arg(socket).uid(NOBODY).gid(NOBODY).output().context("knock")?;
    Ok(String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).trim().to_owned())
}

/// The hidden sub-command: sends hello to that socket.
pub fn knocked(socket: &Path) -> Result<bool> {
    println!("[{}]", control_at(socket, HELLO.as_bytes())?);
    Ok(true)
}
