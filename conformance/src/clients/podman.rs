//! podman with its CNI back end.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use engines::machine::{PLUGINS, rootfs};
use engines::podman::{configure, podman};
use harness::room::Room;

use super::{Steps, is_silent, nothing_left, reads};

const NETWORK: &str = "moor-ports";
const NAMES: &str = "moor-names";
const SECOND: &str = "moor-second";
pub const SECOND_BRIDGE: &str = "moor9";
const HOST: [&str; 2] = ["198.51.100.1", "2001:db8:ff::1"];

pub fn steps(room: &Room, steps: &mut Steps) -> Result<()> {
    configure(NETWORK)?;
    let root = rootfs().display().to_string();
    let before = room.snapshot()?;
    let serve = |name: &str, publish: &str| {
        let run = ["run", "-d", "--name", name, "--network", NETWORK, "-p", publish, "--rootfs", &root];
        podman(&[&run[..], &["/bin/httpd", "-f", "-p", "80", "-h", "/www"]].concat()).map(drop)
    };
    let reached = |port: u16| {
        reads(room, None, "127.0.0.1", port)?;
        HOST.iter().try_for_each(|host| reads(room, Some("outside"), host, port))
    };
    steps.check("lists the network of the conflist", || {
        let list = podman(&["network", "ls", "--format", "{{.Name}}"])?;
        ensure!(list.lines().any(|name| name == NETWORK), "podman knows {list:?}");
        Ok(())
    });
    steps.check("run: a container with a published port", || serve("web", "8080:80"));
    steps.check("reachable at localhost and from outside, both families", || reached(8080));
    steps.check("inspect: the address of the plugin's result", || {
        let format = "{{(index .NetworkSettings.Networks \"moor-ports\").IPAddress}}";
        let address = podman(&["inspect", "-f", format, "web"])?;
        reads(room, None, &address, 80)
    });
    steps.check("restart: attached again", || podman(&["restart", "-t", "0", "web"]).map(drop));
    steps.check("reachable after the restart", || reached(8080));
    steps.check("a second container reaches the first by its published port", || {
        serve("other", "8081:80")?;
        let netns = podman(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "other"])?;
        let name = netns.rsplit('/').next().context("no namespace")?;
        HOST.iter().try_for_each(|host| reads(room, Some(name), host, 8080))
    });
    steps.check("rm -f of both", || podman(&["rm", "-f", "-t", "0", "web", "other"]).map(drop));
    steps.check("the port is closed", || is_silent("127.0.0.1", 8080));
    steps.check("nothing is left", || nothing_left(room, &before));
    steps.check("the port is free for the next", || {
        serve("next", "8080:80")?;
        reached(8080)?;
        podman(&["rm", "-f", "-t", "0", "next"]).map(drop)
    });
    steps.check("nothing is left again", || nothing_left(room, &before));
    two_networks(room, steps, &root, &before);
    // The reference has no plugin for names.
    if Path::new(PLUGINS).join("dns").is_file() {
        names(room, steps, &root, &before);
        super::front::steps(room, steps, &before);
        if super::networks::has_tool() {
            super::compose::steps(room, steps, &before);
        }
    }
    if super::networks::has_tool() {
        super::networks::steps(room, steps);
    }
    super::dhcp::with_podman(room, steps)
}

/// A second network that publishes ports: podman passes a container's ports to each of its
/// networks.
fn second_network() -> Result<()> {
    let first = fs::read_to_string("/etc/cni/net.d/40-portmap.conflist")?;
    let second = first.replace(NETWORK, SECOND).replace("moor4", SECOND_BRIDGE);
    let second = second.replace("10.91.0.0", "10.95.0.0").replace("fd00:91::", "fd00:95::");
    ensure!(second.matches("95").count() == 2, "the conflist has other subnets than 10.91 and fd00:91");
    fs::write("/etc/cni/net.d/41-second.conflist", second).context("write the second network")
}

/// One container on two networks: its port answers while it is on either of them.
fn two_networks(room: &Room, steps: &mut Steps, root: &str, before: &[String]) {
    let both = format!("{NETWORK},{SECOND}");
    let run = |name: &str, networks: &str| {
        let run = ["run", "-d", "--name", name, "--network", networks, "-p", "8082:80", "--rootfs", root];
        podman(&[&run[..], &["/bin/httpd", "-f", "-p", "80", "-h", "/www"]].concat())
    };
    let reached = || {
        reads(room, None, "127.0.0.1", 8082)?;
        HOST.iter().try_for_each(|host| reads(room, Some("outside"), host, 8082))
    };
    steps.check("one container on two networks with a published port", || {
        second_network()?;
        run("both", &both).map(drop)
    });
    steps.check("its port is reachable, both families", reached);
    steps.check("another container is refused the port", || match run("late", SECOND) {
        Ok(_) => bail!("podman published a port twice"),
        Err(_) => podman(&["rm", "-f", "-t", "0", "late"]).map(drop),
    });
    for network in [NETWORK, SECOND] {
        steps.check(&format!("network disconnect {network}: reached by the other"), || {
            podman(&["network", "disconnect", network, "both"])?;
            reached()?;
            podman(&["network", "connect", network, "both"])?;
            reached()
        });
    }
    steps.check("rm -f of it", || podman(&["rm", "-f", "-t", "0", "both"]).map(drop));
    steps.check("its port is closed", || is_silent("127.0.0.1", 8082));
    steps.check("nothing is left of both networks", || nothing_left(room, before));
}

/// Containers resolve each other's names as in a network of Docker.
fn names(room: &Room, steps: &mut Steps, root: &str, before: &[String]) {
    let run = |name: &str| {
        let run =
            ["run", "-d", "--name", name, "--network", NAMES, "--network-alias", "shop", "--rootfs", root];
        podman(&[&run[..], &["/bin/httpd", "-f", "-p", "80", "-h", "/www"]].concat()).map(drop)
    };
    let address = |name: &str| {
        podman(&["inspect", "-f", "{{(index .NetworkSettings.Networks \"moor-names\").IPAddress}}", name])
    };
    let ask = |name: &str| podman(&["exec", "shop-2", "/bin/nslookup", "-type=a", name]);
    steps.check("names: two containers with one alias", || run("shop-1").and_then(|()| run("shop-2")));
    steps.check("the name of the other container resolves to its address", || {
        let (printed, address) = (ask("shop-1")?, address("shop-1")?);
        ensure!(printed.contains(&address), "nslookup printed {printed:?}, not {address}");
        Ok(())
    });
    steps.check("the alias resolves to both", || {
        let printed = ask("shop")?;
        for name in ["shop-1", "shop-2"] {
            ensure!(printed.contains(&address(name)?), "nslookup printed {printed:?}, without {name}");
        }
        Ok(())
    });
    steps.check("a name is gone with its container", || {
        let gone = address("shop-1")?;
        podman(&["rm", "-f", "-t", "0", "shop-1"])?;
        let printed = ask("shop")?;
        ensure!(!printed.contains(&gone), "nslookup printed {printed:?}, with {gone}");
        podman(&["rm", "-f", "-t", "0", "shop-2"]).map(drop)
    });
    steps.check("nothing is left of those with names", || nothing_left(room, before));
}
