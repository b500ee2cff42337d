//! portmap, `backend: iptables`, checked with packets.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::namespace::OUTSIDE;
use harness::need::Need;
use harness::room::Room;
use harness::stage::portmap::{
    HOST, address, answer, ask, bridged, exchange, expect, expect_clients_of, serve, udp_client,
};
use serde_json::json;

use crate::portmap_iptables::{one, published};

pub const CASES: &[Case] = &[
    Case::new("portmap_iptables/a_published_port_is_reachable_from_everywhere", &["PM-I11"], everywhere)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/conditions_apply_to_their_container_only", &["PM-I12"], conditions)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/udp_flows_are_deleted", &["PM-I13"], udp).needs(&[Need::Iptables]),
    Case::new("portmap_iptables/port_ranges_are_mapped_as_a_whole", &["PM-I14"], ranges)
        .needs(&[Need::Iptables]),
];

/// The reference's rules masquerade clients in the container's network.
fn everywhere(room: &Room) -> Result<()> {
    room.outside(&[])?;
    for family in ["ip", "ip6"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables");
        // With br_netfilter, a frame returns to its own port only with `hairpinMode`.
        if std::path::Path::new(&path).exists() {
            std::fs::write(&path, "0").with_context(|| format!("write {path}"))?;
        }
    }
    let (container, config) = published(room, "c1", one(8080), json!({}))?;
    bridged(room, "sibling")?;
    serve(room, "c1", 80)?;
    for (index, gateway) in ["10.1.2.1", "2001:db8:1::1"].into_iter().enumerate() {
        expect(room, Some("outside"), HOST[index], 8080, &format!("c1:80 {}", OUTSIDE[index]))?;
        expect(room, None, HOST[index], 8080, &format!("c1:80 {}", HOST[index]))?;
        for who in ["sibling", "c1"] {
            expect(room, Some(who), HOST[index], 8080, &format!("c1:80 {gateway}"))?;
        }
    }
    expect(room, None, "127.0.0.1", 8080, "c1:80 10.1.2.1")?;
    for chain in ["published-new", "published-input"] {
        let rules = ip::output("nft", &["list", "chain", "inet", "moor", chain])?;
        ensure!(rules.contains("drop"), "127.0.0.0/8 is open to neighbours: {rules}");
    }
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ask(room, Some("outside"), HOST[0], 8080).is_err(), "the port is still published");
    ensure!(room.host_sysctl("net/ipv4/conf/br0/route_localnet")? == "0", "route_localnet stays on");
    Ok(())
}

fn conditions(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let elsewhere = json!({"conditionsV4": ["!", "-s", OUTSIDE[0]], "conditionsV6": ["!", "-s", OUTSIDE[1]]});
    published(room, "c1", one(8081), elsewhere)?;
    published(room, "c2", one(8082), json!({}))?;
    for (id, port) in [("c1", 8081), ("c2", 8082)] {
        serve(room, id, 80)?;
        expect(room, None, HOST[0], port, &format!("{id}:80 {}", HOST[0]))?;
    }
    for (host, outside) in HOST.into_iter().zip(OUTSIDE) {
        ensure!(ask(room, Some("outside"), host, 8081).is_err(), "the condition does not hold");
        expect(room, Some("outside"), host, 8082, &format!("c2:80 {outside}"))?;
    }
    Ok(())
}

fn udp(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let (first, config) = published(room, "c1", one(5353), json!({}))?;
    let (_, staying) = published(room, "c2", one(5454), json!({}))?;
    let clients = [udp_client(room, 0, 5353)?, udp_client(room, 1, 5353)?];
    let unrelated = udp_client(room, 0, 5454)?;
    for (index, socket) in clients.iter().enumerate() {
        answer(room, "c1", &address(&config, index == 1))?;
        exchange(socket)?;
    }
    answer(room, "c2", &address(&staying, false))?;
    exchange(&unrelated)?;
    room.attach("portmap", "DEL", &first).config(&config).run()?.silent()?;
    let (_, moved) = published(room, "c3", one(5353), json!({}))?;
    expect_clients_of(room, &clients, "c3", &moved)?;
    ensure!(exchange(&unrelated)?.starts_with("c2 "), "an unrelated flow was cut off");
    Ok(())
}

fn ranges(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mappings = json!([
        {"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000},
        {"hostPort": 5000, "hostPortEnd": 5999, "containerPort": 7000},
        {"hostPort": 8080, "containerPort": 80},
    ]);
    let (container, config) = published(room, "c1", mappings, json!({}))?;
    room.attach("portmap", "CHECK", &container).config(&config).run()?.silent()?;
    for (port, target) in
        [(3000, 3000), (3500, 3500), (3999, 3999), (5000, 7000), (5777, 7777), (5999, 7999), (8080, 80)]
    {
        serve(room, "c1", target)?;
        for (host, outside) in HOST.into_iter().zip(OUTSIDE) {
            expect(room, Some("outside"), host, port, &format!("c1:{target} {outside}"))?;
        }
    }
    for port in [2999, 4000, 4999, 6000] {
        ensure!(ask(room, Some("outside"), HOST[0], port).is_err(), "port {port} is published as well");
    }
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ask(room, Some("outside"), HOST[0], 3500).is_err(), "the range is still published");
    Ok(())
}
