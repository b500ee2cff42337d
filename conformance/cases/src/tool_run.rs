//! `moor run`, `lab` and `enter`: a command on networks, a host to play with, and the way into a
//! container's network.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Answer;
use harness::room::company::Beside;
use harness::stage::dns::until;
use harness::stage::portmap::{expect, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::tool::case;

pub const CASES: &[Case] = &[
    case("tool/run_attaches_in_order_and_returns_the_status", &["T-071"], attaches),
    case("tool/run_publishes_and_ends_without_a_trace", &["T-071"], ends),
    case("tool/run_and_lab_work_for_an_ordinary_user", &["T-072"], ordinary).needs(&[
        Need::Tool,
        Need::OtherUsers,
        Need::PidNamespace,
    ]),
    case("tool/enter_sees_the_containers_links_and_the_hosts_files", &["T-073"], enter),
];

/// The links of the networks.
pub const BRIDGES: [&str; 2] = ["br0", "br1"];
/// What the ids of `run` have in common.
pub const IDS: [&str; 1] = ["moor-"];

/// The time that an attachment may take on an idle machine.
const SOON: Duration = Duration::from_secs(10);

/// Two networks: front, with published ports, and back, both with names.
pub fn networks(room: &Room) -> Result<PathBuf> {
    for (number, name) in ["front", "back"].into_iter().enumerate() {
        let subnet = format!("10.90.{}.0/24", number + 1);
        let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": [
            {"type": "bridge", "bridge": BRIDGES[number], "isGateway": true, "ipMasq": true,
             "capabilities": {"ips": true, "mac": true},
             "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": subnet}]]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "dns", "capabilities": {"aliases": true}},
        ]});
        room.write(&format!("net.d/{name}.conflist"), list.to_string())?;
    }
    Ok(room.scratch("net.d"))
}

/// Runs the tool with the room's conflists.
pub fn moor(room: &Room, words: &[&str]) -> Result<Answer> {
    room.tool(words).env("NETCONFPATH", room.scratch("net.d")).env("SHELL", "/bin/sh").run()
}

/// Requires that it ends with this status.
pub fn moor_ends(room: &Room, words: &[&str], status: i32) -> Result<Answer> {
    let answer = moor(room, words)?;
    let shown = || format!("moor {}: {}: {}", words.join(" "), answer.status, answer.stderr);
    ensure!(answer.status.code() == Some(status), "{}", shown());
    Ok(answer)
}

/// A `moor run` in the background, whose command sleeps.
pub struct Running {
    pub beside: Beside,
    /// What it printed on standard error.
    pub stderr: PathBuf,
    /// The name of its namespace for `ip -n`.
    pub name: String,
    /// The container's id.
    pub id: String,
}

impl Running {
    /// Starts it, and waits until it is attached. `network` is its last one.
    pub fn start(room: &Room, name: &str, network: &str, words: &[&str]) -> Result<Self> {
        let stderr = room.scratch(&format!("{name}.err"));
        // What a shell starts in the background ignores SIGINT, and so does what that starts.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(room.suite.join("moor"));
        command.args(["run", "--name", name]).args(words).args(["--", "sleep", "100"]);
        command.env("CNI_PATH", &room.suite).env("NETCONFPATH", room.scratch("net.d"));
        command.stdout(Stdio::null()).stderr(File::create(&stderr)?);
        let beside = Beside::start(&mut command)?;
        let mut found = None;
        let text = || fs::read_to_string(&stderr).unwrap_or_default();
        until(SOON, &format!("{name} is attached to {network}"), || {
            found = record_of(name, network);
            found.is_some()
        })
        .with_context(text)?;
        let record = found.context("the record is gone")?;
        let netns = record["netns"].as_str().context("a record without a namespace")?;
        symlink(netns, format!("/run/netns/{name}"))?;
        let id = record["containerId"].as_str().unwrap_or_default().to_owned();
        Ok(Self { beside, stderr, name: name.to_owned(), id })
    }

    pub fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(self.beside.0.id().try_into()?))
    }

    /// Waits for the end of `moor`; its status as a shell has it.
    fn end(&mut self) -> Result<i32> {
        fs::remove_file(format!("/run/netns/{}", self.name))?;
        let status = self.beside.0.wait()?;
        status.code().or(status.signal().map(|signal| 128 + signal)).context("no status")
    }
}

/// The cached record of the container of that name.
fn record_of(name: &str, network: &str) -> Option<Value> {
    let entries = fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten();
    let records = entries.filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok());
    let mut records = records.filter(|record: &Value| record["networkName"] == network);
    records.find(|record| record["cniArgs"].to_string().contains(&format!("\"{name}\"")))
}

fn nothing_left(room: &Room, before: &[String]) -> Result<()> {
    until(SOON, "everything is detached", || {
        room.left_since(before, &BRIDGES, &IDS).is_ok_and(|left| left.is_empty())
    })
    .with_context(|| format!("{:?}", room.left_since(before, &BRIDGES, &IDS)))
}

fn attaches(room: &Room) -> Result<()> {
    networks(room)?;
    let before = room.snapshot()?;
    let script = "ip -br -4 addr; ip route show default; cat /etc/resolv.conf; ls /sys/class/net; exit 7";
    let words = ["run", "--network", "front", "--network", "name=back,mac-address=02:00:00:00:00:07"];
    let more = [
        "--ip",
        "10.90.1.77",
        "--alias",
        "www",
        "-p",
        "8080:80",
        "--dns",
        "192.0.2.1",
        "--",
        "sh",
        "-c",
        script,
    ];
    let answer = moor_ends(room, &[&words[..], &more[..]].concat(), 7)?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    for expected in ["10.90.1.77/24", "10.90.2.2/24", "default via 10.90.1.1 dev eth0 \n", "nameserver"] {
        ensure!(text.contains(expected), "{expected:?} is missing: {text}");
    }
    ensure!(!text.contains("192.0.2.1"), "the network's name server is not asked: {text}");
    nothing_left(room, &before)?;

    let last =
        ["--network", "front", "--network", "name=back,gw-priority=1", "ip", "route", "show", "default"];
    let answer = moor_ends(room, &[&["run"], &last[..]].concat(), 0)?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let first = text.lines().next().unwrap_or_default().trim();
    ensure!(first == "default via 10.90.2.1 dev eth1", "the higher priority has no default route: {text}");

    let answer = moor_ends(room, &["run", "--network", "none", "--", "ip", "-br", "link"], 0)?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    ensure!(text.lines().count() == 1 && text.contains("lo") && text.contains("UP"), "not only lo: {text}");
    let own = fs::read_link("/proc/self/ns/net")?.display().to_string();
    let answer = moor_ends(room, &["run", "--network", "host", "readlink", "/proc/self/ns/net"], 0)?;
    ensure!(String::from_utf8_lossy(&answer.stdout).trim() == own, "--network host is not the host's");

    for (words, status) in [
        (&["--network", "front", "no-such-program"][..], 127),
        (&["--network", "front", "/etc"], 126),
        (&["--network", "frnt", "true"], 125),
        (&["--network", "front", "sh", "-c", "kill -KILL $$"], 137),
        (&["-p", "0:80", "true"], 2),
        (&["-P", "true"], 2),
    ] {
        moor_ends(room, &[&["run"], words].concat(), status)?;
    }
    // The last plugin of a list is missing.
    let list = fs::read_to_string(room.scratch("net.d/front.conflist"))?;
    let broken = list.replace("\"front\"", "\"broken\"").replace("\"type\":\"dns\"", "\"type\":\"missing\"");
    room.write("net.d/broken.conflist", broken)?;
    moor_ends(room, &["run", "--network", "back", "--network", "broken", "true"], 125)?;
    nothing_left(room, &before)
}

fn ends(room: &Room) -> Result<()> {
    networks(room)?;
    room.outside(&["10.90.1.0/24"])?;
    let before = room.snapshot()?;
    let ports = ["--network", "front", "-p", "8080:80", "-p", "81"];
    let mut published = Running::start(room, "published", "front", &ports)?;
    let mut killed = Running::start(room, "killed", "back", &["--network", "front", "--network", "back"])?;

    serve(room, "published", 80)?;
    serve(room, "published", 81)?;
    expect(room, Some("outside"), "198.51.100.1", 8080, "published:80 198.51.100.2")?;
    let printed = fs::read_to_string(&published.stderr)?;
    let port = printed.split("host port ").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
    let port = port.with_context(|| format!("no port is printed: {printed}"))?;
    expect(room, Some("outside"), "198.51.100.1", port, "published:81 198.51.100.2")?;
    let answer = moor_ends(room, &["run", "--network", "front", "--", "getent", "hosts", "killed"], 0)?;
    ensure!(answer.stdout.starts_with(b"10.90.1."), "killed resolves to {:?}", answer.stdout);

    kill(published.pid()?, Signal::SIGINT)?;
    let status = published.end()?;
    ensure!(status == 130, "after SIGINT the status is {status}");
    kill(killed.pid()?, Signal::SIGKILL)?;
    killed.end()?;
    nothing_left(room, &before)
}

fn ordinary(room: &Room) -> Result<()> {
    let dir = networks(room)?;
    let as_user = |words: &[&str]| -> Result<(Option<i32>, String, String)> {
        let mut command = room.as_user(room.suite.join("moor"));
        command.args(words).env("CNI_PATH", &room.suite).env("NETCONFPATH", &dir).stdin(Stdio::null());
        let output = command.output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    };
    let before = room.snapshot()?;
    let (status, stdout, stderr) =
        as_user(&["run", "--network", "front", "--", "sh", "-c", "ip -br addr; exit 5"])?;
    ensure!(status == Some(5) && stdout.contains("10.90.1.2/24"), "{status:?}: {stdout}{stderr}");
    ensure!(
        stderr.lines().count() == 1 && stderr.contains("lab"),
        "not one line that names the lab: {stderr}"
    );
    let script =
        "test $(id -u) = 0 && ls -A /run /var/lib/cni && moor run --network back true && ls /etc/cni/net.d";
    let script = script.replace("moor", &room.suite.join("moor").display().to_string());
    let (status, stdout, stderr) = as_user(&["lab", "--", "sh", "-c", &script])?;
    let empty =
        stdout.starts_with("/run:\n\n/var/lib/cni:\n") && stdout.ends_with("back.conflist\nfront.conflist\n");
    ensure!(status == Some(0) && empty, "{status:?}: {stdout}{stderr}");
    room.ensure_unchanged(&before, "a lab")?;

    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$0\" lab -- true";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", forbid]).arg(room.suite.join("moor"));
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let named = stderr.contains("user.max_user_namespaces");
    ensure!(output.status.code() == Some(125) && named, "forbidden: {}: {stderr}", output.status);
    Ok(())
}

fn enter(room: &Room) -> Result<()> {
    networks(room)?;
    let web = Running::start(room, "web", "front", &["--network", "front"])?;
    let pid = fs::read_link("/run/netns/web")?.display().to_string();
    let pid = pid.split('/').nth(2).context("a path without a process")?.to_owned();
    let by_pid = format!("pid:{pid}");
    for container in ["web", &web.id[..9], by_pid.as_str(), "/run/netns/web"] {
        let answer = moor_ends(room, &["enter", container, "--", "ip", "-br", "addr", "show", "eth0"], 0)?;
        ensure!(String::from_utf8_lossy(&answer.stdout).contains("10.90.1.2/24"), "{container} is another");
    }
    let script = "cat /run/room/web.err /etc/hostname >/dev/null; ls /sys/class/net; exit 6";
    let answer = moor_ends(room, &["enter", "web", "sh", "-c", script], 6)?;
    ensure!(String::from_utf8_lossy(&answer.stdout).contains("eth0"), "/sys is the host's");
    let answer = moor_ends(room, &["enter", "web", "--dns", "--", "getent", "hosts", "web"], 0)?;
    ensure!(answer.stdout.starts_with(b"10.90.1.2"), "web does not find itself: {:?}", answer.stdout);
    moor_ends(room, &["enter", "web", "no-such-program"], 127)?;
    let missing = moor(room, &["enter", "nobody", "true"])?;
    ensure!(!missing.succeeded() && missing.stderr.contains("nobody"), "{}", missing.summary());
    // A namespace without any attachment.
    let empty = room.container("empty")?;
    let answer =
        moor_ends(room, &["enter", &empty.path.display().to_string(), "--", "ip", "-br", "link"], 0)?;
    ensure!(String::from_utf8_lossy(&answer.stdout).lines().count() == 1, "not the empty namespace");
    drop(web);
    ip::run(&["link", "show", "lo"])
}
