//! macvlan with the reference's `dhcp`: its daemon on the host, dnsmasq at the other end of the
//! wire.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::namespace::OUTSIDE;
use harness::room::Room;
use harness::runner::Grounds;
use harness::stage::dhcp::{Offer, ReferenceDaemon, Software};
use harness::stage::lan::until;
use harness::{ip, socket};
use serde_json::{Value, json};

use super::Steps;

/// The programs that it needs beside the suite.
pub fn ready(grounds: &Grounds) -> Result<()> {
    super::privileged()?;
    let daemon = grounds.reference.join("dhcp");
    ensure!(daemon.is_file(), "no {} (Debian: containernetworking-plugins)", daemon.display());
    let dnsmasq = Path::new("/usr/sbin/dnsmasq");
    ensure!(dnsmasq.is_file(), "no {}: `make tools-clients` installs dnsmasq-base", dnsmasq.display());
    Ok(())
}

pub fn steps(room: &Room, steps: &mut Steps) -> Result<()> {
    room.outside(&[])?;
    let server = room.dhcp_server(Software::Dnsmasq, &Offer { lease: 3600, ..Offer::default() })?;
    let _daemon = ReferenceDaemon::start(room)?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let config = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": "wan0", "ipam": {"type": "dhcp"},
    });
    let call =
        |verb| room.attach("macvlan", verb, &container).path_first(&room.reference).config(&config).run();
    let mut result = Value::Null;
    steps.check("ADD: an address that dnsmasq has leased", || {
        result = call("ADD")?.result()?;
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        ensure!(ip::addresses(Some("c1"), "eth0")? == [address], "{result}");
        let address = address.split('/').next().unwrap_or_default();
        let leased = server.addresses()?;
        ensure!(leased == [address], "{address} is not among the leases: {leased:?}");
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
        until("the lease is gone", || Ok(server.addresses()?.is_empty()))
    });
    steps.check("nothing is left", || room.ensure_nothing_left(&before, &["c1"]));
    Ok(())
}
