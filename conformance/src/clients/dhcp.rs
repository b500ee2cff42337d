//! macvlan with the reference's `dhcp`: its daemon on the host, dnsmasq at the other end of the
//! wire.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::namespace::OUTSIDE;
use harness::room::{Room, SCRATCH};
use harness::runner::Grounds;
use harness::{ip, socket};
use serde_json::{Value, json};

use super::Steps;

/// The socket of the daemon.
const SOCKET: &str = "/run/cni/dhcp.sock";
const RANGE: &str = "198.51.100.100,198.51.100.150,1h";

/// The programs that it needs beside the suite.
pub fn ready(grounds: &Grounds) -> Result<()> {
    super::privileged()?;
    let daemon = grounds.reference.join("dhcp");
    ensure!(daemon.is_file(), "no {} (Debian: containernetworking-plugins)", daemon.display());
    let dnsmasq = Path::new("/usr/sbin/dnsmasq");
    ensure!(dnsmasq.is_file(), "no {}: `make tools-clients` installs dnsmasq-base", dnsmasq.display());
    Ok(())
}

/// A process that is killed when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn start(command: &mut Command) -> Result<Ended> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().map(Ended).with_context(|| format!("start {command:?}"))
}

pub fn steps(room: &Room, steps: &mut Steps) -> Result<()> {
    room.outside(&[])?;
    let leases = format!("{SCRATCH}/leases");
    let options = [
        "--keep-in-foreground".into(),
        "--conf-file=/dev/null".into(),
        "--interface=eth0".into(),
        "--port=0".into(),
        "--user=root".into(),
        "--pid-file=".into(),
        "--no-ping".into(),
        format!("--dhcp-range={RANGE}"),
        format!("--dhcp-leasefile={leases}"),
    ];
    let _server = room.inside("outside", || start(Command::new("dnsmasq").args(&options)))?;
    let _daemon = start(Command::new(room.reference.join("dhcp")).arg("daemon"))?;
    until("the daemon listens", || Path::new(SOCKET).exists())?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let config = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": "wan0", "ipam": {"type": "dhcp"},
    });
    let call =
        |verb| room.attach("macvlan", verb, &container).path_first(&room.reference).config(&config).run();
    let leased = || fs::read_to_string(&leases).unwrap_or_default();
    let mut result = Value::Null;
    steps.check("ADD: an address that dnsmasq has leased", || {
        result = call("ADD")?.result()?;
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        ensure!(ip::addresses(Some("c1"), "eth0")? == [address], "{result}");
        let address = address.split('/').next().unwrap_or_default();
        ensure!(leased().contains(address), "{address} is not among the leases: {}", leased());
        Ok(())
    });
    steps.check("the server is reached", || {
        ensure!(room.inside("c1", || Ok(socket::reach(OUTSIDE[0].parse()?, socket::patience()).is_ok()))?);
        Ok(())
    });
    steps.check("CHECK", || {
        let config = harness::config::with(&config, json!({"prevResult": result}));
        let call = room.attach("macvlan", "CHECK", &container).path_first(&room.reference);
        call.config(&config).run()?.silent()
    });
    steps.check("DEL: the lease is released", || {
        call("DEL")?.silent()?;
        until("the lease is gone", || leased().trim().is_empty())
    });
    steps.check("nothing is left", || room.ensure_nothing_left(&before, &["c1"]));
    Ok(())
}

fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + socket::patience();
    while !holds() {
        ensure!(Instant::now() < deadline, "after {:?} not yet: {what}", socket::patience());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}
