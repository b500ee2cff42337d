//! `hostAccess` of macvlan and ipvlan: host and containers reach each other, and no other host sees
//! the traffic.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{
    add, addresses_of, check, lan, outside, reaches, refused, vlan_gateway, vlan_lan, vlan_outside,
};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("host_access/macvlan_and_host_reach_each_other", &["MV-R6"], |room| {
        room.outside(&[])?;
        both_ways(room, "macvlan", &json!({}))
    }),
    Case::new("host_access/ipvlan_l2_and_host_reach_each_other", &["IV-R4"], |room| {
        room.outside(&[])?;
        both_ways(room, "ipvlan", &json!({"mode": "l2"}))
    })
    .needs(&[Need::Ipvlan]),
    Case::new("host_access/ipvlan_l3_and_host_reach_each_other", &["IV-R4"], |room| routed(room, "l3"))
        .needs(&[Need::Ipvlan]),
    Case::new("host_access/ipvlan_l3s_and_host_reach_each_other", &["IV-R4"], |room| routed(room, "l3s"))
        .needs(&[Need::Ipvlan]),
    Case::new("host_access/macvlan_on_a_vlan_uses_the_configured_host_addresses", &["LK-20"], |room| {
        own_addresses(room, "macvlan")
    })
    .needs(&[Need::VlanLinks]),
    Case::new("host_access/ipvlan_on_a_vlan_uses_the_configured_host_addresses", &["LK-20"], |room| {
        own_addresses(room, "ipvlan")
    })
    .needs(&[Need::VlanLinks, Need::Ipvlan]),
    Case::new("host_access/an_internal_network_uses_the_configured_host_addresses", &["LK-20"], internal)
        .needs(&[Need::Dummy]),
    Case::new("host_access/neighbours_find_the_host_at_the_same_mac_address", &["LK-21"], neighbours),
    Case::new("host_access/a_reused_address_is_reachable_at_once", &["LK-22"], reused),
    Case::new("host_access/invalid_config_is_refused_before_any_change", &["LK-23"], faults),
    Case::new("host_access/strict_reverse_path_filtering_is_reported", &["LK-23"], strict)
        .needs(&[Need::Ipvlan]),
];

/// The host's addresses on `wan0`.
fn host() -> [String; 2] {
    ["198.51.100.1".to_owned(), "2001:db8:ff::1".to_owned()]
}

pub fn delete(room: &Room, plugin: &str, container: &Container, config: &Value) -> Result<()> {
    room.attach(plugin, "DEL", container).config(config).run()?.silent()
}

/// The host's links that exist for `hostAccess`.
pub fn shims() -> Result<Vec<String>> {
    let rows = ip::rows(None, &["-d", "link", "show"])?;
    let shims = rows
        .iter()
        .filter(|row| row["ifalias"].as_str().is_some_and(|alias| alias.starts_with("moor:shim:")));
    Ok(shims.filter_map(|row| Some(row["ifname"].as_str()?.to_owned())).collect())
}

fn both_ways(room: &Room, plugin: &str, keys: &Value) -> Result<()> {
    let before = room.snapshot()?;
    let config = lan(plugin, &with(keys, json!({"hostAccess": true})));
    let (first, result) = add(room, plugin, "c1", &config)?;
    let (second, others) = add(room, plugin, "c2", &config)?;
    let (one, two) = (addresses_of(&result)?, addresses_of(&others)?);
    for (from, to) in [
        (None, &one),
        (None, &two),
        (Some("c1"), &host()),
        (Some("c2"), &host()),
        (Some("c1"), &two),
        (Some("c1"), &outside()),
        (Some("outside"), &one),
        (Some("outside"), &host()),
        (None, &outside()),
    ] {
        ensure!(reaches(room, from, to)?, "{from:?} cannot reach {to:?}");
    }
    ensure!(shims()?.len() == 1, "{:?}", shims()?);
    check(room, plugin, &first, &config, &result)?.silent()?;
    delete(room, plugin, &first, &config)?;
    ensure!(
        reaches(room, None, &two)? && reaches(room, Some("c2"), &host())?,
        "another container's DEL removed the route"
    );
    delete(room, plugin, &second, &config)?;
    room.ensure_nothing_left(&before, &["c1", "c2"])?;
    // Without the key the host still cannot reach containers.
    let (_, third) = add(room, plugin, "c3", &lan(plugin, keys))?;
    ensure!(!reaches(room, None, &addresses_of(&third)?)?, "without hostAccess the host reaches a container");
    Ok(())
}

fn routed(room: &Room, mode: &str) -> Result<()> {
    room.outside(&["10.7.0.0/24", "2001:db8:7::/64"])?;
    let before = room.snapshot()?;
    // No routes: in these modes there are default routes without a gateway.
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.10"}],
                   [{"subnet": "2001:db8:7::/64", "rangeStart": "2001:db8:7::10"}]],
    });
    let config = lan("ipvlan", &json!({"mode": mode, "ipam": ipam, "hostAccess": true}));
    let (first, result) = add(room, "ipvlan", "c1", &config)?;
    let (second, others) = add(room, "ipvlan", "c2", &config)?;
    ensure!(result["routes"].as_array().is_none_or(Vec::is_empty), "{result}");
    let (one, two) = (addresses_of(&result)?, addresses_of(&others)?);
    for (from, to) in [
        (None, &one),
        (Some("c1"), &host()),
        (Some("c1"), &two),
        (Some("c1"), &outside()),
        (Some("outside"), &two),
    ] {
        ensure!(reaches(room, from, to)?, "mode {mode}: {from:?} cannot reach {to:?}");
    }
    check(room, "ipvlan", &first, &config, &result)?.silent()?;
    ip::script(Some("c1"), "route del default")?;
    let error = check(room, "ipvlan", &first, &config, &result)?.error()?;
    ensure!(error.msg.contains("route 0.0.0.0/0 on eth0: expected on link, actual missing"), "{error}");
    delete(room, "ipvlan", &first, &config)?;
    delete(room, "ipvlan", &second, &config)?;
    room.ensure_nothing_left(&before, &["c1", "c2"])?;
    let (_, _) = add(room, "ipvlan", "c3", &with(&config, json!({"defaultRoute": false})))?;
    ensure!(ip::rows(Some("c3"), &["route", "show", "default"])?.is_empty(), "an unexpected default route");
    Ok(())
}

fn own_addresses(room: &Room, plugin: &str) -> Result<()> {
    vlan_outside(room)?;
    let before = room.snapshot()?;
    let container = room.container("c0")?;
    let bare = vlan_lan(plugin, &json!({"vlan": 10, "hostAccess": true}));
    refused(room, plugin, &container, &bare, "the host has no IPv4 address on \"wan0.10\"")?;
    let own = ["10.10.10.3".to_owned(), "fd00:10::3".to_owned()];
    let config = with(&bare, json!({"hostAddresses": own}));
    let (first, result) = add(room, plugin, "c1", &config)?;
    let (second, others) = add(room, plugin, "c2", &config)?;
    let (one, two) = (addresses_of(&result)?, addresses_of(&others)?);
    for (from, to) in
        [(None, &one), (None, &two), (Some("c1"), &own), (Some("c2"), &own), (Some("c1"), &vlan_gateway(10))]
    {
        ensure!(reaches(room, from, to)?, "{from:?} cannot reach {to:?}");
    }
    check(room, plugin, &first, &config, &result)?.silent()?;
    delete(room, plugin, &first, &config)?;
    ensure!(reaches(room, None, &two)?, "another container's DEL removed the route");
    delete(room, plugin, &second, &config)?;
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

fn internal(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.10"}],
                   [{"subnet": "fd00:77::/64", "rangeStart": "fd00:77::10"}]],
    });
    let own = ["10.77.0.3".to_owned(), "fd00:77::3".to_owned()];
    let keys = json!({"master": null, "internal": true, "enabledad": false, "ipam": ipam});
    let config = lan("macvlan", &with(&keys, json!({"hostAccess": true, "hostAddresses": own})));
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    ensure!(reaches(room, None, &addresses_of(&result)?)? && reaches(room, Some("c1"), &own)?);
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    // The shim is deleted first, then its parent.
    delete(room, "macvlan", &container, &config)?;
    room.ensure_nothing_left(&before, &["c1"])
}

/// The host has a second link on the wire. ARP requests for the host's addresses must be answered
/// with the MAC address of their own link.
fn neighbours(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({"hostAccess": true}));
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    ensure!(reaches(room, None, &addresses_of(&result)?)?);
    let wan = ip::link(None, "wan0")?.context("no wan0")?;
    for round in 0..5 {
        ip::script(Some("outside"), "neigh flush all")?;
        ensure!(reaches(room, Some("outside"), &host())?, "round {round}");
        for address in host() {
            let rows = ip::rows(Some("outside"), &["neigh", "show", &address])?;
            ensure!(
                rows.iter().all(|row| row["lladdr"] == wan["address"]),
                "round {round}: {rows:?}, not {wan}"
            );
        }
    }
    delete(room, "macvlan", &container, &config)?;
    ensure!(reaches(room, Some("outside"), &host())?, "the host is lost with its link");
    Ok(())
}

fn reused(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10", "rangeEnd": "198.51.100.10"}],
                   [{"subnet": "2001:db8:ff::/64", "rangeStart": "2001:db8:ff::10", "rangeEnd": "2001:db8:ff::10"}]],
    });
    let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false, "ipam": ipam}));
    // Another process keeps the link there.
    add(
        room,
        "macvlan",
        "other",
        &lan(
            "macvlan",
            &json!({"hostAccess": true, "enabledad": false, "ipam": {
        "type": "host-local", "dataDir": "/var/lib/cni/other", "subnet": "198.51.100.0/24", "rangeStart": "198.51.100.99"}}),
        ),
    )?;
    for nth in 0..3 {
        let (container, result) = add(room, "macvlan", &format!("c{nth}"), &config)?;
        ensure!(reaches(room, None, &addresses_of(&result)?)?, "the {nth}th holder is not reached");
        delete(room, "macvlan", &container, &config)?;
    }
    Ok(())
}

fn faults(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::script(None, "link add bare0 type bridge\n link set bare0 up")?;
    let container = room.container("c1")?;
    for (plugin, keys, text) in [
        ("macvlan", json!({"mode": "private"}), "hostAccess needs mode bridge"),
        ("macvlan", json!({"mode": "passthru"}), "hostAccess needs mode bridge"),
        ("macvlan", json!({"ipam": null}), "hostAccess needs ipam"),
        ("macvlan", json!({"linkInContainer": true}), "hostAccess is for a master of the host"),
        (
            "macvlan",
            json!({"hostAddresses": ["10.0.0.1/24"]}),
            "invalid address \"10.0.0.1/24\" in hostAddresses",
        ),
        (
            "macvlan",
            json!({"hostAccess": false, "hostAddresses": ["10.0.0.1"]}),
            "hostAddresses needs hostAccess",
        ),
        ("macvlan", json!({"master": "bare0"}), "hostAccess: the host has no IPv4 address on \"bare0\""),
        ("ipvlan", json!({"flag": "private"}), "hostAccess needs flag bridge"),
        ("ipvlan", json!({"flag": "vepa"}), "hostAccess needs flag bridge"),
    ] {
        let config = lan(plugin, &with(&json!({"hostAccess": true}), keys));
        refused(room, plugin, &container, &config, text).with_context(|| config.to_string())?;
    }
    Ok(())
}

fn strict(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let path = "/proc/sys/net/ipv4/conf/wan0/rp_filter";
    std::fs::write(path, "1")?;
    let container = room.container("c0")?;
    let config = lan("ipvlan", &json!({"hostAccess": true}));
    refused(room, "ipvlan", &container, &config, "net.ipv4.conf.wan0.rp_filter is 1")?;
    // A configured address is on the path that the answers take.
    let own = ["198.51.100.3".to_owned(), "2001:db8:ff::3".to_owned()];
    let config = with(&config, json!({"hostAddresses": own}));
    let (first, result) = add(room, "ipvlan", "c1", &config)?;
    ensure!(reaches(room, None, &addresses_of(&result)?)? && reaches(room, Some("c1"), &own)?);
    delete(room, "ipvlan", &first, &config)
}
