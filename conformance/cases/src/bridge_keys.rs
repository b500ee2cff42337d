//! bridge: the effect of each key.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, layer2, with};
use harness::ip;
use harness::namespace::Container;
use harness::room::Room;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("bridge/default_name_is_cni0_and_empty_is_refused", &["BR-K1"], name),
    Case::new("bridge/a_link_that_is_not_a_bridge_is_refused", &["BR-K1"], no_bridge),
    Case::new("bridge/mtu_applies_to_both_ends_and_a_new_bridge", &["BR-K7"], mtu),
    Case::new("bridge/mtu_auto_is_that_of_the_default_route", &["BR-K20"], mtu_auto),
    Case::new("bridge/port_flags", &["BR-K8"], port_flags),
    Case::new("bridge/promiscuous_mode", &["BR-K9"], promiscuous),
    Case::new("bridge/mac_precedence_and_syntax", &["C-101", "BR-K19"], mac),
    Case::new(
        "bridge/contradictory_keys_are_refused_before_any_change",
        &["BR-K8", "BR-B10"],
        contradictions,
    ),
    Case::new("bridge/vlan_values_are_validated", &["BR-K10", "BR-K11"], vlan_values),
    Case::new("bridge/disabled_container_interface_stays_down", &["BR-K15"], disabled),
    Case::new("bridge/dns_overrides_that_of_ipam", &["BR-K18"], dns),
];

/// Runs an ADD that must succeed.
pub fn add(room: &Room, container: &Container, config: &Value) -> Result<Value> {
    room.attach("bridge", "ADD", container).config(config).run()?.result()
}

/// Returns a link that must exist.
pub fn link(ns: Option<&str>, name: &str) -> Result<Value> {
    ip::link(ns, name)?.with_context(|| format!("no link {name}"))
}

/// Returns the name of the host end from the result.
fn host_end(result: &Value) -> Result<Value> {
    link(None, result["interfaces"][1]["name"].as_str().context("no host end in the result")?)
}

fn name(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let mut config = layer2(USUAL);
    config.as_object_mut().map(|map| map.remove("bridge"));
    add(room, &container, &config)?;
    ensure!(link(None, "cni0")?["linkinfo"]["info_kind"] == "bridge");
    let container = room.container("c2")?;
    let before = room.snapshot()?;
    let call = room.attach("bridge", "ADD", &container).config(&with(&config, json!({"bridge": ""})));
    call.run()?.refused("")?;
    room.ensure_unchanged(&before, "an empty name made something")
}

fn no_bridge(room: &Room) -> Result<()> {
    ip::run(&["link", "add", "br0", "type", "veth", "peer", "name", "other0"])?;
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    for (name, text) in [
        ("br0", "\"br0\" already exists but is not a bridge"),
        ("lo", "\"lo\" already exists but is not a bridge"),
    ] {
        let call =
            room.attach("bridge", "ADD", &container).config(&with(&bridge(USUAL), json!({"bridge": name})));
        call.run()?.error_with(999, text)?;
        room.attach("bridge", "DEL", &container)
            .config(&with(&bridge(USUAL), json!({"bridge": name})))
            .run()?
            .silent()?;
        room.ensure_nothing_left(&before, &["c1"])?;
    }
    ensure!(ip::link(None, "br0")?.is_some(), "ADD deleted a foreign veth");
    Ok(())
}

fn mtu(room: &Room) -> Result<()> {
    for (id, mtu, expected) in [
        ("c1", json!(1400), 1400),
        ("c2", json!(1280), 1280),
        ("c3", json!(0), 1500),
        ("c4", json!(-5), 1500),
    ] {
        let container = room.container(id)?;
        let result = add(room, &container, &with(&bridge(USUAL), json!({"mtu": mtu})))?;
        ensure!(
            link(Some(id), "eth0")?["mtu"] == expected,
            "container end: {}",
            link(Some(id), "eth0")?["mtu"]
        );
        ensure!(host_end(&result)?["mtu"] == expected, "host end: {}", host_end(&result)?["mtu"]);
    }
    let container = room.container("c5")?;
    add(room, &container, &with(&bridge(USUAL), json!({"mtu": 1350, "bridge": "br5", "name": "net5"})))?;
    ensure!(link(None, "br5")?["mtu"] == 1350, "a new bridge gets the MTU");
    Ok(())
}

fn mtu_auto(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::script(None, "link set wan0 mtu 1420\n route add default via 198.51.100.2")?;
    let container = room.container("c1")?;
    let result = add(room, &container, &with(&bridge(USUAL), json!({"mtu": "auto"})))?;
    ensure!(link(Some("c1"), "eth0")?["mtu"] == 1420, "container end: {}", link(Some("c1"), "eth0")?["mtu"]);
    ensure!(host_end(&result)?["mtu"] == 1420, "host end: {}", host_end(&result)?["mtu"]);
    let call = room
        .attach("bridge", "ADD", &room.container("c2")?)
        .config(&with(&bridge(USUAL), json!({"mtu": "large"})));
    call.run()?.refused("")?;
    Ok(())
}

fn port_flags(room: &Room) -> Result<()> {
    for (id, keys, hairpin, isolated) in [
        ("c1", json!({}), false, false),
        ("c2", json!({"hairpinMode": true}), true, false),
        ("c3", json!({"portIsolation": true}), false, true),
    ] {
        let container = room.container(id)?;
        let result = add(room, &container, &with(&layer2(USUAL), keys))?;
        let port = host_end(&result)?;
        let data = &port["linkinfo"]["info_slave_data"];
        ensure!(port["master"] == "br0", "{id}: master {}", port["master"]);
        ensure!(data["hairpin"] == hairpin && data["isolated"] == isolated, "{id}: {data}");
    }
    Ok(())
}

fn promiscuous(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    add(room, &container, &with(&layer2(USUAL), json!({"promiscMode": true})))?;
    let flags = link(None, "br0")?;
    ensure!(
        flags["promiscuity"] != 0 && flags["flags"].to_string().contains("PROMISC"),
        "{}",
        flags["flags"]
    );
    Ok(())
}

fn mac(room: &Room) -> Result<()> {
    let config = with(
        &layer2(USUAL),
        json!({"runtimeConfig": {"mac": "0a:00:00:00:00:01"}, "args": {"cni": {"mac": "0a:00:00:00:00:02"}}}),
    );
    let env = "IgnoreUnknown=1;MAC=0A-00-00-00-00-03";
    let without = |config: &Value, key: &str| with(config, json!({ key: null }));
    let second = without(&config, "runtimeConfig");
    let third = without(&second, "args");
    for (id, config, expected) in [("c1", &config, 1), ("c2", &second, 2), ("c3", &third, 3)] {
        let container = room.container(id)?;
        let call = room.attach("bridge", "ADD", &container).env("CNI_ARGS", env).config(config);
        let result = call.run()?.result()?;
        let expected = format!("0a:00:00:00:00:0{expected}");
        ensure!(result["interfaces"][2]["mac"] == expected, "{id}: {}", result["interfaces"][2]);
        ensure!(
            link(Some(id), "eth0")?["address"] == expected,
            "{id}: the link has another MAC than the result"
        );
    }
    let container = room.container("c4")?;
    let before = room.snapshot()?;
    for bad in [
        "zz",
        "0a:00:00:00:00",
        "0a:00:00:00:00:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "01:00:00:00:00:01",
        "00:00:00:00:00:00",
    ] {
        let config = with(&layer2(USUAL), json!({"runtimeConfig": {"mac": bad}}));
        room.attach("bridge", "ADD", &container)
            .config(&config)
            .run()?
            .refused("")
            .with_context(|| bad.to_owned())?;
        room.ensure_nothing_left(&before, &["c4"]).with_context(|| bad.to_owned())?;
    }
    Ok(())
}

fn contradictions(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    for (keys, text) in [
        (
            json!({"hairpinMode": true, "promiscMode": true}),
            "cannot set hairpin mode and promiscuous mode at the same time",
        ),
        (
            json!({"disableContainerInterface": true}),
            "cannot use IPAM when DisableContainerInterface flag is set",
        ),
    ] {
        let call = room.attach("bridge", "ADD", &container).config(&with(&bridge(USUAL), keys));
        call.run()?.refused(text)?;
        room.ensure_unchanged(&before, text)?;
    }
    Ok(())
}

fn vlan_values(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    for (keys, text) in [
        (json!({"vlan": 5000}), "invalid VLAN ID 5000 (must be between 0 and 4094)"),
        (json!({"vlan": -1}), "invalid VLAN ID -1 (must be between 0 and 4094)"),
        (
            json!({"vlanTrunk": [{"minID": 5}]}),
            "minID and maxID should be configured simultaneously, maxID is missing",
        ),
        (
            json!({"vlanTrunk": [{"maxID": 5}]}),
            "minID and maxID should be configured simultaneously, minID is missing",
        ),
        (json!({"vlanTrunk": [{"minID": 0, "maxID": 5}]}), "incorrect trunk minID parameter"),
        (json!({"vlanTrunk": [{"minID": 5, "maxID": 4095}]}), "incorrect trunk maxID parameter"),
        (json!({"vlanTrunk": [{"minID": 9, "maxID": 5}]}), "minID is greater than maxID in trunk parameter"),
        (json!({"vlanTrunk": [{"id": 0}]}), "incorrect trunk id parameter"),
        (json!({"vlanTrunk": [{"id": 4095}]}), "incorrect trunk id parameter"),
    ] {
        let call = room.attach("bridge", "ADD", &container).config(&with(&layer2(USUAL), keys.clone()));
        call.run()?.refused(text).with_context(|| keys.to_string())?;
        room.ensure_unchanged(&before, text)?;
    }
    Ok(())
}

fn disabled(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = with(&layer2(USUAL), json!({"disableContainerInterface": true}));
    let result = add(room, &container, &config)?;
    let flags = link(Some("c1"), "eth0")?["flags"].to_string();
    ensure!(!flags.contains("\"UP\""), "the container's end is up: {flags}");
    let checked = with(&config, json!({"prevResult": result}));
    room.attach("bridge", "CHECK", &container).config(&checked).run()?.silent()?;
    room.attach("bridge", "DEL", &container).config(&config).run()?.silent()
}

fn dns(room: &Room) -> Result<()> {
    let resolv = room.write("resolv.conf", "nameserver 10.9.9.9\nsearch ipam.example\n")?;
    let ipam = json!({"type": "host-local", "subnet": "10.1.2.0/24", "resolvConf": resolv});
    let config = with(&bridge(USUAL), json!({"ipam": ipam}));
    let of_ipam = json!({"nameservers": ["10.9.9.9"], "search": ["ipam.example"]});
    for (id, dns, expected) in [
        ("c1", json!(null), of_ipam.clone()),
        ("c2", json!({}), of_ipam),
        ("c3", json!({"domain": "own.example"}), json!({"domain": "own.example"})),
        (
            "c4",
            json!({"nameservers": ["10.1.2.1"], "options": ["ndots:5"]}),
            json!({"nameservers": ["10.1.2.1"], "options": ["ndots:5"]}),
        ),
    ] {
        let container = room.container(id)?;
        let result = add(room, &container, &with(&config, json!({"dns": dns})))?;
        ensure!(result["dns"] == expected, "{id}: {}", result["dns"]);
    }
    // An empty list counts as present, so it overrides the servers of IPAM.
    let result = add(room, &room.container("c5")?, &with(&config, json!({"dns": {"nameservers": []}})))?;
    ensure!(result["dns"]["nameservers"].is_null() && result["dns"]["search"].is_null(), "{}", result["dns"]);
    Ok(())
}
