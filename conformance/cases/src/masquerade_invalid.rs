//! bridge, ipMasq: packets in conntrack state INVALID, which NAT does not translate.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::frame::{self, ACK, RST, SYN};
use harness::ip;
use harness::namespace::OUTSIDE;
use harness::room::Room;
use serde_json::json;

use crate::bridge_keys::add;
use crate::masquerade::{ensure_masqueraded, masquerade};

pub const CASES: &[Case] = &[
    Case::new("masquerade/invalid_packets_do_not_leave_with_the_containers_address", &["BR-R12"], outside),
    Case::new("masquerade/invalid_packets_pass_inside_the_network", &["BR-R12"], inside),
];

const PATIENCE: Duration = Duration::from_millis(500);
/// Flags of packets that belong to no connection.
const FLAGS: [u8; 3] = [RST, SYN | ACK, RST | ACK];

/// Whether a frame holds a packet from that address, by port.
fn is_from(bytes: &[u8], source: IpAddr, port: u16) -> bool {
    let (at, octets) = match source {
        IpAddr::V4(address) => (14 + 12, address.octets().to_vec()),
        IpAddr::V6(address) => (14 + 8, address.octets().to_vec()),
    };
    let ports = if source.is_ipv4() { 14 + 20 } else { 14 + 40 };
    bytes.get(at..at + octets.len()) == Some(&octets)
        && bytes.get(ports + 2..ports + 4) == Some(&port.to_be_bytes())
}

pub(crate) fn mac_of(ns: Option<&str>, link: &str) -> Result<frame::MacBytes> {
    let row = ip::link(ns, link)?.with_context(|| format!("no link {link}"))?;
    frame::mac(row["address"].as_str().unwrap_or_default())
}

fn outside(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let result = add(room, &room.container("c1")?, &masquerade())?;
    // All neighbours are resolved.
    ensure_masqueraded("c1")?;
    let (wire, listener) = (room.wire(Some("c1"), "eth0")?, room.wire(Some("outside"), "eth0")?);
    let gateway = mac_of(None, "br0")?;
    let ips = result["ips"].as_array().context("no addresses")?;
    for (ip, (outside, host)) in ips.iter().zip(OUTSIDE.iter().zip(["198.51.100.1", "2001:db8:ff::1"])) {
        let text = ip["address"].as_str().and_then(|text| text.split('/').next()).unwrap_or_default();
        let (source, target, host): (IpAddr, IpAddr, IpAddr) =
            (text.parse()?, outside.parse()?, host.parse()?);
        for (port, flags) in (7000..).zip(FLAGS) {
            wire.send(&frame::tcp(gateway, wire.mac, [(source, 1234), (target, port)], flags))?;
        }
        // Packets that open a connection still pass, with the host's address.
        wire.send(&frame::tcp(gateway, wire.mac, [(source, 1235), (target, 7999)], SYN))?;
        let leaked = std::cell::Cell::new(None);
        let seen = listener.receive(PATIENCE * 4, |bytes| {
            if let Some((port, flags)) = (7000..).zip(FLAGS).find(|(port, _)| is_from(bytes, source, *port)) {
                leaked.set(Some((port, flags)));
            }
            is_from(bytes, host, 7999)
        })?;
        ensure!(seen.is_some(), "the outside receives no first packet of {source}");
        ensure!(leaked.get().is_none(), "{source} leaves with its own address: flags {:#x?}", leaked.get());
    }
    Ok(())
}

/// Between two subnets of the network the return path may bypass the host.
fn inside(room: &Room) -> Result<()> {
    let mut config = masquerade();
    config["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.0/30"}, {"subnet": "10.1.3.0/24"}]]);
    for id in ["c1", "c2"] {
        add(room, &room.container(id)?, &config)?;
    }
    room.reach("c1", "10.1.3.2")?;
    let (wire, listener) = (room.wire(Some("c1"), "eth0")?, room.wire(Some("c2"), "eth0")?);
    let gateway = mac_of(None, "br0")?;
    let (source, target): (IpAddr, IpAddr) = ("10.1.2.2".parse()?, "10.1.3.2".parse()?);
    for (port, flags) in (7000..).zip(FLAGS) {
        wire.send(&frame::tcp(gateway, wire.mac, [(source, 1234), (target, port)], flags))?;
        let seen = listener.receive(PATIENCE * 4, |bytes| is_from(bytes, source, port))?;
        ensure!(seen.is_some(), "a packet with flags {flags:#x} does not pass inside");
    }
    Ok(())
}
