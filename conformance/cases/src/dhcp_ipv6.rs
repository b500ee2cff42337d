//! IPv6 addresses of dhcp: made by the kernel of a router's prefix, or leased by DHCPv6.

use std::fs;
use std::net::Ipv6Addr;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::namespace::Container;
use harness::need::{Need, kernel_version};
use harness::room::Room;
use harness::room::call::Answer;
use harness::stage::dhcp::{DOMAIN, MTU, NAMES6, NETWORK6, Offer, Router, Server, Software};
use harness::stage::lan::{add, check, until};
use harness::{frame, ip};
use serde_json::{Value, json};

const SERVER: &[Need] = &[Need::DhcpServers, Need::Macvlan];

pub const CASES: &[Case] = &[
    Case::new("dhcp/slaac_addresses_routes_and_names_reach_the_result", &["DH-V1", "DH-V2"], slaac)
        .needs(SERVER),
    Case::new("dhcp/slaac_on_a_bridge_and_with_conflict_detection", &["DH-V3"], plugins).needs(SERVER),
    Case::new("dhcp/dhcpv6_leases_of_every_server_are_released", &["DH-V4", "DH-V5"], every_server)
        .needs(SERVER),
    Case::new("dhcp/a_prefix_is_delegated_and_released", &["DH-V6"], prefix).needs(SERVER),
    Case::new("dhcp/ipv6_that_is_not_there_fails_add_unless_optional", &["DH-V7"], absent).needs(SERVER),
    Case::new("dhcp/a_flood_of_routers_is_bounded", &["DH-V8"], flood).needs(SERVER),
];

/// Where records are.
const RECORDS: &str = "/run/moor/dhcp";

pub(crate) fn config(ipam: &Value) -> Value {
    let ipam = with(&json!({"type": "dhcp"}), ipam.clone());
    json!({"cniVersion": USUAL, "name": "lan", "type": "macvlan", "master": "wan0", "ipam": ipam})
}

pub(crate) fn call(room: &Room, verb: &str, container: &Container, config: &Value) -> Result<Answer> {
    room.attach("macvlan", verb, container).config(config).run()
}

/// A server for IPv4, which every attachment needs.
pub(crate) fn v4(room: &Room) -> Result<Server> {
    room.outside(&[])?;
    room.dhcp_server(Software::Dnsmasq, &Offer::default())
}

/// A router that advertises a prefix, names and an MTU.
pub(crate) fn router(room: &Room) -> Result<Server> {
    let offer = Offer { router: Router::Prefix, extras: true, ..Offer::default() };
    room.dhcp6_server(Software::Dnsmasq, &offer)
}

/// The IPv6 address of a result, with its prefix length.
pub(crate) fn address6(result: &Value) -> Result<(String, u64)> {
    let ips = result["ips"].as_array().into_iter().flatten();
    let mut texts = ips.filter_map(|ip| ip["address"].as_str()).filter(|text| text.contains(':'));
    let (address, length) = texts.next().and_then(|text| text.split_once('/')).context("no IPv6 address")?;
    Ok((address.to_owned(), length.parse()?))
}

/// The global IPv6 addresses on a container's link.
pub(crate) fn on_link(id: &str) -> Result<Vec<Value>> {
    let rows = ip::rows(Some(id), &["-6", "addr", "show", "dev", "eth0", "scope", "global"])?;
    let infos = rows.iter().filter_map(|row| row["addr_info"].as_array()).flatten();
    Ok(infos.filter(|info| info["local"].is_string()).cloned().collect())
}

/// The default routes of a container by IPv6.
fn default_routes(id: &str) -> Result<Vec<Value>> {
    ip::rows(Some(id), &["-6", "route", "show", "default"])
}

pub(crate) fn free(server: &Server) -> Result<()> {
    until("every lease is free", || Ok(server.leases()?.is_empty()))
        .with_context(|| format!("{:?}: {}", server.leases(), server.log()))
}

/// The link-local address of the outside's end of the wire.
fn gateway() -> Result<String> {
    let row = ip::link(Some("outside"), "eth0")?.context("no eth0")?;
    Ok(frame::link_local(frame::mac(row["address"].as_str().unwrap_or_default())?).to_string())
}

fn slaac(room: &Room) -> Result<()> {
    let server = v4(room)?;
    let _router = router(room)?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    // As a runtime that switched IPv6 off, and a container that is a router.
    for key in ["conf/all/disable_ipv6", "conf/default/disable_ipv6", "conf/all/forwarding"] {
        room.inside("c1", || Ok(fs::write(format!("/proc/sys/net/ipv6/{key}"), "1")?))?;
    }
    let config = config(&json!({"ipv6": "slaac"}));
    let result = call(room, "ADD", &container, &config)?.result().with_context(|| server.log())?;
    let (address, length) = address6(&result)?;
    ensure!(address.starts_with(NETWORK6) && length == 64, "{result}");
    let gateway = gateway()?;
    ensure!(result["ips"][1]["gateway"] == *gateway, "{gateway}: {result}");
    let route = json!({"dst": "::/0", "gw": gateway, "mtu": MTU});
    ensure!(result["routes"].as_array().is_some_and(|routes| routes.contains(&route)), "{result}");
    // They are the kernel's, and end with the router's advertisements.
    let held = on_link("c1")?;
    ensure!(held.len() == 1 && held[0]["local"] == *address && held[0]["dynamic"] == true, "{held:?}");
    let routes = default_routes("c1")?;
    ensure!(
        routes.len() == 1 && routes[0]["protocol"] == "ra" && !routes[0]["expires"].is_null(),
        "{routes:?}"
    );
    room.reach("c1", "2001:db8:ff::2")?;
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    // macvlan's result has the names of its own configuration alone.
    let own = with(&config, json!({"type": "dhcp"}));
    let result = room.attach("dhcp", "ADD", &container).config(&own).run()?.result()?;
    let dns = &result["dns"];
    ensure!(dns["nameservers"] == json!([NAMES6]) && dns["search"] == json!([DOMAIN]), "{result}");
    call(room, "DEL", &container, &config)?.silent()?;
    free(&server)?;
    room.ensure_nothing_left(&before, &["c1"])
}

/// Plugins that change the link's parameters, or add the addresses in another way.
fn plugins(room: &Room) -> Result<()> {
    let server = v4(room)?;
    let _router = router(room)?;
    let slaac = config(&json!({"ipv6": "slaac", "priority": 77}));
    let detecting = with(&slaac, json!({"detectConflict": {"timeoutMs": 40}}));
    let (container, result) = add(room, "macvlan", "c1", &detecting)?;
    let (address, _) = address6(&result)?;
    ensure!(on_link("c1")?.iter().any(|held| held["local"] == *address), "{result}");
    let routes = default_routes("c1")?;
    // Before, the kernel's route of the router's has the kernel's metric, and stands behind.
    let most = if kernel_version()? >= (5, 13) { 1 } else { 2 };
    ensure!(routes.len() <= most && routes[0]["metric"] == 77, "{routes:?}");
    check(room, "macvlan", &container, &detecting, &result)?.silent()?;
    call(room, "DEL", &container, &detecting)?.silent()?;
    ip::script(None, "link add lan0 type bridge\n link set lan0 up\n link set wan0 master lan0")?;
    let bridge = json!({"cniVersion": USUAL, "name": "lan", "type": "bridge", "bridge": "lan0",
        "ipam": {"type": "dhcp", "ipv6": "slaac"}});
    let (container, result) = add(room, "bridge", "c2", &bridge)?;
    let (address, _) = address6(&result)?;
    ensure!(on_link("c2")?.iter().any(|held| held["local"] == *address), "{result}");
    room.reach("c2", "2001:db8:ff::2")?;
    check(room, "bridge", &container, &bridge, &result)?.silent()?;
    room.attach("bridge", "DEL", &container).config(&bridge).run()?.silent()?;
    free(&server)
}

fn every_server(room: &Room) -> Result<()> {
    let server = v4(room)?;
    leased(room, Software::Dnsmasq, Router::Managed).context("dnsmasq")?;
    // The kernel makes no address of the router's prefix.
    let _router = router(room)?;
    for software in [Software::Kea, Software::Isc] {
        leased(room, software, Router::Prefix).with_context(|| software.name())?;
    }
    free(&server)
}

fn leased(room: &Room, software: Software, router: Router) -> Result<()> {
    let is_first = router == Router::Managed;
    let router = if is_first { router } else { Router::None };
    let mut server = room.dhcp6_server(software, &Offer { router, extras: is_first, ..Offer::default() })?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let config = config(&json!({"ipv6": "dhcpv6"}));
    let result = call(room, "ADD", &container, &config)?.result().with_context(|| server.log())?;
    let (address, length) = address6(&result)?;
    ensure!(server.addresses()? == [address.clone()], "{:?}: {result}", server.leases()?);
    ensure!(length == 64 && default_routes("c1")?.len() == 1, "{result}: {:?}", default_routes("c1")?);
    let held = on_link("c1")?;
    ensure!(held.len() == 1 && held[0]["local"] == *address, "{held:?}");
    let routes = default_routes("c1")?;
    room.reach("c1", "2001:db8:ff::2")?;
    check(room, "macvlan", &container, &config, &result)?
        .silent()
        .with_context(|| format!("default routes {routes:?}, then {:?}", default_routes("c1")))?;
    if is_first {
        again(room, &container, &with(&config, json!({"type": "dhcp"})), &address)?;
    }
    call(room, "DEL", &container, &config)?.silent()?;
    free(&server)?;
    server.stop();
    // A server that is away does not hold DEL up.
    call(room, "DEL", &container, &config)?.silent()?;
    room.remove(&container)?;
    room.ensure_nothing_left(&before, &["c1"])
}

/// Another ADD gets the same address, and names.
fn again(room: &Room, container: &Container, config: &Value, address: &str) -> Result<()> {
    // The kernel ends it if no daemon does.
    until("the kernel knows when the address ends", || {
        Ok(on_link("c1")?[0]["valid_life_time"].as_u64().is_some_and(|seconds| seconds <= 125))
    })?;
    // The subnet is on the link as before, not behind the router.
    let neighbour = format!("{NETWORK6}:9");
    let route = ip::rows(Some("c1"), &["-6", "route", "get", &neighbour])?;
    ensure!(route[0]["dev"] == "eth0" && route[0]["gateway"].is_null(), "{route:?}");
    let result = room.attach("dhcp", "ADD", container).config(config).run()?.result()?;
    ensure!(address6(&result)?.0 == address, "a second ADD: {result}");
    let dns = &result["dns"];
    ensure!(dns["nameservers"] == json!([NAMES6]) && dns["search"] == json!([DOMAIN]), "{result}");
    Ok(())
}

fn prefix(room: &Room) -> Result<()> {
    let _v4 = v4(room)?;
    let server = room.dhcp6_server(Software::Kea, &Offer { prefixes: true, ..Offer::default() })?;
    let container = room.container("c1")?;
    let config = config(&json!({"ipv6": "dhcpv6", "prefixDelegation": true}));
    let answer = call(room, "ADD", &container, &config)?;
    let (address, length) = address6(&answer.result().with_context(|| server.log())?)?;
    // No router knows the prefix of the link.
    ensure!(length == 128 && default_routes("c1")?.is_empty(), "{}", answer.summary());
    let leased = server.addresses()?;
    let prefix = leased.iter().find(|lease| **lease != address).context("no prefix is leased")?;
    let text = format!("the prefix {prefix}/64 is delegated");
    ensure!(answer.stderr.contains(&text), "{text}: {}", answer.summary());
    let records: Vec<_> =
        fs::read_dir(RECORDS)?.flatten().filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
    ensure!(records.iter().any(|record| record.contains(prefix.as_str())), "{records:?}");
    call(room, "DEL", &container, &config)?.silent()?;
    free(&server)
}

/// Neither router nor server: which is missing is reported, the lease of IPv4 is given back, and an
/// attachment that can do without IPv6 has IPv4.
fn absent(room: &Room) -> Result<()> {
    let server = v4(room)?;
    let one = |id: &str, keys: Value| -> Result<Answer> {
        let container = room.container(id)?;
        let config = config(&with(&json!({"timeout": 2}), keys));
        let answer = call(room, "ADD", &container, &config)?;
        if !answer.succeeded() {
            call(room, "DEL", &container, &config)?.silent()?;
        }
        Ok(answer)
    };
    std::thread::scope(|scope| {
        let slaac = scope.spawn(|| one("c1", json!({"ipv6": "slaac"})));
        let leased = scope.spawn(|| one("c2", json!({"ipv6": "dhcpv6"})));
        let optional = scope.spawn(|| one("c3", json!({"ipv6": "slaac", "ipv6Optional": true})));
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Answer>>| {
            thread.join().map_err(|_| anyhow::anyhow!("a call panicked"))?
        };
        join(slaac)?.refused("IPv6: no IPv6 router sent an advertisement")?;
        join(leased)?.refused("IPv6: no more tries: no DHCPv6 server")?;
        let result = join(optional)?.result()?;
        ensure!(result["ips"].as_array().is_some_and(|ips| ips.len() == 1), "{result}");
        Ok(())
    })?;
    let addresses = server.addresses()?;
    until("one lease is left", || Ok(server.addresses()?.len() == 1))
        .with_context(|| format!("{addresses:?}"))
}

/// The kernel keeps sixteen addresses of routers, and the plugin no more.
fn flood(room: &Room) -> Result<()> {
    let _v4 = v4(room)?;
    let wire = frame::Wire::from_within("outside", "eth0")?;
    let container = room.container("c1")?;
    let config = config(&json!({"ipv6": "slaac", "timeout": 10}));
    let done = std::sync::atomic::AtomicBool::new(false);
    let answer = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| -> Result<()> {
            for number in (0..=u16::MAX).cycle() {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return Ok(());
                }
                let [a, b] = number.to_be_bytes();
                let prefix = Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0);
                wire.send(&frame::router_advertisement([2, 0, 0, 0, a, b], prefix, 60))?;
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            Ok(())
        });
        let answer = call(room, "ADD", &container, &config);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        flooding.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
        answer
    })?;
    let result = answer.result()?;
    let addresses = result["ips"].as_array().map_or(0, Vec::len);
    ensure!((2..=17).contains(&addresses), "{result}");
    call(room, "DEL", &container, &config)?.silent()
}
