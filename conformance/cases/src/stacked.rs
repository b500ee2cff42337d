//! Promises common to macvlan, ipvlan and vlan.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{VERSIONS, with};
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::lan::{add, addresses, check, lan, outside_caches_another, refused};
use harness::{golden, ip, socket, store};
use serde_json::{Value, json};

const IPVLAN: &[Need] = &[Need::Ipvlan];
const VLAN: &[Need] = &[Need::VlanLinks];

pub const CASES: &[Case] = &[
    Case::new("macvlan/result_equals_the_references", &["C-050", "MV-1"], |room| {
        equal(room, "macvlan", &json!({}))
    })
    .needs(&[Need::Reference]),
    Case::new("ipvlan/result_equals_the_references", &["C-050", "IV-1"], |room| {
        equal(room, "ipvlan", &json!({}))
    })
    .needs(&[Need::Ipvlan, Need::Reference]),
    Case::new("ipvlan/result_in_l3_equals_the_references", &["C-050", "IV-1"], |room| {
        // This release of the reference accepts no route without a gateway in these modes.
        let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.7.0.0/24"}]]});
        let dns = json!({"nameservers": ["10.7.0.1"], "search": ["example.org"]});
        equal(room, "ipvlan", &json!({"mode": "l3", "mtu": 1400, "ipam": ipam, "dns": dns}))
    })
    .needs(&[Need::Ipvlan, Need::Reference]),
    Case::new("vlan/result_equals_the_references", &["C-050", "VL-1"], |room| {
        equal(room, "vlan", &json!({"vlanId": 10}))
    })
    .needs(&[Need::VlanLinks, Need::Reference]),
    Case::new("macvlan/duplicate_ipv6_address_is_an_error", &["MV-R2"], |room| duplicate(room, "macvlan")),
    Case::new("ipvlan/duplicate_ipv6_address_is_an_error", &["IV-R6"], |room| duplicate(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("macvlan/stale_neighbours_are_corrected", &["MV-R3"], |room| stale_neighbour(room, "macvlan")),
    Case::new("ipvlan/stale_neighbours_are_corrected", &["IV-R2"], |room| stale_neighbour(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("macvlan/del_matrix", &["C-042", "C-113", "C-114", "MV-3"], |room| {
        del_matrix(room, "macvlan", &["fine", "unset", "gone", "plain file"])
    }),
    // Under emulation, all states take too long for one case.
    Case::new("ipvlan/del_matrix_namespace_fine", &["C-042", "IV-3"], |room| {
        del_matrix(room, "ipvlan", &["fine"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/del_matrix_namespace_unset", &["C-042", "C-114", "IV-3"], |room| {
        del_matrix(room, "ipvlan", &["unset"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/del_matrix_namespace_gone", &["C-042", "C-114", "IV-3"], |room| {
        del_matrix(room, "ipvlan", &["gone"])
    })
    .needs(IPVLAN),
    Case::new("ipvlan/del_matrix_namespace_is_a_plain_file", &["C-042", "C-113", "IV-3"], |room| {
        del_matrix(room, "ipvlan", &["plain file"])
    })
    .needs(IPVLAN),
    Case::new("macvlan/del_succeeds_after_the_master_vanished", &["LK-7"], |room| vanishing(room, "macvlan")),
    Case::new("ipvlan/del_succeeds_after_the_master_vanished", &["LK-7"], |room| vanishing(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("vlan/del_succeeds_after_the_master_vanished", &["LK-7"], |room| vanishing(room, "vlan"))
        .needs(VLAN),
    Case::new("macvlan/a_failed_add_leaves_nothing", &["C-085", "MV-B1"], |room| failed_add(room, "macvlan")),
    Case::new("ipvlan/a_failed_add_leaves_nothing", &["C-085", "IV-B3"], |room| failed_add(room, "ipvlan"))
        .needs(IPVLAN),
    Case::new("vlan/a_failed_add_leaves_nothing", &["C-085", "VL-B1"], |room| failed_add(room, "vlan"))
        .needs(VLAN),
    Case::new("macvlan/a_bridge_port_and_a_stacked_master_are_distinguished", &["MV-B7"], |room| {
        other_masters(room, "macvlan")
    }),
];

/// In every version that the reference supports, with these keys added to those of [`lan`].
fn equal(room: &Room, plugin: &str, keys: &Value) -> Result<()> {
    room.outside(&[])?;
    for (nth, version) in VERSIONS.iter().filter(|version| **version != "1.1.0").enumerate() {
        let mut results = vec![];
        for (suite, dir) in [("ours", &room.suite), ("theirs", &room.reference)] {
            let container = room.container(&format!("{suite}{nth}"))?;
            let own = json!({"cniVersion": version, "mac": "0a:00:00:00:00:05"});
            let mut config = lan(plugin, &with(keys, own));
            config["ipam"]["dataDir"] = room.scratch(suite).display().to_string().into();
            let call = |verb: &str| {
                let call = Call::new(room, Path::new(dir).join(plugin)).env("CNI_COMMAND", verb);
                let call = call.env("CNI_PATH", dir).env("CNI_CONTAINERID", "c").env("CNI_IFNAME", "eth0");
                call.env("CNI_NETNS", &container.path).config(&config).run()
            };
            let mut result = call("ADD")?.result()?;
            if let Some(link) = result["interfaces"].get_mut(0) {
                link["sandbox"] = "the container".into();
            }
            // Omitted when empty from 1.0.0 on, as later releases of the reference do (C-051).
            if result["dns"] == json!({}) {
                result.as_object_mut().map(|map| map.remove("dns"));
            }
            results.push(result);
            call("DEL")?.silent()?;
        }
        let differences = golden::differences(&results[1], &results[0]);
        ensure!(differences.is_empty(), "{version}: {differences:?}");
    }
    Ok(())
}

fn stale_neighbour(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    for dad in [true, false] {
        let nth = usize::from(!dad);
        let addresses = addresses(nth);
        outside_caches_another(room, "eth0", &addresses)?;
        add(room, plugin, &format!("c{nth}"), &lan(plugin, &json!({"enabledad": dad})))?;
        for address in &addresses {
            room.inside("outside", || socket::reach(address.parse()?, Duration::from_secs(1)))
                .with_context(|| format!("enabledad {dad}: packets to {address} went to the old MAC"))?;
        }
    }
    Ok(())
}

/// DEL for each state of the container's namespace, with the result of ADD and without, twice.
fn del_matrix(room: &Room, plugin: &str, states: &[&str]) -> Result<()> {
    room.outside(&[])?;
    // Without IPv6 there is nothing to wait for.
    let config = with(
        &lan(plugin, &json!({})),
        json!({"ipam": {"type": "host-local", "subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10"}}),
    );
    // The network's directory exists before, so that only objects of the attachment can be left
    // over.
    add(room, plugin, "first", &config)?;
    for state in states {
        for prev in [true, false] {
            let id = format!("{}-{prev}", state.replace(' ', "-"));
            let before = room.snapshot()?;
            let (container, result) = add(room, plugin, &id, &config)?;
            match *state {
                "gone" => room.remove(&container)?,
                "plain file" => {
                    room.remove(&container)?;
                    File::create(&container.path)?;
                }
                _ => {}
            }
            let config = with(&config, json!({"prevResult": if prev { result } else { json!(null) }}));
            for time in ["once", "twice"] {
                let call = room.attach(plugin, "DEL", &container).config(&config);
                let call = if *state == "unset" { call.env("CNI_NETNS", "") } else { call };
                call.run()?.silent().with_context(|| format!("{state}, prevResult {prev}, {time}"))?;
                room.ensure_nothing_left(&before, &[&id])?;
                if *state == "fine" {
                    ensure!(ip::link(Some(&id), "eth0")?.is_none(), "the link is still there");
                }
            }
        }
    }
    Ok(())
}

fn failed_add(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    // The route's gateway is on no link, so ADD fails after everything except the routes exists.
    let ipam = json!({
        "type": "host-local", "subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10",
        "routes": [{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}],
    });
    refused(room, plugin, &container, &lan(plugin, &json!({"ipam": ipam})), "failed to add route")?;
    let ipam = json!({"type": "no-such-plugin"});
    refused(room, plugin, &container, &lan(plugin, &json!({"ipam": ipam})), "no-such-plugin")?;
    Ok(())
}

fn duplicate(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    let [_, taken] = addresses(0);
    ip::run_in("outside", &["-6", "addr", "add", &format!("{taken}/64"), "dev", "eth0", "nodad"])?;
    let container = room.container("c1")?;
    refused(room, plugin, &container, &lan(plugin, &json!({})), &format!("{taken}/64"))
}

/// The master vanishes between CHECK and DEL, with its links; only the lease is left.
fn vanishing(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    let config = lan(plugin, &json!({"enabledad": false}));
    let (container, result) = add(room, plugin, "c1", &config)?;
    check(room, plugin, &container, &config, &result)?.silent()?;
    ip::run(&["link", "del", "wan0"])?;
    let error = check(room, plugin, &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("wan0"), "{error}");
    for time in ["once", "twice"] {
        room.attach(plugin, "DEL", &container).config(&config).run()?.silent().context(time)?;
    }
    ensure!(store::addresses("/var/lib/cni/networks/lan")?.is_empty(), "the lease is still there");
    Ok(())
}

/// Masters of the wrong kind: a port of a bridge; a macvlan.
fn other_masters(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    ip::script(
        None,
        "link add br0 type bridge
         link add port0 type veth peer name port1
         link set port0 master br0
         link set port0 up
         link add link wan0 name stacked0 type macvlan mode bridge
         link set stacked0 up",
    )?;
    let container = room.container("c1")?;
    let on = |master: &str| lan(plugin, &json!({"master": master, "enabledad": false}));
    refused(room, plugin, &container, &on("port0"), "master \"port0\" is a port of the bridge \"br0\"")?;
    // The kernel puts it on the macvlan's own master, which passthru does not use exclusively.
    let passthru = with(&on("stacked0"), json!({"mode": "passthru"}));
    refused(room, plugin, &container, &passthru, "passthru takes it alone")?;
    let result = room.attach(plugin, "ADD", &container).config(&on("stacked0")).run()?.result()?;
    check(room, plugin, &container, &on("stacked0"), &result)?.silent()?;
    room.attach(plugin, "DEL", &container).config(&on("stacked0")).run()?.silent()?;
    ensure!(ip::links(Some("c1"))? == ["lo"], "{:?}", ip::links(Some("c1"))?);
    Ok(())
}
