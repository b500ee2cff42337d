//! The harness's DHCP servers give, keep and free leases as their files report, seen with the
//! reference's `dhcp`. The suite takes no part.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::USUAL;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::dhcp::{Offer, ReferenceDaemon, Software};
use harness::stage::lan::until;
use serde_json::json;

const SERVERS: &[Need] = &[Need::DhcpServers, Need::Macvlan, Need::Reference];

pub const CASES: &[Case] = &[
    Case::new("harness/leases_of_dnsmasq_are_readable", &["HA-11"], |room| lease(room, Software::Dnsmasq))
        .needs(SERVERS),
    Case::new("harness/leases_of_kea_are_readable", &["HA-11"], |room| lease(room, Software::Kea))
        .needs(SERVERS),
    Case::new("harness/leases_of_isc_dhcp_server_are_readable", &["HA-11"], |room| {
        lease(room, Software::Isc)
    })
    .needs(SERVERS),
    Case::new("harness/dhcpv6_servers_start_without_leases", &["HA-11"], v6).needs(&[Need::DhcpServers]),
];

fn lease(room: &Room, software: Software) -> Result<()> {
    room.outside(&[])?;
    let mut server = room.dhcp_server(software, &Offer { extras: true, ..Offer::default() })?;
    let _daemon = ReferenceDaemon::start(room)?;
    let container = room.container("c1")?;
    let config = json!({
        "cniVersion": USUAL, "name": "lan", "type": "macvlan", "master": "wan0", "ipam": {"type": "dhcp"},
    });
    let call = |verb: &str| {
        let call = Call::new(room, room.reference.join("macvlan")).env("CNI_COMMAND", verb);
        let call = call.env("CNI_CONTAINERID", &container.id).env("CNI_NETNS", &container.path);
        call.env("CNI_IFNAME", "eth0").env("CNI_PATH", &room.reference).config(&config).run()
    };
    ensure!(server.addresses()?.is_empty(), "leases at the beginning: {:?}", server.leases()?);
    let result = call("ADD")?.result().with_context(|| server.log())?;
    let address = result["ips"][0]["address"].as_str().context("no address")?;
    let address = address.split('/').next().unwrap_or_default();
    until("the lease is in the server's file", || Ok(server.addresses()? == [address]))
        .with_context(|| format!("{address}: {:?}: {}", server.leases(), server.log()))?;
    server.stop();
    ensure!(server.addresses()? == [address], "a server that is stopped loses its leases");
    server.start()?;
    ensure!(server.addresses()? == [address], "a server that starts again loses its leases");
    call("DEL")?.silent()?;
    until("the lease is free", || Ok(server.addresses()?.is_empty()))
        .with_context(|| format!("{:?}: {}", server.leases(), server.log()))?;
    server.replace(&Offer { range: (10, 20), ..Offer::default() })?;
    ensure!(server.addresses()?.is_empty(), "another server has leases: {:?}", server.leases()?);
    Ok(())
}

fn v6(room: &Room) -> Result<()> {
    room.outside(&[])?;
    for software in [Software::Dnsmasq, Software::Kea] {
        let server = room.dhcp6_server(software, &Offer { prefixes: true, ..Offer::default() })?;
        ensure!(server.leases()?.is_empty(), "{}: {:?}", software.name(), server.leases()?);
    }
    Ok(())
}
