//! The compared servers: ours, dnsmasq with dnsname's settings, aardvark-dns.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::cache;
use harness::dns_client::{Question, kind};
use harness::room::Room;
use harness::stage::dns::{ask, until};

/// A running server.
pub struct Server {
    /// Its name in the table.
    pub name: &'static str,
    /// Its address.
    pub address: String,
    /// Its process id.
    pub pid: u32,
}

/// A name and its address.
pub type Host = (String, String);

/// The hosts file of a dnsmasq, which it reads again on SIGHUP.
pub fn hosts_path(room: &Room, tag: &str) -> PathBuf {
    room.scratch(&format!("dnsmasq.{tag}"))
}

/// The content of that file.
pub fn hosts_text(hosts: &[Host]) -> String {
    hosts.iter().map(|(name, ip)| format!("{ip}\t{name}\n")).collect()
}

/// Starts dnsmasq at that address, with the options of dnsname and perhaps a server outside.
pub fn dnsmasq(
    room: &Room,
    address: &str,
    tag: &str,
    hosts: &[Host],
    outside: Option<&str>,
) -> Result<(Server, Child)> {
    let path = hosts_path(room, tag);
    fs::write(&path, hosts_text(hosts))?;
    let child = Command::new("dnsmasq")
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file", "--no-hosts"])
        .args([
            "--no-resolv",
            "--strict-order",
            "--expand-hosts",
            "--domain=moor.test",
            "--local=/moor.test/",
        ])
        .args(["--log-facility=/dev/null", "--bind-interfaces", "--except-interface=lo"])
        .arg(format!("--addn-hosts={}", path.display()))
        .arg(format!("--listen-address={address}"))
        .args(outside.map(|server| format!("--server={server}")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start dnsmasq")?;
    let server = Server { name: "dnsmasq", address: address.to_owned(), pid: child.id() };
    ready(room, &server, &hosts[0])?;
    Ok((server, child))
}

/// Starts aardvark-dns at that address. It answers only clients that are among the hosts.
pub fn aardvark(room: &Room, address: &str, tag: &str, hosts: &[Host]) -> Result<Server> {
    let dir = room.scratch(&format!("aardvark.{tag}"));
    fs::create_dir_all(&dir)?;
    let mut text = format!("{address}\n");
    for (n, (name, ip)) in hosts.iter().enumerate() {
        writeln!(text, "id{n} {ip}  {name}")?;
    }
    fs::write(dir.join("net"), text)?;
    let program = cache::unpacked("dns", "usr/lib/podman/aardvark-dns")?;
    Command::new(&program)
        .arg("--config")
        .arg(&dir)
        .args(["--port", "53", "run"])
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start aardvark-dns")?;
    let pid_file = dir.join("aardvark.pid");
    let pid = || fs::read_to_string(&pid_file).ok()?.trim().parse::<u32>().ok();
    until(Duration::from_secs(5), "aardvark-dns writes its pid file", || pid().is_some())?;
    let pid = pid().context("no process")?;
    let server = Server { name: "aardvark-dns", address: address.to_owned(), pid };
    ready(room, &server, &hosts[0])?;
    Ok(server)
}

/// Waits until the server gives the right answer.
pub fn ready(room: &Room, server: &Server, (name, ip): &Host) -> Result<()> {
    let question = Question::new(name, kind::A);
    let mut last = String::new();
    let answers = || {
        let reply = ask(room, Some("c1"), &server.address, &question);
        last = format!("{reply:?}");
        reply.is_ok_and(|reply| reply.texts() == [ip])
    };
    until(Duration::from_secs(10), &format!("{} answers", server.name), answers).with_context(|| last.clone())
}

impl Server {
    /// CPU time until now, user and system (proc_pid_stat(5), fields 14 and 15, in
    /// hundredths of a second).
    pub fn spent(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|word| word.parse::<u64>().ok());
        let (Some(user), Some(system)) = (ticks(11), ticks(12)) else { anyhow::bail!("odd: {stat}") };
        Ok(Duration::from_millis((user + system) * 10))
    }

    /// Resident memory, in KiB.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|word| word.parse().ok()).context(status)
    }
}
