//! Leases of a DHCP server: got by ADD, kept by a daemon, released by DEL.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Answer;
use harness::stage::dhcp::{DOMAIN, MTU, Offer, ROUTER, ReferenceDaemon, Server, Software};
use harness::stage::lan::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const SERVER: &[Need] = &[Need::DhcpServers, Need::Macvlan];
const BESIDE: &[Need] = &[Need::DhcpServers, Need::Macvlan, Need::Reference];

pub const CASES: &[Case] = &[
    Case::new("dhcp/add_leases_and_del_releases", &["DH-1", "DH-6", "DH-R1", "DH-R5"], life).needs(SERVER),
    Case::new("dhcp/routes_and_parameters_reach_the_result", &["DH-2", "DH-5", "DH-R3"], parameters)
        .needs(SERVER),
    Case::new("dhcp/options_are_provided_and_requested", &["DH-3", "DH-4"], options).needs(SERVER),
    Case::new("dhcp/check_acquires_no_lease", &["DH-B2"], check).needs(SERVER),
    Case::new("dhcp/del_needs_neither_daemon_nor_server", &["DH-B3"], alone).needs(SERVER),
    Case::new("dhcp/a_killed_daemon_is_started_again", &["DH-B4"], killed).needs(SERVER),
    Case::new("dhcp/gc_releases_what_is_not_valid", &["DH-R4"], gc).needs(SERVER),
    Case::new("dhcp/add_without_a_server_leaves_nothing", &["DH-8"], no_server).needs(SERVER),
    Case::new("dhcp/a_stale_socket_is_replaced", &["DH-B5"], stale).needs(SERVER),
    Case::new("dhcp/the_daemon_takes_the_references_flags", &["DH-7"], flags).needs(SERVER),
    Case::new("dhcp/a_socket_of_systemd_is_taken_over", &["DH-7"], passed).needs(SERVER),
    Case::new("dhcp/the_references_daemon_is_named", &["DH-R2"], reference).needs(BESIDE),
    Case::new("dhcp/a_missing_ipam_object_is_an_error", &["DH-B1"], no_ipam),
];

const SOCKET: &str = "/run/cni/dhcp.sock";
const RECORDS: &str = "/run/moor/dhcp";

pub(crate) fn config(ipam: &Value) -> Value {
    json!({
        "cniVersion": USUAL, "name": "lan", "type": "macvlan", "master": "wan0",
        "ipam": with(&json!({"type": "dhcp"}), ipam.clone()),
    })
}

pub(crate) fn call(room: &Room, verb: &str, container: &Container, config: &Value) -> Result<Answer> {
    room.attach("macvlan", verb, container).config(config).run()
}

/// dnsmasq outside.
pub(crate) fn server(room: &Room, offer: &Offer) -> Result<Server> {
    room.outside(&[])?;
    room.dhcp_server(Software::Dnsmasq, offer)
}

fn released(server: &Server) -> Result<()> {
    until("the lease is free", || Ok(server.addresses()?.is_empty()))
        .with_context(|| format!("{:?}: {}", server.leases(), server.log()))
}

/// The daemon's answer to a request.
fn ask(socket: &str, request: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("connect to {socket}"))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).with_context(|| format!("read {line:?}"))
}

fn daemon(socket: &str) -> Result<Pid> {
    let pid = ask(socket, r#"{"ask":"hello"}"#)?["pid"].as_i64().context("no pid")?;
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

pub(crate) fn kill_daemon() -> Result<Pid> {
    let pid = daemon(SOCKET)?;
    kill(pid, Signal::SIGKILL)?;
    until("the daemon is gone", || Ok(UnixStream::connect(SOCKET).is_err()))?;
    Ok(pid)
}

fn address(result: &Value) -> Result<&str> {
    let address = result["ips"][0]["address"].as_str().context("no address")?;
    address.strip_suffix("/24").with_context(|| format!("not the server's mask: {address}"))
}

fn mode(path: &Path) -> Result<u32> {
    let meta = fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    Ok(meta.permissions().mode() & 0o777)
}

fn life(room: &Room) -> Result<()> {
    let server = server(room, &Offer::default())?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let config = config(&json!({}));
    let result = call(room, "ADD", &container, &config)?.result().with_context(|| server.log())?;
    let address = address(&result)?;
    ensure!(ip::addresses(Some("c1"), "eth0")? == [format!("{address}/24")], "{result}");
    ensure!(result["ips"][0]["gateway"] == ROUTER, "{result}");
    ensure!(result["routes"] == json!([{"dst": "0.0.0.0/0", "gw": ROUTER}]), "{result}");
    ensure!(server.addresses()? == [address], "{:?}: {result}", server.leases()?);
    room.reach("c1", ROUTER)?;
    ensure!(mode(Path::new(SOCKET))? == 0o600 && mode(Path::new(RECORDS))? == 0o700, "open to others");
    for record in fs::read_dir(RECORDS)?.flatten() {
        ensure!(mode(&record.path())? == 0o600, "{} is open to others", record.path().display());
    }
    let checked = with(&config, json!({"prevResult": result}));
    call(room, "CHECK", &container, &checked)?.silent()?;
    call(room, "DEL", &container, &config)?.silent()?;
    released(&server)?;
    call(room, "DEL", &container, &config)?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn parameters(room: &Room) -> Result<()> {
    let routes = vec![("192.0.2.0/25", "198.51.100.9"), ("203.0.113.0/24", "0.0.0.0")];
    let server = server(room, &Offer { routes, extras: true, ..Offer::default() })?;
    let container = room.container("c1")?;
    let config = config(&json!({"priority": 77}));
    let result = call(room, "ADD", &container, &config)?.result().with_context(|| server.log())?;
    let expected = json!([
        {"dst": "192.0.2.0/25", "gw": "198.51.100.9", "mtu": MTU, "priority": 77},
        {"dst": "203.0.113.0/24", "mtu": MTU, "priority": 77, "scope": 253},
    ]);
    ensure!(result["routes"] == expected, "{result}");
    // macvlan's result has the names of its own configuration alone.
    let own = with(&config, json!({"type": "dhcp"}));
    let result = room.attach("dhcp", "ADD", &container).config(&own).run()?.result()?;
    let dns = &result["dns"];
    ensure!(dns["nameservers"] == json!([ROUTER]) && dns["domain"] == DOMAIN, "{result}");
    let routes = ip::rows(Some("c1"), &["route", "show", "metric", "77"])?;
    ensure!(routes.len() == 2, "{routes:?}");
    let records: Vec<_> =
        fs::read_dir(RECORDS)?.flatten().filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
    let times = format!(r#""time_servers":["{ROUTER}"]"#);
    ensure!(records.iter().any(|record| record.contains(&times)), "{records:?}");
    call(room, "DEL", &container, &config)?.silent()
}

fn options(room: &Room) -> Result<()> {
    let server = server(room, &Offer::default())?;
    let container = room.container("c1")?;
    let config = config(&json!({
        "provide": [
            {"option": "host-name", "fromArg": "K8S_POD_NAME"},
            {"option": "vendor-class-identifier", "value": "a-vendor"},
            {"option": "77", "value": "a-user"},
        ],
        "request": [{"option": "66"}, {"option": "subnet-mask", "skipDefault": true}],
    }));
    let call = room.attach("macvlan", "ADD", &container).config(&config);
    call.env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web").run()?.result().with_context(|| server.log())?;
    let log = server.log();
    for text in [
        "client provides name: web",
        "vendor class: a-vendor",
        "requested options: 66:tftp-server, 1:netmask",
    ] {
        ensure!(log.contains(text), "{text}: {log}");
    }
    ensure!(!log.contains("3:router"), "{log}");
    let id: Vec<String> = b"\0c1/lan/eth0".iter().map(|byte| format!("{byte:02x}")).collect();
    let leases = fs::read_to_string(room.scratch("dnsmasq-V4").join("leases"))?;
    ensure!(leases.contains(&id.join(":")), "{leases}");
    call_del(room, &container, &config)
}

fn call_del(room: &Room, container: &Container, config: &Value) -> Result<()> {
    call(room, "DEL", container, config)?.silent()
}

fn check(room: &Room) -> Result<()> {
    let mut server = server(room, &Offer::default())?;
    let container = room.container("c1")?;
    let config = config(&json!({}));
    let ipam = with(&config, json!({"type": "dhcp"}));
    room.attach("dhcp", "CHECK", &container).config(&ipam).run()?.refused("a lease, actual: none")?;
    ensure!(server.addresses()?.is_empty(), "CHECK got {:?}", server.leases()?);
    let result = call(room, "ADD", &container, &config)?.result()?;
    let checked = with(&config, json!({"prevResult": result}));
    server.stop();
    call(room, "CHECK", &container, &checked)?.silent()?;
    let mut other = checked.clone();
    other["prevResult"]["ips"][0]["address"] = json!("198.51.100.77/24");
    other["type"] = json!("dhcp");
    room.attach("dhcp", "CHECK", &container).config(&other).run()?.refused("expected: 198.51.100.77")?;
    call_del(room, &container, &config)
}

fn alone(room: &Room) -> Result<()> {
    let mut server = server(room, &Offer::default())?;
    let before = room.snapshot()?;
    let config = config(&json!({}));
    let (gone, here) = (room.container("c1")?, room.container("c2")?);
    for container in [&gone, &here] {
        call(room, "ADD", container, &config)?.result()?;
    }
    kill_daemon()?;
    server.stop();
    room.remove(&gone)?;
    for container in [&gone, &here] {
        call_del(room, container, &config)?;
        call_del(room, container, &config)?;
    }
    ensure!(UnixStream::connect(SOCKET).is_err(), "DEL started a daemon");
    room.remove(&here)?;
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

fn killed(room: &Room) -> Result<()> {
    let server = server(room, &Offer::default())?;
    let container = room.container("c1")?;
    let config = config(&json!({}));
    let result = call(room, "ADD", &container, &config)?.result()?;
    let first = kill_daemon()?;
    let checked = with(&config, json!({"prevResult": result}));
    call(room, "CHECK", &container, &checked)?.silent()?;
    ensure!(daemon(SOCKET)? != first, "no other daemon");
    ensure!(server.addresses()? == [address(&result)?], "{:?}", server.leases()?);
    call_del(room, &container, &config)?;
    released(&server)
}

fn gc(room: &Room) -> Result<()> {
    let server = server(room, &Offer::default())?;
    let config = config(&json!({}));
    let other = with(&config, json!({"name": "other"}));
    let containers = [room.container("c1")?, room.container("c2")?, room.container("c3")?];
    let mut kept = Vec::new();
    for (container, config) in containers.iter().zip([&config, &config, &other]) {
        let result = call(room, "ADD", container, config)?.result()?;
        kept.push(address(&result)?.to_owned());
    }
    let valid = json!({"cniVersion": "1.1.0", "type": "dhcp", "cni.dev/valid-attachments": [
        {"containerID": "c1", "ifname": "eth0"},
    ]});
    room.call("dhcp", "GC").config(&with(&config, valid)).run()?.silent()?;
    kept.remove(1);
    kept.sort();
    until("one lease is free", || {
        let mut left = server.addresses()?;
        left.sort();
        Ok(left == kept)
    })?;
    call_del(room, &containers[0], &config)?;
    call_del(room, &containers[2], &other)?;
    released(&server)
}

fn no_server(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let config = config(&json!({"timeout": 2}));
    call(room, "ADD", &container, &config)?.refused("no more tries")?;
    let records = fs::read_dir(RECORDS)?
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|it| it == "lease"));
    ensure!(records.count() == 0, "a record is left");
    call_del(room, &container, &config)?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn stale(room: &Room) -> Result<()> {
    let _server = server(room, &Offer::default())?;
    fs::create_dir_all("/run/cni")?;
    drop(UnixListener::bind(SOCKET)?);
    let container = room.container("c1")?;
    let config = config(&json!({}));
    call(room, "ADD", &container, &config)?.result()?;
    call_del(room, &container, &config)
}

fn flags(room: &Room) -> Result<()> {
    let server = server(room, &Offer::default())?;
    let (socket, pid) = (room.scratch("own.sock"), room.scratch("own.pid"));
    let text = socket.display().to_string();
    let mut daemon_process = Command::new(room.suite.join("dhcp"))
        .args(["daemon", "-broadcast", "-timeout=3s", "-resendmax", "62s", "-resendtimeout", "20s"])
        .args(["-socketpath", &text, "-hostprefix", "", "-pidfile"])
        .arg(&pid)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let stepped = (|| {
        until("the daemon listens", || Ok(UnixStream::connect(&socket).is_ok()))?;
        ensure!(fs::read_to_string(&pid)?.trim() == daemon(&text)?.to_string());
        let container = room.container("c1")?;
        let config = config(&json!({"daemonSocketPath": text}));
        call(room, "ADD", &container, &config)?.result().with_context(|| server.log())?;
        ensure!(UnixStream::connect(SOCKET).is_err(), "another daemon was started");
        call_del(room, &container, &config)?;
        kill(daemon(&text)?, Signal::SIGTERM)?;
        until("its files are gone", || Ok(!socket.exists() && !pid.exists()))
    })();
    let _ = daemon_process.kill().and_then(|()| daemon_process.wait());
    stepped
}

/// As systemd passes it (sd_listen_fds(3)).
fn passed(room: &Room) -> Result<()> {
    let server = server(room, &Offer::default())?;
    fs::create_dir_all("/run/cni")?;
    let listener = UnixListener::bind(SOCKET)?;
    let program = room.suite.join("dhcp");
    let script =
        format!("exec 3<&0; LISTEN_PID=$$ LISTEN_FDS=1 exec {} daemon < /dev/null", program.display());
    let mut process = Command::new("sh")
        .args(["-c", &script])
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let stepped = (|| {
        ensure!(u32::try_from(daemon(SOCKET)?.as_raw())? == process.id(), "another daemon answers");
        let container = room.container("c1")?;
        let config = config(&json!({}));
        call(room, "ADD", &container, &config)?.result()?;
        call_del(room, &container, &config)?;
        kill(daemon(SOCKET)?, Signal::SIGTERM)?;
        process.wait()?;
        ensure!(Path::new(SOCKET).exists(), "the socket of systemd is removed");
        released(&server)
    })();
    let _ = process.kill().and_then(|()| process.wait());
    stepped
}

fn reference(room: &Room) -> Result<()> {
    let server = server(room, &Offer::default())?;
    let _daemon = ReferenceDaemon::start(room)?;
    let container = room.container("c1")?;
    let config = config(&json!({}));
    for verb in ["ADD", "CHECK"] {
        let config = if verb == "ADD" { config.clone() } else { with(&config, json!({"type": "dhcp"})) };
        let plugin = if verb == "ADD" { "macvlan" } else { "dhcp" };
        let answer = room.attach(plugin, verb, &container).config(&config).run()?;
        if verb == "ADD" {
            answer.refused("is that of the reference plugins")?;
        } else {
            answer.refused("")?;
        }
    }
    ensure!(server.addresses()?.is_empty(), "{:?}", server.leases()?);
    call_del(room, &container, &config)
}

fn no_ipam(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = json!({"cniVersion": USUAL, "name": "lan", "type": "dhcp"});
    for verb in ["ADD", "CHECK"] {
        room.attach("dhcp", verb, &container).config(&config).run()?.error_with(7, "no ipam object")?;
    }
    call_dhcp_del(room, &container, &config)
}

fn call_dhcp_del(room: &Room, container: &Container, config: &Value) -> Result<()> {
    room.attach("dhcp", "DEL", container).config(config).run()?.silent()
}
