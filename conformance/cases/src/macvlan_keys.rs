//! macvlan: the effect of each key, results, and refusals before any change.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::need::Need;
use harness::patience::ensure_prompt;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::lan::{add, addresses, check, lan, outside, reaches, refused};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("macvlan/link_and_result_are_as_configured", &["MV-K3", "MV-K5", "MV-1"], link_and_result),
    Case::new("macvlan/del_removes_the_references_link", &["MV-5"], mixed).needs(&[Need::Reference]),
    Case::new("macvlan/a_host_link_of_the_same_name_does_not_conflict", &["MV-4"], host_name),
    Case::new("macvlan/default_master_is_the_link_of_the_default_route", &["MV-K1"], default_master),
    Case::new("macvlan/link_in_container", &["MV-K6"], in_container),
    Case::new("macvlan/layer_2", &["C-065", "MV-K7", "MV-B2"], layer2),
    Case::new("macvlan/mac_precedence", &["MV-K4"], mac),
    Case::new("macvlan/invalid_config_is_refused_before_any_change", &["MV-K3"], faults),
    Case::new("macvlan/status_fails_unless_the_master_exists_and_is_up", &["C-044", "MV-B6"], status),
    Case::new("macvlan/add_does_not_wait_for_a_masters_carrier", &["LK-3"], no_carrier),
];

fn layer2_config() -> Value {
    json!({"cniVersion": harness::config::USUAL, "name": "lan", "type": "macvlan", "master": "wan0"})
}

fn eth0(ns: &str) -> Result<Value> {
    ip::link(Some(ns), "eth0")?.with_context(|| format!("no eth0 in {ns}"))
}

fn link_and_result(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let keys = json!({"mtu": 1400, "bcqueuelen": 2000, "dns": {"nameservers": ["192.0.2.53"]}});
    let before = room.snapshot()?;
    let (container, result) = add(room, "macvlan", "c1", &lan("macvlan", &keys))?;
    let link = eth0("c1")?;
    ensure!(link["mtu"] == 1400 && link["linkinfo"]["info_kind"] == "macvlan", "{link}");
    ensure!(link["linkinfo"]["info_data"]["bcqueuelen"] == 2000, "{link}");
    let expected = json!([{"name": "eth0", "mac": link["address"], "sandbox": container.path}]);
    ensure!(result["interfaces"] == expected, "{result}");
    ensure!(result["dns"] == json!({"nameservers": ["192.0.2.53"]}), "{result}");
    for (nth, address) in addresses(0).iter().enumerate() {
        let ip = &result["ips"][nth];
        ensure!(ip["interface"] == 0, "{ip}");
        ensure!(ip["address"].as_str().is_some_and(|text| text.starts_with(&format!("{address}/"))), "{ip}");
    }
    for (path, value) in [("ipv4/conf/eth0/arp_notify", "1"), ("ipv6/conf/eth0/ndisc_notify", "1")] {
        ensure!(room.sysctl("c1", &format!("net/{path}"))? == value, "{path}");
    }
    // Nothing on the host but the lease.
    room.attach("macvlan", "DEL", &container).config(&lan("macvlan", &keys)).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn mixed(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let config = lan("macvlan", &json!({}));
    let call = Call::new(room, room.reference.join("macvlan")).env("CNI_COMMAND", "ADD");
    let call = call.env("CNI_PATH", &room.reference).env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0");
    let result = call.env("CNI_NETNS", &container.path).config(&config).run()?.result()?;
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    room.attach("macvlan", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the reference's link is still there");
    room.ensure_nothing_left(&before, &["c1"])
}

fn host_name(room: &Room) -> Result<()> {
    room.outside(&[])?;
    // Before Linux 6.15 the kernel looks for a new link's name in the namespace of the requesting
    // process.
    ip::script(None, "link add eth0 type veth peer name other0")?;
    add(room, "macvlan", "c1", &layer2_config())?;
    ensure!(ip::link(None, "eth0")?.context("the host's eth0")?["linkinfo"]["info_kind"] == "veth");
    // The master may have the same name too.
    ip::script(None, "link set eth0 up\n link set other0 up")?;
    add(room, "macvlan", "c2", &with(&layer2_config(), json!({"master": "eth0"})))?;
    ensure!(eth0("c2")?["linkinfo"]["info_kind"] == "macvlan");
    Ok(())
}

fn default_master(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({"master": null, "enabledad": false}));
    let container = room.container("c1")?;
    refused(room, "macvlan", &container, &config, "no default route interface found")?;
    ip::run(&["route", "add", "default", "via", "198.51.100.2"])?;
    let result = room.attach("macvlan", "ADD", &container).config(&config).run()?.result()?;
    ensure!(reaches(room, Some("c1"), &outside())?);
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    ip::run(&["route", "del", "default"])?;
    room.attach("macvlan", "DEL", &container).config(&config).run()?.silent()
}

fn in_container(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    let config = lan("macvlan", &json!({"master": "net1", "linkInContainer": true, "enabledad": false}));
    refused(room, "macvlan", &container, &config, "failed to lookup master \"net1\": Link not found")?;
    ip::run_in("outside", &["link", "add", "net1", "type", "veth", "peer", "name", "net2"])?;
    ip::run_in("outside", &["link", "set", "net1", "netns", "c1"])?;
    ip::script(
        Some("outside"),
        "addr flush dev eth0
         link set net2 up
         addr add 198.51.100.2/24 dev net2
         -6 addr add 2001:db8:ff::2/64 dev net2 nodad",
    )?;
    ip::run_in("c1", &["link", "set", "net1", "up"])?;
    let result = room.attach("macvlan", "ADD", &container).config(&config).run()?.result()?;
    ensure!(eth0("c1")?["link"] == "net1", "{}", eth0("c1")?);
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    ensure!(ip::addresses(Some("c1"), "eth0")?.len() == 2);
    room.attach("macvlan", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ip::links(Some("c1"))? == ["lo", "net1"], "{:?}", ip::links(Some("c1"))?);
    Ok(())
}

fn layer2(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let (container, result) = add(room, "macvlan", "c1", &layer2_config())?;
    ensure!(result["ips"].as_array().is_none_or(Vec::is_empty), "{result}");
    ensure!(eth0("c1")?["flags"].to_string().contains("UP"), "{}", eth0("c1")?);
    check(room, "macvlan", &container, &layer2_config(), &result)?.silent()?;
    room.attach("macvlan", "DEL", &container).config(&layer2_config()).run()?.silent()?;
    room.ensure_unchanged(&before, "layer 2 left something on the host")?;
    // Results of these versions need an address (C-062).
    let old = with(&layer2_config(), json!({"cniVersion": "0.2.0"}));
    refused(room, "macvlan", &container, &old, "cannot convert: no valid IP addresses")
}

fn mac(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let all = with(
        &layer2_config(),
        json!({"mac": "0a00.0000.0003", "runtimeConfig": {"mac": "0A:00:00:00:00:01"}}),
    );
    let config = with(&layer2_config(), json!({"mac": "0a00.0000.0003"}));
    let args = "IgnoreUnknown=1;MAC=0a-00-00-00-00-02";
    for (id, config, args, expected) in
        [("c1", &all, args, 1), ("c2", &config, args, 2), ("c3", &config, "IgnoreUnknown=1", 3)]
    {
        let container = room.container(id)?;
        let call = room.attach("macvlan", "ADD", &container).env("CNI_ARGS", args).config(config);
        let result = call.run()?.result()?;
        let expected = format!("0a:00:00:00:00:0{expected}");
        ensure!(result["interfaces"][0]["mac"] == expected, "{id}: {result}");
        ensure!(eth0(id)?["address"] == expected, "{id}: {}", eth0(id)?);
    }
    Ok(())
}

fn faults(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::script(
        None,
        "link add br0 type bridge
         link add port0 type veth peer name port1
         link set port0 master br0",
    )?;
    let container = room.container("c1")?;
    for (keys, text) in [
        (json!({"master": "none0"}), "failed to lookup master \"none0\": Link not found"),
        (json!({"master": "abcdefghijklmno.10"}), "Link not found"),
        (json!({"master": "lo"}), "master \"lo\" is loopback"),
        (json!({"master": "port0"}), "master \"port0\" is a port of the bridge \"br0\""),
        (json!({"mode": "l2"}), "unknown macvlan mode: \"l2\""),
        (json!({"mtu": 1501}), "invalid MTU 1501, must be [0, master MTU(1500)]"),
        (json!({"mtu": -1}), "invalid MTU -1, must be [0, master MTU(1500)]"),
        (json!({"mac": "zz"}), "invalid args zz for MAC addr"),
        (json!({"mac": "01:00:5e:00:00:01"}), "multicast"),
        (json!({"mode": "source"}), "sourceMacs"),
    ] {
        refused(room, "macvlan", &container, &lan("macvlan", &keys), text)
            .with_context(|| keys.to_string())?;
    }
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = with(&lan("macvlan", &json!({})), json!({"cniVersion": "1.1.0"}));
    let ask = |config: &Value| room.call("macvlan", "STATUS").config(config).run();
    ask(&config)?.silent()?;
    ask(&with(&config, json!({"master": "none0"})))?.error_with(50, "none0")?;
    ip::run(&["link", "set", "wan0", "down"])?;
    ask(&config)?.error_with(50, "master \"wan0\" is down")?;
    ask(&with(&config, json!({"linkInContainer": true, "master": "net1"})))?.silent()
}

fn no_carrier(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::run_in("outside", &["link", "set", "eth0", "down"])?;
    let container = room.container("c1")?;
    let config = lan("macvlan", &json!({}));
    let answer = room.attach("macvlan", "ADD", &container).config(&config).run()?;
    let result = answer.result()?;
    ensure_prompt("ADD", answer.took, Duration::from_millis(900))?;
    check(room, "macvlan", &container, &config, &result)?.silent()
}
