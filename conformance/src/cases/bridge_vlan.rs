//! bridge: VLAN keys. All need a kernel with bridge VLAN filtering (bridge.md sections 1, 2.5, 4).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{USUAL, bridge, layer2, with};
use crate::case::Case;
use crate::ip;
use crate::need::Need;
use crate::room::Room;

const VLAN: &[Need] = &[Need::BridgeVlanFiltering];

pub const CASES: &[Case] = &[
    Case::new("bridge/vlan_is_the_ports_untagged_id", &["bridge 1", "bridge 2.5"], untagged).needs(VLAN),
    Case::new("bridge/vlan_trunk_ids_are_tagged", &["bridge 1", "bridge 2.5"], trunk).needs(VLAN),
    Case::new("bridge/vlan_empty_trunk_turns_filtering_on", &["bridge 1"], empty_trunk).needs(VLAN),
    Case::new("bridge/vlan_default_is_preserved_on_request", &["bridge 1"], preserved).needs(VLAN),
    Case::new("bridge/vlan_gateway_has_its_own_interface", &["bridge 4", "bridge 7"], gateway).needs(VLAN),
    Case::new("bridge/vlan_parts_containers", &["bridge 2.5"], parted).needs(VLAN),
];

/// The VLANs of the host end: (id, is PVID and untagged), without the ranges that iproute2 may fold.
fn vlans(result: &Value) -> Result<Vec<(u64, bool)>> {
    let name = result["interfaces"][1]["name"].as_str().context("no host end in the result")?;
    let text = ip::output("bridge", &["-j", "vlan", "show", "dev", name])?;
    let rows: Value = serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
    let mut list = vec![];
    for vlan in rows[0]["vlans"].as_array().into_iter().flatten() {
        let first = vlan["vlan"].as_u64().context("a VLAN without an id")?;
        let untagged = vlan["flags"].to_string().contains("PVID");
        list.extend((first..=vlan["vlanEnd"].as_u64().unwrap_or(first)).map(|id| (id, untagged)));
    }
    Ok(list)
}

fn add(room: &Room, id: &str, config: &Value) -> Result<Value> {
    room.attach("bridge", "ADD", &room.container(id)?).config(config).run()?.result()
}

fn untagged(room: &Room) -> Result<()> {
    let result = add(room, "c1", &with(&layer2(USUAL), json!({"vlan": 100})))?;
    ensure!(vlans(&result)? == [(100, true)], "{:?}", vlans(&result)?);
    let link = ip::link(None, "br0")?.context("no br0")?;
    ensure!(link["linkinfo"]["info_data"]["vlan_filtering"] == 1, "filtering is off");
    Ok(())
}

fn trunk(room: &Room) -> Result<()> {
    let trunk = json!([{"minID": 10, "maxID": 12}, {"id": 11}, {"id": 20}]);
    let result = add(room, "c1", &with(&layer2(USUAL), json!({"vlan": 100, "vlanTrunk": trunk})))?;
    let expected = [(10, false), (11, false), (12, false), (20, false), (100, true)];
    ensure!(vlans(&result)? == expected, "{:?}", vlans(&result)?);
    let result = add(room, "c2", &with(&layer2(USUAL), json!({"vlanTrunk": trunk})))?;
    let expected = [(1, true), (10, false), (11, false), (12, false), (20, false)];
    ensure!(vlans(&result)? == expected, "without vlan: {:?}", vlans(&result)?);
    Ok(())
}

fn empty_trunk(room: &Room) -> Result<()> {
    let result = add(room, "c1", &with(&layer2(USUAL), json!({"vlanTrunk": []})))?;
    let link = ip::link(None, "br0")?.context("no br0")?;
    ensure!(link["linkinfo"]["info_data"]["vlan_filtering"] == 1, "filtering is off");
    ensure!(vlans(&result)? == [(1, true)], "{:?}", vlans(&result)?);
    Ok(())
}

fn preserved(room: &Room) -> Result<()> {
    let result = add(room, "c1", &with(&layer2(USUAL), json!({"vlan": 100, "preserveDefaultVlan": true})))?;
    let ids: Vec<_> = vlans(&result)?.into_iter().map(|(id, _)| id).collect();
    ensure!(ids == [1, 100], "{ids:?}");
    Ok(())
}

fn gateway(room: &Room) -> Result<()> {
    let config = with(&bridge(USUAL), json!({"vlan": 100}));
    let result = add(room, "c1", &config)?;
    ensure!(result["interfaces"][3]["name"] == "br0.100", "{result}");
    let addresses = ip::addresses(None, "br0.100")?;
    ensure!(addresses.contains(&"10.1.2.1/24".to_owned()), "{addresses:?}");
    room.reach("c1", "10.1.2.1")?;
    room.reach("c1", "2001:db8:1::1")
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
