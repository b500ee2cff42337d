//! vlan: the keys of its configuration.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{add, check, lan, reaches, refused, vlan_gateway, vlan_lan, vlan_outside};
use harness::{ip, store};
use serde_json::{Value, json};

use crate::vlan::vlan;

const VLAN: &[Need] = &[Need::VlanLinks];

pub const CASES: &[Case] = &[
    Case::new(
        "vlan/flags_maps_and_protocol_reach_the_kernel",
        &["VL-K2", "VL-K6", "VL-K7", "VL-K8"],
        attributes,
    )
    .needs(VLAN),
    Case::new("vlan/a_master_in_the_container_works", &["VL-K4"], inside).needs(VLAN),
    Case::new("vlan/bridge_ports_and_vlans_are_masters", &["VL-R3"], masters).needs(VLAN),
    Case::new("vlan/invalid_config_is_refused_before_any_change", &["VL-K1", "VL-K2", "VL-K5"], faults),
    Case::new("vlan/del_succeeds_without_a_master", &["C-042", "VL-B2"], del_master),
];

fn attributes(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan(
        "vlan",
        &json!({
            "vlanId": 10, "protocol": "802.1ad", "enabledad": false, "reorderHeader": false, "gvrp": true, "mvrp": true,
            "looseBinding": true, "ingressQosMap": {"1": 3, "7": 5}, "egressQosMap": {"5": 7},
        }),
    );
    let (container, result) = add(room, "vlan", "c1", &config)?;
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    let data = &link["linkinfo"]["info_data"];
    ensure!(data["protocol"] == "802.1ad" && data["id"] == 10, "{link}");
    ensure!(data["flags"] == json!(["GVRP", "MVRP", "LOOSE_BINDING"]), "{link}");
    ensure!(data["ingress_qos"] == json!([{"from": 1, "to": 3}, {"from": 7, "to": 5}]), "{link}");
    ensure!(data["egress_qos"] == json!([{"from": 5, "to": 7}]), "{link}");
    check(room, "vlan", &container, &config, &result)?.silent()?;
    room.attach("vlan", "DEL", &container).config(&config).run()?.silent()?;
    // Without an id, as for the reference: a priority without a VLAN.
    let config = lan("vlan", &json!({"enabledad": false}));
    let result = room.attach("vlan", "ADD", &container).config(&config).run()?.result()?;
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    let data = &link["linkinfo"]["info_data"];
    ensure!(data["id"] == 0 && data["flags"] == json!(["REORDER_HDR"]), "{link}");
    check(room, "vlan", &container, &config, &result)?.silent()
}

fn inside(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    ip::script(
        Some("c1"),
        "link add inner0 type veth peer name inner1\n link set inner0 up\n link set inner1 up",
    )?;
    let config =
        lan("vlan", &json!({"master": "inner0", "linkInContainer": true, "vlanId": 10, "enabledad": false}));
    let result = room.attach("vlan", "ADD", &container).config(&config).run()?.result()?;
    check(room, "vlan", &container, &config, &result)?.silent()?;
    let second = room.attach("vlan", "ADD", &container).env("CNI_IFNAME", "eth1").config(&config).run()?;
    let error = second.error()?;
    ensure!(error.msg.contains("\"eth0\" of the container"), "{error}");
    room.attach("vlan", "DEL", &container).env("CNI_IFNAME", "eth1").config(&config).run()?.silent()?;
    room.attach("vlan", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none() && ip::link(Some("c1"), "inner0")?.is_some());
    Ok(())
}

fn masters(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    ip::script(None, "link add br0 type bridge\n link set br0 up\n link set wan0 master br0")?;
    let (container, _) = add(room, "vlan", "c1", &vlan(json!({})))?;
    ensure!(reaches(room, Some("c1"), &vlan_gateway(10))?, "the bridge takes the VLAN's frames");
    room.attach("vlan", "DEL", &container).config(&vlan(json!({}))).run()?.silent()?;
    ip::script(
        None,
        "link set wan0 nomaster\n link add link wan0 name service type vlan id 20\n link set service up",
    )?;
    ip::script(
        Some("outside"),
        "link add link eth0.20 name inner type vlan id 10
         link set eth0.10 down
         addr add 10.10.10.2/24 dev inner
         -6 addr add fd00:10::2/64 dev inner nodad
         link set inner up",
    )?;
    let double = vlan(json!({"master": "service"}));
    let result = room.attach("vlan", "ADD", &container).config(&double).run()?.result()?;
    ensure!(reaches(room, Some("c1"), &vlan_gateway(10))?, "two tags do not pass");
    check(room, "vlan", &container, &double, &result)?.silent()?;
    room.attach("vlan", "DEL", &container).config(&double).run()?.silent()?;
    // The last attachment on it would take it away, and with it VLANs that nobody can see.
    let (other, _) =
        add(room, "macvlan", "c2", &vlan_lan("macvlan", &json!({"vlan": 10, "enabledad": false})))?;
    let shared = vlan(json!({"master": "wan0.10", "vlanId": 5}));
    refused(room, "vlan", &container, &shared, "create and delete by need")?;
    room.attach("macvlan", "DEL", &other).config(&vlan_lan("macvlan", &json!({"vlan": 10}))).run()?.silent()
}

fn faults(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    for (keys, text) in [
        (json!({"master": null}), "\"master\" field is required"),
        (json!({"master": "none0"}), "failed to lookup master \"none0\": Link not found"),
        (json!({"master": "wan0.7"}), "failed to lookup master \"wan0.7\": Link not found"),
        (json!({"master": "lo"}), "master \"lo\" is loopback"),
        (json!({"vlanId": 4095}), "invalid VLAN ID 4095 (must be between 0 and 4094 inclusive)"),
        (json!({"vlanId": -1}), "invalid VLAN ID -1"),
        (json!({"mtu": 1501}), "invalid MTU 1501, must be [0, master MTU(1500)]"),
        (json!({"protocol": "802.3"}), "unknown VLAN protocol: \"802.3\""),
        (json!({"ingressQosMap": {"8": 1}}), "invalid entry \"8\": 1 in ingressQosMap"),
        (json!({"egressQosMap": {"1": 8}}), "invalid entry \"1\": 8 in egressQosMap"),
        (json!({"ipam": null}), "no plugin name provided"),
        (json!({"detectConflict": {}}), "detectConflict needs timeoutMs"),
    ] {
        let config = with(&lan("vlan", &json!({"vlanId": 10})), keys.clone());
        refused(room, "vlan", &container, &config, text).with_context(|| keys.to_string())?;
    }
    Ok(())
}

fn del_master(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let foreign: Value = json!({"cniVersion": harness::config::USUAL, "interfaces": [{"name": "a"}]});
    for keys in [
        json!({"master": null}),
        json!({"master": "gone0"}),
        json!({"master": null, "prevResult": foreign}),
        json!({"vlanId": "no such", "mtu": "x", "master": 5, "egressQosMap": [], "protocol": 1}),
    ] {
        // A lease that DEL must find in any case.
        store::write("/var/lib/cni/networks/lan", "198.51.100.10", &store::content("c1", "eth0"))?;
        let config = lan("vlan", &keys);
        let answer = room.attach("vlan", "DEL", &container).config(&config).run()?;
        answer.silent().with_context(|| keys.to_string())?;
        room.ensure_nothing_left(&before, &["c1"])?;
    }
    Ok(())
}
