//! Addresses from a DHCP server on the wire: macvlan with `dhcp`, and podman's macvlan network
//! without a subnet.

use anyhow::{Context, Result, ensure};
use engines::machine::rootfs;
use engines::podman::podman;
use harness::namespace::OUTSIDE;
use harness::need::Need;
use harness::room::Room;
use harness::runner::Grounds;
use harness::stage::dhcp::{Offer, ReferenceDaemon, Server, Software};
use harness::stage::lan::until;
use harness::{ip, socket};
use serde_json::{Value, json};

use super::{Steps, nothing_left};

/// The programs that it needs beside the suite.
pub fn ready(grounds: &Grounds) -> Result<()> {
    super::privileged()?;
    Need::DhcpServers.probe(&grounds.suite, &grounds.reference)
}

/// Starts the server outside, and the daemon if the suite is the reference: its plugin starts none.
fn serve(room: &Room) -> Result<(Server, Option<ReferenceDaemon>)> {
    let server = room.dhcp_server(Software::Dnsmasq, &Offer::default())?;
    let daemon = (room.suite == room.reference).then(|| ReferenceDaemon::start(room)).transpose()?;
    Ok((server, daemon))
}

pub fn steps(room: &Room, steps: &mut Steps) -> Result<()> {
    room.outside(&[])?;
    let (server, _daemon) = serve(room)?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let config = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": "wan0", "ipam": {"type": "dhcp"},
    });
    let call = |verb| room.attach("macvlan", verb, &container).config(&config).run();
    let mut result = Value::Null;
    steps.check("ADD: an address that dnsmasq has leased", || {
        result = call("ADD")?.result()?;
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        ensure!(ip::addresses(Some("c1"), "eth0")? == [address], "{result}");
        let address = address.split('/').next().unwrap_or_default();
        ensure!(server.addresses()? == [address], "{address} is not the lease: {:?}", server.addresses()?);
        Ok(())
    });
    steps.check("the server is reached", || {
        ensure!(room.inside("c1", || Ok(socket::reach(OUTSIDE[0].parse()?, socket::patience()).is_ok()))?);
        Ok(())
    });
    steps.check("CHECK", || {
        let config = harness::config::with(&config, json!({"prevResult": result}));
        room.attach("macvlan", "CHECK", &container).config(&config).run()?.silent()
    });
    steps.check("DEL: the lease is released", || {
        call("DEL")?.silent()?;
        until("the lease is gone", || Ok(server.addresses()?.is_empty()))
    });
    steps.check("nothing is left", || room.ensure_nothing_left(&before, &["c1"]));
    Ok(())
}

/// podman makes a macvlan network without a subnet: `dhcp` is its IPAM plugin.
pub fn with_podman(room: &Room, steps: &mut Steps) -> Result<()> {
    let (server, _daemon) = serve(room)?;
    let root = rootfs().display().to_string();
    let before = room.snapshot()?;
    let address = || {
        let format = "{{(index .NetworkSettings.Networks \"lan\").IPAddress}}";
        podman(&["inspect", "-f", format, "leased"])
    };
    steps.check("network create -d macvlan, without a subnet", || {
        podman(&["network", "create", "-d", "macvlan", "-o", "parent=wan0", "lan"]).map(drop)
    });
    steps.check("run: the address that the server has leased", || {
        let run = ["run", "-d", "--name", "leased", "--network", "lan", "--rootfs", &root];
        podman(&[&run[..], &["/bin/httpd", "-f", "-p", "80", "-h", "/www"]].concat())?;
        let address = address()?;
        ensure!(
            server.addresses()? == [&address[..]],
            "{address} is not the lease: {:?}",
            server.addresses()?
        );
        super::reads(room, Some("outside"), &address, 80)
    });
    steps.check("rm -f: the lease is released", || {
        podman(&["rm", "-f", "-t", "0", "leased"])?;
        until("the lease is gone", || Ok(server.addresses()?.is_empty()))
    });
    steps.check("nothing is left of the network", || {
        podman(&["network", "rm", "lan"])?;
        nothing_left(room, &before)
    });
    Ok(())
}
