//! The network that a person wants, and a second one like it: containers of one reach each other by
//! name, the other's only by a published port.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use engines::machine::rootfs;
use engines::podman::podman;
use harness::room::Room;
use harness::socket;
use serde_json::Value;

use super::networks::{has_tool, moor};
use super::{Steps, nothing_left, reads};

pub const CONFLIST: &str = "80-front.conflist";
const FRONT: &str = "front";
const BACK: &str = "back";
pub const BRIDGES: [&str; 2] = ["front0", "back0"];

/// For how long nothing may answer.
const SILENCE: Duration = Duration::from_secs(1);

/// The host's address outside.
const HOST: &str = "198.51.100.1";

pub fn steps(room: &Room, steps: &mut Steps, before: &[String]) {
    let root = rootfs().display().to_string();
    let run = |name: &str, network: &str, ports: &[&str]| {
        let run =
            [&["run", "-d", "--name", name, "--network", network], ports, &["--rootfs", &root]].concat();
        podman(&[&run[..], &["/bin/httpd", "-f", "-p", "80", "-h", "/www"]].concat()).map(drop)
    };
    steps.check("two networks: front with two containers, back with one", || {
        write_back()?;
        run("web", FRONT, &["-p", "8080:80"])?;
        run("cache", FRONT, &[])?;
        run("db", BACK, &[])
    });
    steps.check("front: one container finds the other by name", || {
        let printed = podman(&["exec", "cache", "/bin/nslookup", "-type=a", "web"])?;
        let address = address("web", FRONT)?;
        ensure!(printed.contains(&address), "nslookup printed {printed:?}, not {address}");
        reads(room, Some(&namespace("cache")?), &address, 80)
    });
    if has_tool() {
        steps.check("moor ps, who and names: podman, and its container's name", || by_moor(room));
    }
    steps.check("neither network reaches the other's containers", || {
        is_apart(room, "db", &address("web", FRONT)?)?;
        is_apart(room, "web", &address("db", BACK)?)
    });
    steps.check("the published port: from the other network and from outside", || {
        reads(room, Some(&namespace("db")?), HOST, 8080)?;
        reads(room, Some("outside"), HOST, 8080)
    });
    steps.check("rm -f of all three", || podman(&["rm", "-f", "-t", "0", "web", "cache", "db"]).map(drop));
    steps.check("nothing is left of front and back", || nothing_left(room, before));
}

/// podman's record has no `netns` (T-025): its path is in the result alone.
fn by_moor(room: &Room) -> Result<()> {
    let address = address("web", FRONT)?;
    let first = |words: &[&str]| -> Result<Value> {
        let document = moor(room, &[words, &["--json"]].concat()).run()?.document()?;
        document["items"].get(0).cloned().with_context(|| format!("{words:?} has nothing: {document}"))
    };
    let shown = first(&["ps", "web"])?;
    let is_shown = shown["state"] == "up" && shown["runtime"] == "podman" && shown["addresses"][0] == address;
    ensure!(is_shown && shown["name"] == "web" && shown["network"] == FRONT, "{shown}");
    for what in ["8080/tcp", &address] {
        let owner = first(&["who", what])?;
        ensure!(
            owner["name"] == "web" && owner["network"] == FRONT && owner["runtime"] == "podman",
            "{owner}"
        );
    }
    let named = first(&["names", "web"])?;
    ensure!(named["name"] == "web" && named["addresses"][0] == address, "{named}");
    Ok(())
}

/// Writes a second network like the first.
fn write_back() -> Result<()> {
    let front = fs::read_to_string(format!("/etc/cni/net.d/{CONFLIST}")).context(CONFLIST)?;
    let back = front.replace(FRONT, BACK).replace("10.94.", "10.79.").replace("fd00:94:", "fd00:79:");
    ensure!(back.matches("79").count() == 2, "{CONFLIST} has other subnets than 10.94 and fd00:94");
    fs::write("/etc/cni/net.d/81-back.conflist", back).context("write the second network")
}

/// A container's address on a network.
pub fn address(name: &str, network: &str) -> Result<String> {
    podman(&["inspect", "-f", &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"), name])
}

/// Not even a closed port of the address answers a container.
pub fn is_apart(room: &Room, from: &str, address: &str) -> Result<()> {
    let reached = room.inside(&namespace(from)?, || Ok(socket::reach(address.parse()?, SILENCE).is_ok()))?;
    ensure!(!reached, "{from} reaches {address}");
    Ok(())
}

/// The name of a container's network namespace.
pub fn namespace(name: &str) -> Result<String> {
    let path = podman(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", name])?;
    Ok(path.rsplit('/').next().context("no namespace")?.to_owned())
}
