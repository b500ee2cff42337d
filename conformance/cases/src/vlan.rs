//! vlan: packets, links and results, CHECK and DEL. Cases that create a link need a kernel with
//! CONFIG_VLAN_8021Q.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{
    add, addresses_of, check, lan, outside_caches_another, reaches, refusal, refused, until, vlan_gateway,
    vlan_lan, vlan_outside,
};
use harness::{ip, socket, store};
use serde_json::{Value, json};

const VLAN: &[Need] = &[Need::VlanLinks];

pub const CASES: &[Case] = &[
    Case::new("vlan/a_container_reaches_its_vlan_alone", &["VL-6", "VL-1", "VL-K3", "VL-K5"], life)
        .needs(VLAN),
    Case::new("vlan/check_names_every_drift", &["C-043", "VL-2"], drifts).needs(VLAN),
    Case::new("vlan/a_taken_vlan_is_refused_by_its_holder", &["VL-B5"], taken).needs(VLAN),
    Case::new("vlan/a_name_that_the_host_has_is_not_in_the_way", &["VL-4"], same_name).needs(VLAN),
    Case::new("vlan/a_master_that_is_down_is_named_or_waited_for", &["VL-B6", "VL-K8"], master_down)
        .needs(VLAN),
    Case::new("vlan/stale_neighbours_are_corrected", &["VL-R1"], stale_neighbour).needs(VLAN),
    Case::new("vlan/a_conflict_names_the_other_holder", &["VL-R2", "LK-10"], conflict).needs(VLAN),
    Case::new("vlan/del_matrix", &["C-042", "C-113", "C-114", "VL-3"], del_matrix).needs(VLAN),
    Case::new("vlan/del_removes_the_references_link_alone", &["C-047", "VL-5"], del_references).needs(VLAN),
    Case::new("vlan/gc_releases_leases", &["C-045", "VL-B4"], gc).needs(VLAN),
    Case::new("vlan/status_fails_unless_the_master_exists_and_is_up", &["C-044", "VL-B3"], status)
        .needs(VLAN),
];

/// A network on VLAN 10 of `wan0`, with the outside as gateway; ADD does not wait for IPv6.
pub fn vlan(keys: Value) -> Value {
    with(&vlan_lan("vlan", &json!({"vlanId": 10, "enabledad": false})), keys)
}

fn life(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let before = room.snapshot()?;
    let config = vlan(json!({"mtu": 1400, "enabledad": true, "dns": {"search": ["example.org"]}}));
    let (container, result) = add(room, "vlan", "c1", &config)?;
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    let data = &link["linkinfo"]["info_data"];
    ensure!(link["mtu"] == 1400 && data["id"] == 10 && data["protocol"] == "802.1Q", "{link}");
    let master = ip::link(None, "wan0")?.context("no wan0")?;
    let expected = json!([{"name": "eth0", "mac": master["address"], "sandbox": container.path}]);
    ensure!(result["interfaces"] == expected, "{result}");
    ensure!(result["dns"] == json!({"search": ["example.org"]}), "{result}");
    // Usable when ADD returns, in both families.
    for address in addresses_of(&result)? {
        room.inside("c1", || socket::bind(address.parse()?))?;
    }
    ensure!(reaches(room, Some("c1"), &vlan_gateway(10))?, "its VLAN is not reached");
    ensure!(reaches(room, Some("outside"), &addresses_of(&result)?)?, "its VLAN does not reach it");
    // A neighbour by its address, in another VLAN.
    let (other, far) = add(room, "vlan", "c2", &with(&config, json!({"vlanId": 20})))?;
    ensure!(!reaches(room, Some("c1"), &addresses_of(&far)?)?, "another VLAN is reached");
    room.attach("vlan", "DEL", &other).config(&config).run()?.silent()?;
    check(room, "vlan", &container, &config, &result)?.silent()?;
    room.attach("vlan", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the link is still there");
    // The MTU is the master's with `auto`.
    let auto = vlan(json!({"mtu": "auto"}));
    room.attach("vlan", "ADD", &container).config(&auto).run()?.result()?;
    ensure!(ip::link(Some("c1"), "eth0")?.context("no eth0")?["mtu"] == 1500);
    room.attach("vlan", "DEL", &container).config(&auto).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

fn drifts(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let config = vlan(json!({"mtu": 1400, "ingressQosMap": {"1": 3}}));
    let (container, result) = add(room, "vlan", "c1", &config)?;
    check(room, "vlan", &container, &config, &result)?.silent()?;
    for (change, back, text) in [
        ("link set eth0 mtu 1300", "link set eth0 mtu 1400", "MTU of eth0: expected 1400, actual 1300"),
        (
            "link set eth0 type vlan id 10 loose_binding on",
            "link set eth0 type vlan id 10 loose_binding off",
            "VLAN flags of eth0: expected reorder_hdr, actual reorder_hdr loose_binding",
        ),
        (
            "link set eth0 type vlan id 10 ingress-qos-map 1:4",
            "link set eth0 type vlan id 10 ingress-qos-map 1:3",
            "ingress QoS map of eth0: expected 1:3, actual 1:4",
        ),
        ("route del default", "route add default via 10.10.10.2", "route 0.0.0.0/0"),
    ] {
        ip::script(Some("c1"), change)?;
        let error = check(room, "vlan", &container, &config, &result)?.error()?;
        ensure!(error.msg.contains(text), "{change}: expected {text:?} in {error}");
        ip::script(Some("c1"), back)?;
        check(room, "vlan", &container, &config, &result)?.silent().with_context(|| back.to_owned())?;
    }
    ip::script(None, "link add other0 type veth peer name other1\n link set other0 up\n link set other1 up")?;
    for (keys, text) in [
        (json!({"master": "other0"}), "master of eth0: expected other0, actual wan0"),
        (json!({"vlanId": 11}), "VLAN ID of eth0: expected 11, actual 10"),
        (json!({"protocol": "802.1ad"}), "VLAN protocol of eth0: expected 802.1ad, actual 802.1q"),
    ] {
        let error = check(room, "vlan", &container, &with(&config, keys), &result)?.error()?;
        ensure!(error.msg.contains(text), "expected {text:?} in {error}");
    }
    ip::run_in("c1", &["link", "del", "eth0"])?;
    let error = check(room, "vlan", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("interface eth0: expected present, actual missing"), "{error}");
    ip::run(&["link", "del", "wan0"])?;
    let error = check(room, "vlan", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("failed to lookup master \"wan0\""), "{error}");
    Ok(())
}

/// One link for each VLAN of a master, in all namespaces together: who has it is in the error.
fn taken(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let (first, _) = add(room, "vlan", "c1", &vlan(json!({})))?;
    let second = room.container("c2")?;
    refused(room, "vlan", &second, &vlan(json!({})), "\"eth0\" of container c1 in network lan")?;
    ip::script(
        None,
        "link add link wan0 name v20 type vlan id 20
         link add link wan0 name v30 type vlan id 30
         link set v30 netns outside",
    )?;
    for (id, text) in [(20, "\"v20\" of the host"), (30, "\"v30\" of another namespace")] {
        refused(room, "vlan", &second, &vlan(json!({"vlanId": id})), text)?;
    }
    // The same number in the other protocol is another VLAN.
    let provider = vlan(json!({"protocol": "802.1ad"}));
    room.attach("vlan", "ADD", &second).config(&provider).run()?.result()?;
    room.attach("vlan", "DEL", &second).config(&provider).run()?.silent()?;
    room.attach("vlan", "DEL", &first).config(&vlan(json!({}))).run()?.silent()?;
    room.attach("vlan", "ADD", &second).config(&vlan(json!({}))).run()?.result().map(drop)
}

fn same_name(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    ip::run(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"])?;
    let before = room.snapshot()?;
    let (container, result) = add(room, "vlan", "c1", &vlan(json!({})))?;
    ensure!(reaches(room, Some("c1"), &vlan_gateway(10))?);
    check(room, "vlan", &container, &vlan(json!({})), &result)?.silent()?;
    // The container has the name now.
    refused(room, "vlan", &container, &vlan(json!({"vlanId": 11})), "file exists")?;
    room.attach("vlan", "DEL", &container).config(&vlan(json!({}))).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn master_down(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    ip::run(&["link", "set", "wan0", "down"])?;
    let container = room.container("c1")?;
    let text = "master \"wan0\" is down: no packet passes until it is up";
    let (error, _) = refusal(room, "vlan", &container, &vlan(json!({})), text)?;
    ensure!(error.code == 11, "{error}");
    let config = vlan(json!({"looseBinding": true}));
    let answer = room.attach("vlan", "ADD", &container).config(&config).run()?;
    let result = answer.result()?;
    ensure!(answer.stderr.contains("master \"wan0\" is down"), "stderr was {:?}", answer.stderr);
    let wan0 = ip::link(None, "wan0")?.context("no wan0")?;
    ensure!(!wan0["flags"].to_string().contains("\"UP\""), "an administrator's link was set up: {wan0}");
    ip::run(&["link", "set", "wan0", "up"])?;
    until("the gateway is reached", || Ok(reaches(room, Some("c1"), &vlan_gateway(10)).unwrap_or(false)))?;
    check(room, "vlan", &container, &config, &result)?.silent()
}

fn stale_neighbour(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let addresses = ["10.10.10.10", "fd00:10::10"];
    outside_caches_another(room, "eth0.10", &addresses)?;
    add(room, "vlan", "c1", &vlan(json!({})))?;
    for address in addresses {
        room.inside("outside", || socket::reach(address.parse()?, Duration::from_secs(1)))
            .with_context(|| format!("packets to {address} went to the old MAC"))?;
    }
    Ok(())
}

fn conflict(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    ip::run_in("outside", &["addr", "add", "10.10.10.10/24", "dev", "eth0.10"])?;
    let mac = ip::link(Some("outside"), "eth0.10")?.context("no eth0.10")?;
    let mac = mac["address"].as_str().unwrap_or_default();
    let container = room.container("c1")?;
    let config = vlan(json!({"detectConflict": {"timeoutMs": 3000}}));
    let (error, _) = refusal(room, "vlan", &container, &config, "10.10.10.10/24")?;
    ensure!(error.code == 11 && error.msg.contains(mac), "{mac} is not named: {error}");
    let again = vlan(json!({"detectConflict": {"timeoutMs": 3000, "attempts": 2}}));
    store::forget("/var/lib/cni/networks/lan")?;
    let result = room.attach("vlan", "ADD", &container).config(&again).run()?.result()?;
    ensure!(result["ips"][0]["address"] == "10.10.10.11/24", "{result}");
    Ok(())
}

/// DEL for each state of the container's namespace, with the result of ADD and without, twice.
fn del_matrix(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let ipam = json!({"type": "host-local", "subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10"});
    let config = |id: u32| lan("vlan", &json!({"vlanId": id, "ipam": ipam}));
    // The network's directory exists before, so that only objects of the attachment can be left
    // over.
    add(room, "vlan", "first", &config(1))?;
    let states = [("fine", true), ("fine", false), ("unset", true), ("gone", false), ("plain file", true)];
    for ((state, prev), vlan) in states.into_iter().zip(10..) {
        let id = format!("{}-{prev}", state.replace(' ', "-"));
        let before = room.snapshot()?;
        let (container, result) = add(room, "vlan", &id, &config(vlan))?;
        if matches!(state, "gone" | "plain file") {
            room.remove(&container)?;
        }
        if state == "plain file" {
            File::create(&container.path)?;
        }
        let config = with(&config(vlan), json!({"prevResult": if prev { result } else { json!(null) }}));
        for time in ["once", "twice"] {
            let call = room.attach("vlan", "DEL", &container).config(&config);
            let call = if state == "unset" { call.env("CNI_NETNS", "") } else { call };
            call.run()?.silent().with_context(|| format!("{state}, prevResult {prev}, {time}"))?;
            room.ensure_nothing_left(&before, &[&id])?;
            if state == "fine" {
                ensure!(ip::link(Some(&id), "eth0")?.is_none(), "the link is still there");
            }
        }
    }
    Ok(())
}

fn del_references(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    let config = lan("vlan", &json!({"vlanId": 10}));
    // As the reference makes it: under another name, then renamed, without a label.
    ip::run(&["link", "add", "link", "wan0", "name", "temp0", "type", "vlan", "id", "10"])?;
    ip::script(None, "link set temp0 netns c1 name eth0")?;
    let broken = with(&config, json!({"master": "gone0", "vlanId": "x"}));
    room.attach("vlan", "DEL", &container).config(&broken).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the reference's link is still there");
    // A link of another kind, and another attachment's, stay.
    ip::run_in("c1", &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"])?;
    let call = room.attach("vlan", "ADD", &container).env("CNI_IFNAME", "net1");
    call.config(&with(&config, json!({"name": "other", "enabledad": false}))).run()?.result()?;
    room.attach("vlan", "DEL", &container).config(&config).run()?.silent()?;
    let left = ip::links(Some("c1"))?;
    ensure!(["eth0", "eth1", "net1"].iter().all(|name| left.iter().any(|link| link == name)), "{left:?}");
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = |id: u32| lan("vlan", &json!({"vlanId": id, "enabledad": false, "cniVersion": "1.1.0"}));
    add(room, "vlan", "c1", &config(10))?;
    let (gone, _) = add(room, "vlan", "c2", &config(20))?;
    room.remove(&gone)?;
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]});
    room.call("vlan", "GC").config(&with(&config(10), valid)).run()?.silent()?;
    let left = store::addresses("/var/lib/cni/networks/lan")?;
    ensure!(left == harness::stage::lan::addresses(0), "leases after GC: {left:?}");
    ensure!(ip::link(Some("c1"), "eth0")?.is_some(), "GC broke a valid attachment");
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("vlan", &json!({"vlanId": 10, "cniVersion": "1.1.0"}));
    let ask = |config: &Value| room.call("vlan", "STATUS").config(config).run();
    ask(&config)?.silent()?;
    ask(&with(&config, json!({"master": "none0"})))?.error_with(50, "none0")?;
    ask(&with(&config, json!({"master": "lo"})))?.error_with(50, "loopback")?;
    ask(&with(&config, json!({"ipam": null})))?.error_with(999, "no plugin name provided")?;
    // A master of the container is not known here.
    ask(&with(&config, json!({"master": "none0", "linkInContainer": true})))?.silent()?;
    ip::run(&["link", "set", "wan0", "down"])?;
    ask(&config)?.error_with(50, "master \"wan0\" is down").map(drop)
}
