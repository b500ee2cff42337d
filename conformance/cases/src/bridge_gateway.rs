//! bridge: gateways, routes, sysctls and addresses.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, layer2, with};
use harness::ip;
use harness::namespace::allow_ipv6;
use harness::room::Room;
use harness::stage::lan::until;
use serde_json::json;

use crate::bridge_keys::{add, link};

pub const CASES: &[Case] = &[
    Case::new("bridge/gateway_modes", &["BR-K2", "BR-K3"], gateway_modes),
    Case::new("bridge/default_route_of_ipam_is_not_added_twice", &["BR-K3", "BR-B1"], default_route_once),
    Case::new("bridge/force_address_replaces_a_conflicting_one", &["BR-K4"], force_address),
    Case::new("bridge/two_ranges_of_one_family_have_two_gateways", &["BR-B2"], two_ranges),
    Case::new("bridge/gateway_on_a_bridge_without_ports", &["BR-B3"], zero_mac),
    Case::new("bridge/route_attributes_are_applied", &["BR-3"], route_attributes),
    Case::new("bridge/container_sysctls", &["BR-K14"], sysctls),
    Case::new("bridge/bridge_mac_is_stable_when_ports_come_and_go", &["BR-B6"], bridge_mac),
];

fn gateway_modes(room: &Room) -> Result<()> {
    let without = with(&bridge(USUAL), json!({"isDefaultGateway": false}));
    let result = add(room, &room.container("c1")?, &without)?;
    ensure!(ip::addresses(None, "br0")?.is_empty(), "no gateway was asked for");
    ensure!(result["routes"].is_null() && result["ips"][0]["gateway"] == "10.1.2.1", "{result}");
    ensure!(room.host_sysctl("net/ipv4/ip_forward")? == "0", "forwarding was not asked for");

    let result = add(room, &room.container("c2")?, &with(&without, json!({"isGateway": true})))?;
    let mut addresses = ip::addresses(None, "br0")?;
    addresses.sort();
    ensure!(addresses == ["10.1.2.1/24", "2001:db8:1::1/64"], "{addresses:?}");
    ensure!(result["routes"].is_null(), "isGateway alone adds no route: {result}");
    for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        ensure!(room.host_sysctl(path)? == "1", "{path}");
    }
    let result = add(room, &room.container("c3")?, &bridge(USUAL))?;
    ensure!(
        result["routes"]
            == json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}, {"dst": "::/0", "gw": "2001:db8:1::1"}]),
        "{result}"
    );
    for family in ["-4", "-6"] {
        let routes = ip::rows(Some("c3"), &[family, "route", "show", "default"])?;
        ensure!(routes.len() == 1, "{family}: {routes:?}");
    }
    Ok(())
}

fn default_route_once(room: &Room) -> Result<()> {
    let mut config = bridge(USUAL);
    config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "2001:db8:1::1"}]);
    add(room, &room.container("c1")?, &config)?;
    for family in ["-4", "-6"] {
        let routes = ip::rows(Some("c1"), &[family, "route", "show", "default"])?;
        ensure!(routes.len() == 1, "{family}: {routes:?}");
    }
    room.reach("c1", "10.1.2.1")
}

fn force_address(room: &Room) -> Result<()> {
    ip::script(None, "link add br0 type bridge\n link set br0 up\n addr add 10.7.7.1/24 dev br0")?;
    allow_ipv6(&["br0"])?;
    // A port in use, so that the address counts as used and not as stale.
    ip::script(
        None,
        "link add used0 type veth peer name used1\n link set used0 master br0 up\n link set used1 up",
    )?;
    until("br0 has a carrier", || {
        let br0 = ip::link(None, "br0")?.context("no br0")?;
        Ok(br0["flags"].as_array().into_iter().flatten().any(|flag| flag == "LOWER_UP"))
    })?;
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let call = room.attach("bridge", "ADD", &container).config(&bridge(USUAL));
    call.run()?.error_with(999, "already has an IP address different from 10.1.2.1/24")?;
    room.ensure_nothing_left(&before, &["c1"])?;
    ensure!(ip::addresses(None, "br0")?.contains(&"10.7.7.1/24".to_owned()), "ADD removed an address in use");
    add(room, &container, &with(&bridge(USUAL), json!({"forceAddress": true})))?;
    let addresses = ip::addresses(None, "br0")?;
    ensure!(
        addresses.contains(&"10.1.2.1/24".to_owned()) && !addresses.contains(&"10.7.7.1/24".to_owned()),
        "{addresses:?}"
    );
    Ok(())
}

fn two_ranges(room: &Room) -> Result<()> {
    let mut config = bridge(USUAL);
    config["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/24"}]]);
    for (id, last) in [("c1", 2), ("c2", 3)] {
        let container = room.container(id)?;
        let result = add(room, &container, &config)?;
        ensure!(result["ips"][1]["address"] == format!("10.1.3.{last}/24"), "{result}");
        let checked = with(&config, json!({"prevResult": result}));
        room.attach("bridge", "CHECK", &container).config(&checked).run()?.silent()?;
        for gateway in ["10.1.2.1", "10.1.3.1"] {
            room.reach(id, gateway)?;
        }
    }
    room.reach("c1", "10.1.3.3")
}

fn zero_mac(room: &Room) -> Result<()> {
    // A bridge that has lost its last port has the MAC address 00:00:00:00:00:00 until the next
    // port is added.
    ip::script(
        None,
        "link add br0 type bridge
         link set br0 up
         link add gone0 type veth peer name gone1
         link set gone0 master br0 up
         link del gone0",
    )?;
    allow_ipv6(&["br0"])?;
    add(room, &room.container("c1")?, &bridge(USUAL))?;
    room.reach("c1", "10.1.2.1")
}

fn route_attributes(room: &Room) -> Result<()> {
    let mut config = bridge(USUAL);
    config["ipam"]["routes"] = json!([
        {"dst": "10.20.0.0/16", "gw": "10.1.2.9", "mtu": 1400, "advmss": 1300, "priority": 7},
        {"dst": "10.30.0.0/16", "table": 100},
        {"dst": "10.40.0.0/16", "scope": 253},
        {"dst": "2001:db8:40::/48", "priority": 9},
    ]);
    let container = room.container("c1")?;
    let result = add(room, &container, &config)?;
    let show = |args: &[&str]| -> Result<String> {
        let rows = ip::rows(Some("c1"), &[args, &["route", "show", "table", "all"]].concat())?;
        Ok(rows.iter().map(|row| row.to_string() + "\n").collect())
    };
    let (v4, v6) = (show(&["-4"])?, show(&["-6"])?);
    let row = |all: &str, dst: &str| all.lines().find(|row| row.contains(dst)).unwrap_or_default().to_owned();
    let first = row(&v4, "10.20.0.0/16");
    for wanted in ["\"gateway\":\"10.1.2.9\"", "\"metric\":7", "1400", "1300"] {
        ensure!(first.contains(wanted), "{wanted} is missing: {first}");
    }
    ensure!(row(&v4, "10.30.0.0/16").contains("\"table\":\"100\""), "{v4}");
    let link_scope = row(&v4, "10.40.0.0/16");
    ensure!(link_scope.contains("\"scope\":\"link\"") && !link_scope.contains("gateway"), "{v4}");
    ensure!(row(&v6, "2001:db8:40::/48").contains("\"metric\":9"), "{v6}");
    let checked = with(&config, json!({"prevResult": result}));
    room.attach("bridge", "CHECK", &container).config(&checked).run()?.silent()
}

fn sysctls(room: &Room) -> Result<()> {
    add(room, &room.container("c1")?, &bridge(USUAL))?;
    for (path, expected) in [
        ("net/ipv4/conf/eth0/arp_notify", "1"),
        ("net/ipv6/conf/eth0/accept_dad", "0"),
        ("net/ipv6/conf/eth0/keep_addr_on_down", "1"),
        ("net/ipv6/conf/eth0/disable_ipv6", "0"),
    ] {
        let value = room.sysctl("c1", path)?;
        ensure!(value == expected, "{path} is {value}, expected {expected}");
    }
    ensure!(
        room.host_sysctl("net/ipv6/conf/br0/accept_ra")? == "0",
        "the bridge accepts router advertisements"
    );
    let container = room.container("c2")?;
    room.inside("c2", || Ok(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?))?;
    add(room, &container, &with(&bridge(USUAL), json!({"enabledad": true})))?;
    for (path, expected) in [
        ("net/ipv6/conf/eth0/accept_dad", "1"),
        ("net/ipv6/conf/eth0/enhanced_dad", "1"),
        ("net/ipv6/conf/eth0/disable_ipv6", "0"),
    ] {
        let value = room.sysctl("c2", path)?;
        ensure!(value == expected, "enabledad: {path} is {value}, expected {expected}");
    }
    let addresses = ip::addresses(Some("c2"), "eth0")?;
    ensure!(addresses.contains(&"2001:db8:1::3/64".to_owned()), "{addresses:?}");
    Ok(())
}

fn bridge_mac(room: &Room) -> Result<()> {
    for config in [bridge(USUAL), with(&layer2(USUAL), json!({"bridge": "br1", "name": "net1"}))] {
        let name = config["bridge"].as_str().unwrap_or_default();
        let mut first = None;
        let mut attached = vec![];
        for n in 0..4 {
            let container = room.container(&format!("{name}-c{n}"))?;
            let result = add(room, &container, &config)?;
            let mac = link(None, name)?["address"].clone();
            ensure!(
                result["interfaces"][0]["mac"] == mac,
                "the result has {} but {name} has {mac}",
                result["interfaces"][0]
            );
            let first = first.get_or_insert_with(|| mac.clone());
            ensure!(*first == mac, "{name} had {first} and has {mac} after container {n}");
            attached.push((container, result));
        }
        for (container, result) in &attached {
            let checked = with(&config, json!({"prevResult": result}));
            room.attach("bridge", "CHECK", container).config(&checked).run()?.silent()?;
        }
    }
    Ok(())
}
