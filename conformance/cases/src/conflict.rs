//! `detectConflict`: an address that another host on the link uses is refused (RFC 5227; RFC 4862,
//! section 5.4).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::need::Need;
use harness::patience::ensure_prompt;
use harness::room::Room;
use harness::stage::lan::{
    add, addresses, check, lan, outside, outside_caches_another, reaches, refusal, refused,
};
use harness::{ip, store};
use serde_json::{Value, json};

const IPVLAN: &[Need] = &[Need::Ipvlan];

pub const CASES: &[Case] = &[
    Case::new("macvlan/a_conflict_names_the_other_holder_in_time", &["LK-10"], |room| rogue(room, "macvlan")),
    Case::new("ipvlan/a_conflict_names_the_other_holder_in_time", &["LK-10"], |room| rogue(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("bridge/a_conflict_names_the_other_holder", &["LK-10"], rogue_on_bridge),
    Case::new("macvlan/a_free_address_is_claimed_and_announced", &["LK-11"], |room| free(room, "macvlan")),
    Case::new("ipvlan/a_free_address_is_claimed_and_announced", &["LK-11"], |room| free(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("macvlan/an_address_of_a_sibling_is_a_conflict", &["LK-12"], |room| sibling(room, "macvlan")),
    Case::new("ipvlan/an_address_of_a_sibling_is_a_conflict", &["LK-12"], |room| sibling(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("macvlan/the_next_free_address_is_tried_if_configured", &["LK-13"], next_free),
    Case::new("macvlan/a_conflict_on_the_only_address_is_not_retried", &["LK-13"], must_be),
    Case::new("macvlan/our_own_announcements_are_not_a_conflict", &["LK-14"], own),
    Case::new("macvlan/invalid_detect_conflict_is_refused", &["LK-15"], faults),
];

/// How long other hosts have to answer, in milliseconds.
const TIME: u64 = 600;
/// How much later ADD may return the error.
const LATE: u64 = 250;

fn detecting(plugin: &str, keys: &Value) -> Value {
    with(&lan(plugin, &json!({"detectConflict": {"timeoutMs": TIME}})), keys.clone())
}

fn mac_of(ns: &str) -> Result<String> {
    let link = ip::link(Some(ns), "eth0")?.with_context(|| format!("no eth0 in {ns}"))?;
    Ok(link["address"].as_str().unwrap_or_default().to_owned())
}

fn rogue(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    let mac = mac_of("outside")?;
    let [v4, v6] = addresses(0);
    let container = room.container("c1")?;
    for (family, address) in [("-4", format!("{v4}/24")), ("-6", format!("{v6}/64"))] {
        store::forget("/var/lib/cni/networks/lan")?;
        let nodad: &[&str] = if family == "-6" { &["nodad"] } else { &[] };
        ip::run_in("outside", &[&[family, "addr", "add", &address, "dev", "eth0"], nodad].concat())?;
        let (error, took) = refusal(room, plugin, &container, &detecting(plugin, &json!({})), &address)?;
        ensure!(error.code == 11 && error.msg.contains(&mac), "{mac} is not named: {error}");
        // Timing in an emulated virtual machine is meaningless.
        let bound = Duration::from_millis(TIME + LATE) * if plugin == "ipvlan" { 10 } else { 1 };
        ensure_prompt(&format!("the refusal of {address}"), took, bound)?;
        ip::run_in("outside", &[family, "addr", "del", &address, "dev", "eth0"])?;
    }
    Ok(())
}

fn rogue_on_bridge(room: &Room) -> Result<()> {
    let config = with(
        &harness::config::bridge(harness::config::USUAL),
        json!({"detectConflict": {"timeoutMs": TIME}}),
    );
    let (_, first) = add(room, "bridge", "rogue", &config)?;
    let ips = first["ips"].as_array().context("no ips")?;
    let taken: Vec<_> = ips.iter().filter_map(|ip| ip["address"].as_str()).collect();
    let mac = mac_of("rogue")?;
    let container = room.container("c1")?;
    // As if the network's leases had been lost.
    store::forget("/var/lib/cni/networks/net")?;
    let (error, _) = refusal(room, "bridge", &container, &config, taken[0])?;
    ensure!(error.code == 11 && error.msg.contains(&mac), "{mac} is not named: {error}");
    store::forget("/var/lib/cni/networks/net")?;
    ip::run_in("rogue", &["addr", "del", taken[0], "dev", "eth0"])?;
    let (error, _) = refusal(room, "bridge", &container, &config, taken[1])?;
    ensure!(error.code == 11 && error.msg.contains(&mac), "{mac} is not named: {error}");
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    check(room, "bridge", &container, &config, &result)?.silent()
}

fn free(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    let addresses = addresses(0);
    outside_caches_another(room, "eth0", &addresses)?;
    // `detectConflict` suffices; `enabledad` is about IPv6 only.
    let config = detecting(plugin, &json!({"enabledad": false}));
    let (container, result) = add(room, plugin, "c1", &config)?;
    check(room, plugin, &container, &config, &result)?.silent()?;
    ensure!(reaches(room, Some("c1"), &outside())? && reaches(room, Some("outside"), &addresses)?);
    let tentative = ip::tentative(Some("c1"), "eth0")?;
    ensure!(tentative.is_empty(), "tentative after ADD: {tentative:?}");
    let retransmission = |of: &str| room.sysctl("c1", &format!("net/ipv6/neigh/{of}/retrans_time_ms"));
    if let Ok(usual) = retransmission("default") {
        ensure!(retransmission("eth0")? == usual, "the link's retransmission time stays changed");
    }
    room.attach(plugin, "DEL", &container).config(&config).run()?.silent()
}

fn sibling(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    let elsewhere = with(&lan(plugin, &json!({"enabledad": false})), json!({"name": "elsewhere"}));
    add(room, plugin, "first", &elsewhere)?;
    let container = room.container("c1")?;
    let [v4, _] = addresses(0);
    // Two ipvlans of one master cannot have the same address at all.
    let text = if plugin == "ipvlan" { "in use" } else { v4.as_str() };
    let (error, _) = refusal(room, plugin, &container, &detecting(plugin, &json!({})), text)?;
    ensure!(plugin == "ipvlan" || error.msg.contains(&mac_of("first")?), "{error}");
    Ok(())
}

fn next_free(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let taken = [addresses(0), addresses(1)];
    ip::run_in("outside", &["addr", "add", &format!("{}/24", taken[0][0]), "dev", "eth0"])?;
    ip::run_in("outside", &["-6", "addr", "add", &format!("{}/64", taken[1][1]), "dev", "eth0", "nodad"])?;
    let keys = |attempts: u32| json!({"detectConflict": {"timeoutMs": 200, "attempts": attempts}});
    let container = room.container("c1")?;
    // Each attempt conflicts with another host.
    let config = lan("macvlan", &keys(2));
    refused(room, "macvlan", &container, &config, &format!("{}/64", taken[1][1]))?;
    store::forget("/var/lib/cni/networks/lan")?;
    let config = lan("macvlan", &keys(3));
    let result = room.attach("macvlan", "ADD", &container).config(&config).run()?.result()?;
    let [v4, v6] = addresses(2);
    ensure!(ip::addresses(Some("c1"), "eth0")? == [format!("{v4}/24"), format!("{v6}/64")], "{result}");
    ensure!(store::addresses("/var/lib/cni/networks/lan")? == [v4, v6], "other leases are left");
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    ensure!(reaches(room, Some("c1"), &outside())?);
    Ok(())
}

fn must_be(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let [v4, _] = addresses(0);
    ip::run_in("outside", &["addr", "add", &format!("{v4}/24"), "dev", "eth0"])?;
    let container = room.container("c1")?;
    // A range of one address, so that there is no alternative.
    let ipam = json!({"type": "host-local", "subnet": "198.51.100.0/24", "rangeStart": v4, "rangeEnd": v4});
    let keys = json!({"ipam": ipam, "detectConflict": {"timeoutMs": TIME, "attempts": 10}});
    let (error, took) = refusal(room, "macvlan", &container, &lan("macvlan", &keys), &v4)?;
    ensure!(error.code == 11, "{error}");
    ensure_prompt("the refusal", took, Duration::from_millis(2 * TIME + LATE))
}

fn own(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let keys = json!({"mac": "0a:00:00:00:00:05", "detectConflict": {"timeoutMs": 100}});
    for nth in 0..3 {
        // The same address again, while announcements of the previous holder may still be in
        // flight.
        store::forget("/var/lib/cni/networks/lan")?;
        let (container, _) = add(room, "macvlan", &format!("c{nth}"), &lan("macvlan", &keys))?;
        room.attach("macvlan", "DEL", &container).config(&lan("macvlan", &keys)).run()?.silent()?;
    }
    Ok(())
}

fn faults(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    for (value, code, text) in [
        (json!({}), 7, "detectConflict needs timeoutMs"),
        (json!({"timeoutMs": 0}), 7, "invalid detectConflict.timeoutMs 0, must be [1, 10000]"),
        (json!({"timeoutMs": 10_001}), 7, "invalid detectConflict.timeoutMs 10001"),
        (json!({"timeoutMs": -1}), 7, "invalid detectConflict.timeoutMs -1"),
        (json!({"timeoutMs": 100, "attempts": 0}), 7, "invalid detectConflict.attempts 0, must be [1, 10]"),
        (json!({"timeoutMs": 100, "attempts": 11}), 7, "invalid detectConflict.attempts 11"),
        (json!({"timeoutMs": "100"}), 999, "detectConflict.timeoutMs"),
        (json!(true), 999, "detectConflict"),
    ] {
        for plugin in ["macvlan", "ipvlan"] {
            let config = lan(plugin, &json!({"detectConflict": value}));
            let (error, _) = refusal(room, plugin, &container, &config, text)?;
            ensure!(error.code == code, "{value}: {error}");
        }
    }
    let config = lan("macvlan", &json!({"ipam": null, "detectConflict": {"timeoutMs": 100}}));
    refused(room, "macvlan", &container, &config, "detectConflict needs ipam")?;
    let config = lan("ipvlan", &json!({"mode": "l3", "detectConflict": {"timeoutMs": 100}}));
    refused(room, "ipvlan", &container, &config, "detectConflict is for mode l2")
}
