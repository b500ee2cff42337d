//! ipvlan. Cases that create a link need a kernel with CONFIG_IPVLAN.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{add, check, lan, refused};
use harness::{ip, socket, store};
use serde_json::{Value, json};

const IPVLAN: &[Need] = &[Need::Ipvlan];

pub const CASES: &[Case] = &[
    Case::new("ipvlan/link_and_result_are_as_configured", &["IV-K1", "IV-1"], link_and_result).needs(IPVLAN),
    Case::new(
        "ipvlan/a_chained_plugin_takes_master_and_addresses_from_prev_result",
        &["IV-K1", "IV-2"],
        chained,
    )
    .needs(IPVLAN),
    Case::new("ipvlan/check_needs_no_master_key_and_names_drifts", &["IV-B1"], drifts).needs(IPVLAN),
    Case::new("ipvlan/a_master_of_macvlan_is_refused", &["IV-B4"], shared_master).needs(IPVLAN),
    Case::new("ipvlan/del_succeeds_without_a_master", &["C-042", "IV-B2"], del_master),
    Case::new("ipvlan/invalid_config_is_refused_before_any_change", &["IV-K3"], faults),
    Case::new("ipvlan/status_fails_unless_the_master_exists_and_is_up", &["C-044", "IV-B5"], status)
        .needs(IPVLAN),
];

fn link_and_result(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let config = lan("ipvlan", &json!({"mtu": 1400, "mode": "l2", "dns": {"search": ["example.org"]}}));
    let (container, result) = add(room, "ipvlan", "c1", &config)?;
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    let data = &link["linkinfo"]["info_data"];
    ensure!(link["mtu"] == 1400 && data["mode"] == "l2", "{link}");
    let master = ip::link(None, "wan0")?.context("no wan0")?;
    let expected = json!([{"name": "eth0", "mac": master["address"], "sandbox": container.path}]);
    ensure!(result["interfaces"] == expected, "{result}");
    ensure!(result["dns"] == json!({"search": ["example.org"]}), "{result}");
    let indices = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["interface"]);
    ensure!(indices.clone().count() == 2 && indices.clone().all(|index| *index == 0), "{result}");
    room.attach("ipvlan", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the link is still there");
    room.ensure_nothing_left(&before, &["c1"])
}

fn chained(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let previous = json!({
        "cniVersion": harness::config::USUAL, "interfaces": [{"name": "wan0"}],
        "ips": [{"address": "198.51.100.77/24", "gateway": "198.51.100.2", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let config = lan("ipvlan", &json!({"master": null, "ipam": null, "prevResult": previous}));
    let (container, result) = add(room, "ipvlan", "c1", &config)?;
    ensure!(result["interfaces"].as_array().map(Vec::len) == Some(1), "{result}");
    ensure!(result["interfaces"][0]["name"] == "eth0", "{result}");
    ensure!(
        result["ips"][0]["address"] == "198.51.100.77/24" && result["ips"][0]["interface"] == 0,
        "{result}"
    );
    ensure!(ip::addresses(Some("c1"), "eth0")? == ["198.51.100.77/24"]);
    room.inside("c1", || socket::reach("198.51.100.2".parse()?, Duration::from_secs(1)))?;
    check(room, "ipvlan", &container, &config, &result)?.silent()?;
    // The final result of a chain has more interfaces than the master's.
    let more = with(&result, json!({"interfaces": [{"name": "a"}, {"name": "b"}]}));
    room.attach("ipvlan", "DEL", &container)
        .config(&with(&config, json!({"prevResult": more})))
        .run()?
        .silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the link is still there");
    Ok(())
}

fn drifts(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::run(&["route", "add", "default", "via", "198.51.100.2"])?;
    let config = lan("ipvlan", &json!({"master": null, "mtu": 1400}));
    let (container, result) = add(room, "ipvlan", "c1", &config)?;
    ip::run(&["route", "del", "default"])?;
    check(room, "ipvlan", &container, &config, &result)?.silent()?;
    for (change, back, text) in [
        ("link set eth0 mtu 1300", "link set eth0 mtu 1400", "MTU of eth0: expected 1400, actual 1300"),
        (
            "link set eth0 type ipvlan mode l2 private",
            "link set eth0 type ipvlan mode l2 bridge",
            "ipvlan mode of eth0: expected l2 bridge, actual l2 private",
        ),
        ("route del default", "route add default via 198.51.100.2", "route 0.0.0.0/0"),
    ] {
        ip::script(Some("c1"), change)?;
        let error = check(room, "ipvlan", &container, &config, &result)?.error()?;
        ensure!(error.msg.contains(text), "{change}: expected {text:?} in {error}");
        ip::script(Some("c1"), back)?;
        check(room, "ipvlan", &container, &config, &result)?.silent().with_context(|| back.to_owned())?;
    }
    ip::script(None, "link add other0 type veth peer name other1\n link set other0 up\n link set other1 up")?;
    let moved = with(&config, json!({"master": "other0"}));
    let error = check(room, "ipvlan", &container, &moved, &result)?.error()?;
    ensure!(error.msg.contains("master of eth0: expected other0, actual wan0"), "{error}");
    ip::run_in("c1", &["link", "del", "eth0"])?;
    let error = check(room, "ipvlan", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("interface eth0: expected present, actual missing"), "{error}");
    Ok(())
}

fn shared_master(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let text = "macvlan and ipvlan do not share a master";
    let container = room.container("c1")?;
    let (ipvlan, _) = add(room, "ipvlan", "c2", &lan("ipvlan", &json!({"enabledad": false})))?;
    refused(room, "macvlan", &container, &lan("macvlan", &json!({})), text)?;
    room.attach("ipvlan", "DEL", &ipvlan).config(&lan("ipvlan", &json!({}))).run()?.silent()?;
    add(room, "macvlan", "c3", &lan("macvlan", &json!({"enabledad": false})))?;
    refused(room, "ipvlan", &container, &lan("ipvlan", &json!({})), text)
}

fn del_master(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let two = json!({"cniVersion": harness::config::USUAL, "interfaces": [{"name": "a"}, {"name": "b"}]});
    for keys in [
        json!({"master": null}),
        json!({"master": "gone0"}),
        json!({"master": null, "prevResult": two}),
        json!({"mode": "no such", "mtu": "x", "master": 5}),
    ] {
        // A lease that DEL must find in any case.
        store::write("/var/lib/cni/networks/lan", "198.51.100.10", &store::content("c1", "eth0"))?;
        let config = lan("ipvlan", &keys);
        room.attach("ipvlan", "DEL", &container)
            .config(&config)
            .run()?
            .silent()
            .with_context(|| keys.to_string())?;
        room.ensure_nothing_left(&before, &["c1"])?;
    }
    Ok(())
}

fn faults(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    let previous = |interfaces: Value, ips: Value| json!({"cniVersion": harness::config::USUAL, "interfaces": interfaces, "ips": ips});
    let ips = json!([{"address": "198.51.100.77/24"}]);
    for (keys, text) in [
        (json!({"master": "none0"}), "failed to lookup master \"none0\": Link not found"),
        (json!({"master": null}), "no default route interface found"),
        (json!({"master": "lo"}), "master \"lo\" is loopback"),
        (json!({"mode": "bridge"}), "unknown ipvlan mode: \"bridge\""),
        (json!({"flag": "x"}), "unknown ipvlan flag: \"x\""),
        (json!({"mtu": 1501}), "invalid MTU 1501, must be [0, master MTU(1500)]"),
        (json!({"ipam": null}), "no plugin name provided"),
        (json!({"ipam": null, "prevResult": previous(json!([]), json!([]))}), "no plugin name provided"),
        (
            json!({"ipam": null, "master": null, "prevResult": previous(json!([]), ips)}),
            "chained master failure. PrevResult lacks a single named interface",
        ),
    ] {
        refused(room, "ipvlan", &container, &lan("ipvlan", &keys), text).with_context(|| keys.to_string())?;
    }
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = with(&lan("ipvlan", &json!({})), json!({"cniVersion": "1.1.0"}));
    let ask = |config: &Value| room.call("ipvlan", "STATUS").config(config).run();
    ask(&config)?.silent()?;
    ask(&with(&config, json!({"master": "none0"})))?.error_with(50, "none0")?;
    ip::run(&["link", "set", "wan0", "down"])?;
    ask(&config)?.error_with(50, "master \"wan0\" is down")?;
    // Behind another plugin there is no master to look for.
    ask(&with(&config, json!({"master": null, "ipam": null})))?.silent()
}
