//! bridge: VLAN keys. All cases need a kernel with bridge VLAN filtering.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, layer2, with};
use harness::diff::shown;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use serde_json::{Value, json};

const VLAN: &[Need] = &[Need::BridgeVlanFiltering];

pub const CASES: &[Case] = &[
    Case::new("bridge/vlan_keys_set_the_ports_vlans", &["BR-K10", "BR-K12"], tables).needs(VLAN),
    Case::new("bridge/vlan_keys_enable_filtering", &["BR-K21"], filtering).needs(VLAN),
    Case::new("bridge/vlan_gateway_has_its_own_interface", &["BR-4"], gateway).needs(VLAN),
    Case::new("bridge/vlan_gateway_is_shared_and_kept", &["BR-4"], shared).needs(VLAN),
    Case::new("bridge/vlan_check_compares_the_ports_vlans", &["BR-K10", "BR-K11", "BR-5"], checked)
        .needs(VLAN),
    Case::new("bridge/vlan_separates_containers", &["BR-K10"], parted).needs(VLAN),
];

/// The flags that `bridge vlan` prints for the VLAN of untagged frames.
const UNTAGGED: &str = "PVID Egress Untagged";

/// The VLANs of a port as `(id, flags)`; ranges that iproute2 folds are expanded.
pub fn vlans(port: &str) -> Result<Vec<(u64, String)>> {
    let text = ip::output("bridge", &["-j", "vlan", "show", "dev", port])?;
    let rows: Value = serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
    let mut list = vec![];
    for vlan in rows[0]["vlans"].as_array().into_iter().flatten() {
        let first = vlan["vlan"].as_u64().context("a VLAN without an id")?;
        let flags: Vec<_> =
            vlan["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        list.extend((first..=vlan["vlanEnd"].as_u64().unwrap_or(first)).map(|id| (id, flags.join(" "))));
    }
    Ok(list)
}

/// Runs an ADD that must succeed.
pub fn add(room: &Room, id: &str, config: &Value) -> Result<Value> {
    room.attach("bridge", "ADD", &room.container(id)?).config(config).run()?.result()
}

fn host_end(result: &Value) -> Result<&str> {
    result["interfaces"][1]["name"].as_str().context("no host end in the result")
}

fn tables(room: &Room) -> Result<()> {
    let trunk = json!([{"minID": 10, "maxID": 12}, {"id": 11}, {"id": 20}]);
    let tagged = [(10, ""), (11, ""), (12, ""), (20, "")];
    let and = |more: &[(u64, &'static str)]| {
        let mut all = [&tagged[..], more].concat();
        all.sort_unstable();
        all
    };
    let most: Vec<_> = (2..=4094).map(|id| (id, "")).collect();
    for (index, (keys, table)) in [
        (json!({"vlan": 100}), vec![(100, UNTAGGED)]),
        (json!({"vlan": 1}), vec![(1, UNTAGGED)]),
        (json!({"vlan": 4094}), vec![(4094, UNTAGGED)]),
        (json!({"vlan": 100, "preserveDefaultVlan": true}), vec![(1, "Egress Untagged"), (100, UNTAGGED)]),
        (json!({"vlan": 100, "vlanTrunk": trunk}), and(&[(100, UNTAGGED)])),
        // Trunk ids only: untagged frames belong to VLAN 1.
        (json!({"vlanTrunk": trunk}), and(&[(1, UNTAGGED)])),
        (json!({"vlanTrunk": trunk, "preserveDefaultVlan": true}), and(&[(1, UNTAGGED)])),
        (json!({"vlanTrunk": [{"minID": 2, "maxID": 4094}]}), [&[(1, UNTAGGED)], &most[..]].concat()),
        // Neither VLAN nor trunk ids: the bridge's default for every port.
        (json!({"vlanTrunk": []}), vec![(1, UNTAGGED)]),
        (json!({}), vec![(1, UNTAGGED)]),
    ]
    .into_iter()
    .enumerate()
    {
        let result = add(room, &format!("c{index}"), &with(&layer2(USUAL), keys.clone()))?;
        let have = vlans(host_end(&result)?)?;
        let same = have.iter().map(|(id, flags)| (*id, flags.as_str())).eq(table.iter().copied());
        ensure!(same, "{keys}: {:?}", have.iter().take(12).collect::<Vec<_>>());
        ensure!(vlans("br0")? == [(1, UNTAGGED.to_owned())], "{keys}: br0 itself: {:?}", vlans("br0")?);
    }
    Ok(())
}

fn filtering(room: &Room) -> Result<()> {
    for (name, keys, on) in [
        ("br1", json!({"vlan": 100}), 1),
        ("br2", json!({"vlanTrunk": [{"id": 7}]}), 1),
        ("br3", json!({"vlanTrunk": []}), 1),
        ("br4", json!({"vlan": 0}), 0),
        ("br5", json!({}), 0),
    ] {
        add(room, name, &with(&with(&layer2(USUAL), keys), json!({"bridge": name})))?;
        let link = ip::link(None, name)?.with_context(|| format!("no {name}"))?;
        let have = &link["linkinfo"]["info_data"]["vlan_filtering"];
        ensure!(*have == on, "{name}: vlan_filtering is {have}");
    }
    Ok(())
}

fn gateway(room: &Room) -> Result<()> {
    let config = with(&bridge(USUAL), json!({"vlan": 100, "vlanTrunk": [{"id": 20}]}));
    let result = add(room, "c1", &config)?;
    let link = ip::link(None, "br0.100")?.context("no br0.100")?;
    ensure!(result["interfaces"][3] == json!({"name": "br0.100", "mac": link["address"]}), "{result}");
    let addresses = ip::addresses(None, "br0.100")?;
    ensure!(addresses.contains(&"10.1.2.1/24".to_owned()), "{addresses:?}");
    ensure!(addresses.contains(&"2001:db8:1::1/64".to_owned()), "{addresses:?}");
    ensure!(ip::addresses(None, "br0")?.is_empty(), "br0: {:?}", ip::addresses(None, "br0")?);
    // Its other end is a port of VLAN 100 only.
    let port = link["link"].as_str().context("br0.100 has no other end here")?;
    ensure!(vlans(port)? == [(100, UNTAGGED.to_owned())], "{port}: {:?}", vlans(port)?);
    room.reach("c1", "10.1.2.1")?;
    room.reach("c1", "2001:db8:1::1")?;
    let checked = with(&config, json!({"prevResult": result}));
    let container = "/run/netns/c1";
    room.call("bridge", "CHECK")
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_NETNS", container)
        .env("CNI_IFNAME", "eth0")
        .config(&checked)
        .run()?
        .silent()
}

fn shared(room: &Room) -> Result<()> {
    let config = with(&bridge(USUAL), json!({"vlan": 100}));
    let containers = ["c1", "c2", "c3", "c4"].map(|id| room.container(id));
    let containers = containers.into_iter().collect::<Result<Vec<_>>>()?;
    // Concurrent ADDs: each finds no interface, or one that another ADD is creating.
    std::thread::scope(|scope| {
        let calls = containers.iter().map(|container| {
            let call = || room.attach("bridge", "ADD", container).config(&config).run()?.result();
            scope.spawn(call)
        });
        let calls: Vec<_> = calls.collect();
        calls.into_iter().try_for_each(|call| match call.join() {
            Ok(result) => result.map(drop),
            Err(_) => anyhow::bail!("a call panicked"),
        })
    })?;
    for container in &containers {
        room.reach(&container.id, "10.1.2.1")?;
    }
    let before = room.snapshot()?;
    for container in &containers {
        room.attach("bridge", "DEL", container).config(&config).run()?.silent()?;
    }
    let ports = ip::rows(None, &["link", "show", "master", "br0"])?;
    ensure!(ports.len() == 1, "ports that are left: {ports:?}");
    let gone = room.changes_since(&before)?;
    ensure!(!gone.iter().any(|line| line.contains("br0.100")), "DEL changed it:{}", shown(&gone));
    // The next container finds it.
    add(room, "c5", &config)?;
    room.reach("c5", "10.1.2.1")
}

fn checked(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = with(&layer2(USUAL), json!({"vlan": 100, "vlanTrunk": [{"minID": 10, "maxID": 12}]}));
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    let port = host_end(&result)?;
    let config = with(&config, json!({"prevResult": result}));
    let check = || room.attach("bridge", "CHECK", &container).config(&config).run();
    check()?.silent()?;
    for (break_it, mend_it) in [
        ("del dev {} vid 11", "add dev {} vid 11"),
        ("add dev {} vid 12 untagged", "add dev {} vid 12"),
        ("add dev {} vid 100", "add dev {} vid 100 pvid untagged"),
    ] {
        let bridge = |words: &str| {
            let words = format!("vlan {words}").replace("{}", port);
            ip::output("bridge", &words.split(' ').collect::<Vec<_>>())
        };
        bridge(break_it)?;
        let error = check()?.error()?;
        ensure!(error.to_string().contains("VLAN"), "after {break_it}: {error}");
        bridge(mend_it)?;
        check()?.silent().with_context(|| format!("after {mend_it}"))?;
    }
    Ok(())
}

fn parted(room: &Room) -> Result<()> {
    let config = |vlan: u32| with(&bridge(USUAL), json!({"vlan": vlan, "isDefaultGateway": false}));
    for (id, vlan) in [("c1", 100), ("c2", 100), ("c3", 200)] {
        add(room, id, &config(vlan))?;
    }
    room.reach("c1", "10.1.2.3")?;
    ensure!(room.reach("c1", "10.1.2.4").is_err(), "a container of another VLAN was reached");
    Ok(())
}
