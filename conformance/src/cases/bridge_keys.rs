//! bridge: what each key does (bridge.md sections 1 to 4).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{USUAL, bridge, layer2, with};
use crate::case::Case;
use crate::ip;
use crate::room::Room;
use crate::room::netns::Container;

pub const CASES: &[Case] = &[
    Case::new(
        "bridge/masquerade_and_macspoofchk_are_refused_by_name",
        &["C-070", "bridge 5", "bridge 6"],
        not_yet,
    ),
    Case::new("bridge/default_name_is_cni0_and_empty_is_refused", &["bridge 1"], name),
    Case::new("bridge/a_link_that_is_no_bridge_is_refused", &["bridge 2"], no_bridge),
    Case::new("bridge/mtu_of_both_ends_and_a_new_bridge", &["bridge 1"], mtu),
    Case::new("bridge/mtu_auto_is_that_of_the_default_route", &["bridge 1"], mtu_auto),
    Case::new("bridge/port_flags", &["bridge 1", "bridge 2.5"], port_flags),
    Case::new("bridge/promiscuous_mode", &["bridge 1"], promiscuous),
    Case::new("bridge/mac_precedence_and_syntax", &["C-101", "bridge 1"], mac),
    Case::new(
        "bridge/contradictions_are_refused_before_anything",
        &["bridge 1", "bridge 2.1"],
        contradictions,
    ),
    Case::new("bridge/vlan_values_are_validated", &["bridge 1"], vlan_values),
    Case::new("bridge/disabled_container_interface_stays_down", &["bridge 1", "bridge 2.13"], disabled),
    Case::new("bridge/dns_overrides_ipams", &["bridge 1"], dns),
    Case::new("bridge/gateway_modes", &["bridge 1", "bridge 2.8", "bridge 2.11"], gateway_modes),
    Case::new("bridge/default_route_of_ipam_is_not_added_twice", &["bridge 2.8"], default_route_once),
    Case::new("bridge/force_address_replaces_a_conflicting_one", &["bridge 4"], force_address),
    Case::new("bridge/two_ranges_of_one_family_have_two_gateways", &["bridge 4"], two_ranges),
    Case::new("bridge/gateway_on_a_bridge_without_ports", &["bridge 4"], zero_mac),
    Case::new("bridge/route_attributes_are_applied", &["bridge 3"], route_attributes),
    Case::new("bridge/container_sysctls", &["bridge 2.9", "bridge 3"], sysctls),
    Case::new("bridge/bridge_mac_stays_when_ports_come_and_go", &["bridge 4", "bridge 8"], bridge_mac),
];

fn add(room: &Room, container: &Container, config: &Value) -> Result<Value> {
    room.attach("bridge", "ADD", container).config(config).run()?.result()
}

fn link(ns: Option<&str>, name: &str) -> Result<Value> {
    ip::link(ns, name)?.with_context(|| format!("no link {name}"))
}

/// The host end, as the result names it.
fn host_end(result: &Value) -> Result<Value> {
    link(None, result["interfaces"][1]["name"].as_str().context("no host end in the result")?)
}

fn not_yet(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    for key in ["ipMasq", "macspoofchk"] {
        let mut keys = json!({});
        keys[key] = true.into();
        let call = room.attach("bridge", "ADD", &container).config(&with(&bridge(USUAL), keys.clone()));
        let error = call.run()?.error_code(2)?;
        ensure!(
            error.msg.contains(key) && error.msg.contains("true"),
            "the message holds key and value: {error}"
        );
        room.ensure_unchanged(&before, "a refused key made something")?;
        // DEL cleans all the same: the runtime may hold a configuration that a former suite accepted.
        room.attach("bridge", "DEL", &container)
            .config(&with(&bridge(USUAL), keys.clone()))
            .run()?
            .silent()?;
        keys[key] = false.into();
        add(room, &container, &with(&bridge(USUAL), keys.clone()))?;
        room.attach("bridge", "DEL", &container).config(&with(&bridge(USUAL), keys)).run()?.silent()?;
        room.ensure_nothing_left(&before, &["c1"])?;
        ip::run(&["link", "del", "br0"])?;
        std::fs::remove_dir_all("/var/lib/cni/networks").ok();
        std::fs::remove_dir_all("/run/moor").ok();
        for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/{path}"), "0")?;
        }
    }
    Ok(())
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
    ensure!(ip::link(None, "br0")?.is_some(), "somebody's veth was deleted");
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
    // An empty list is present, so IPAM's servers are gone.
    let result = add(room, &room.container("c5")?, &with(&config, json!({"dns": {"nameservers": []}})))?;
    ensure!(result["dns"]["nameservers"].is_null() && result["dns"]["search"].is_null(), "{}", result["dns"]);
    Ok(())
}

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
    // A port in use, so that the address is somebody's and not a stale one.
    ip::script(
        None,
        "link add used0 type veth peer name used1\n link set used0 master br0 up\n link set used1 up",
    )?;
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let call = room.attach("bridge", "ADD", &container).config(&bridge(USUAL));
    call.run()?.error_with(999, "already has an IP address different from 10.1.2.1/24")?;
    room.ensure_nothing_left(&before, &["c1"])?;
    ensure!(
        ip::addresses(None, "br0")?.contains(&"10.7.7.1/24".to_owned()),
        "the address of somebody was taken"
    );
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
    // A bridge whose last port has gone has the MAC 00:00:00:00:00:00, until the next port comes.
    ip::script(
        None,
        "link add br0 type bridge
         link set br0 up
         link add gone0 type veth peer name gone1
         link set gone0 master br0 up
         link del gone0",
    )?;
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
                "the result says {} but {name} has {mac}",
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
