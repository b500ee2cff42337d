//! A bridge that existed before ADD keeps the settings of its owner.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, layer2, with};
use harness::fake::Fake;
use harness::ip;
use harness::namespace::allow_ipv6;
use harness::room::Room;
use serde_json::json;

use crate::bridge_keys::add;

pub const CASES: &[Case] = &[
    Case::new("bridge/a_foreign_bridge_keeps_its_mac_address", &["BR-L2"], keeps_mac),
    Case::new("bridge/a_mac_address_that_others_set_meanwhile_is_kept", &["BR-L2"], set_meanwhile),
    Case::new("bridge/a_foreign_bridge_is_not_pinned_beside_its_uplink", &["BR-L2"], follows_uplink),
    Case::new("bridge/an_administrators_address_on_an_idle_bridge_is_kept", &["BR-L2"], address),
    Case::new("bridge/a_foreign_bridge_keeps_its_router", &["BR-L2"], router),
    Case::new("bridge/an_alternative_name_is_reported_as_the_real_name", &["BR-L3"], alternative_name),
];

/// The address that somebody sets during ADD.
const SET: &str = "0a:00:00:00:00:77";

fn mac(name: &str) -> Result<String> {
    let link = ip::link(None, name)?.with_context(|| format!("there is no {name}"))?;
    Ok(link["address"].as_str().unwrap_or_default().to_owned())
}

/// Other hosts reach the host by the MAC address of a bridge that has its address, with or without
/// ports.
fn keeps_mac(room: &Room) -> Result<()> {
    ip::script(
        None,
        "link add br0 type bridge
         link set br0 up
         addr add 10.1.2.1/24 dev br0
         link add br1 type bridge
         link set br1 up
         link add lan0 type veth peer name lan1
         link set lan0 address f2:ff:ff:ff:ff:fe master br1 up
         link set lan1 up
         addr add 10.7.7.1/24 dev br1",
    )?;
    allow_ipv6(&["br0", "br1"])?;
    let one = bridge(USUAL);
    let ipam = json!({"type": "host-local", "subnet": "10.7.7.0/24"});
    let two = with(&bridge(USUAL), json!({"name": "two", "bridge": "br1", "ipam": ipam}));
    let plain = with(&layer2(USUAL), json!({"name": "three", "bridge": "br1"}));
    for (name, config) in [("br0", &one), ("br1", &two), ("br1", &plain)] {
        let before = mac(name)?;
        for n in 0..2 {
            let container =
                room.container(&format!("{}-{n}", config["name"].as_str().unwrap_or_default()))?;
            let result = add(room, &container, config)?;
            ensure!(mac(name)? == before, "{name} had {before} and has {}", mac(name)?);
            ensure!(result["interfaces"][0]["mac"] == before.as_str(), "{result} does not report {before}");
        }
    }
    Ok(())
}

/// As an ADD of the reference does, which is under way on the same bridge.
fn set_meanwhile(room: &Room) -> Result<()> {
    ip::script(None, "link add br0 type bridge\n link set br0 up")?;
    allow_ipv6(&["br0"])?;
    let set = format!("[ \"$CNI_COMMAND\" != ADD ] || ip link set br0 address {SET}");
    let answer = r#"printf '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.7/24","gateway":"10.1.2.1"}]}'"#;
    let fake = Fake::new(room, "fakeipam", &format!("{set}\n{answer}"))?;
    let config = with(&bridge(USUAL), json!({"ipam": {"type": fake.name()}}));
    let container = room.container("c1")?;
    let call = room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config);
    let result = call.run()?.result()?;
    ensure!(mac("br0")? == SET, "br0 has {} after ADD, not {SET}", mac("br0")?);
    ensure!(result["interfaces"][0]["mac"] == SET, "{result} does not report {SET}");
    Ok(())
}

fn follows_uplink(room: &Room) -> Result<()> {
    ip::script(
        None,
        "link add br0 type bridge
         link set br0 up
         link add lan0 type veth peer name lan1
         link set lan0 address f2:ff:ff:ff:ff:fe master br0 up
         link set lan1 up",
    )?;
    allow_ipv6(&["br0"])?;
    add(room, &room.container("c1")?, &bridge(USUAL))?;
    // Its owner replaces the uplink.
    ip::run(&["link", "set", "lan0", "address", "02:00:00:00:00:05"])?;
    ensure!(mac("br0")? == "02:00:00:00:00:05", "the bridge is pinned to {}", mac("br0")?);
    Ok(())
}

fn address(room: &Room) -> Result<()> {
    // A bridge that the suite created, and that has no ports any more.
    let first = room.container("c1")?;
    add(room, &first, &layer2(USUAL))?;
    room.attach("bridge", "DEL", &first).config(&layer2(USUAL)).run()?.silent()?;
    allow_ipv6(&["br0"])?;
    ip::script(None, "addr add 10.7.7.1/24 dev br0\n -6 addr add 2001:db8:1::99/64 dev br0 nodad")?;
    let container = room.container("c2")?;
    let call = room.attach("bridge", "ADD", &container).config(&bridge(USUAL));
    call.run()?.error_with(999, "already has an IP address different from")?;
    let addresses = ip::addresses(None, "br0")?;
    for there in ["10.7.7.1/24", "2001:db8:1::99/64"] {
        ensure!(addresses.contains(&there.to_owned()), "{there} is gone: {addresses:?}");
    }
    ensure!(addresses.len() == 2, "{addresses:?}");
    add(room, &container, &with(&bridge(USUAL), json!({"forceAddress": true})))?;
    ensure!(!ip::addresses(None, "br0")?.contains(&"10.7.7.1/24".to_owned()), "forceAddress is ignored");
    Ok(())
}

/// The host may have learned its default route there, or be about to.
fn router(room: &Room) -> Result<()> {
    for (name, learned) in [("br0", true), ("br1", false)] {
        ip::script(None, &format!("link add {name} type bridge\n link set {name} up"))?;
        allow_ipv6(&[name])?;
        let parameter = format!("/proc/sys/net/ipv6/conf/{name}/accept_ra");
        std::fs::write(&parameter, "2")?;
        if learned {
            ip::script(None, &format!("-6 route add default via fe80::1 dev {name} proto ra metric 99"))?;
        }
        let config = with(&layer2(USUAL), json!({"bridge": name, "name": name}));
        add(room, &room.container(name)?, &config)?;
        let now = std::fs::read_to_string(&parameter)?;
        ensure!(now.trim() == "2", "learned {learned}: accept_ra of {name} is {now}");
    }
    Ok(())
}

fn alternative_name(room: &Room) -> Result<()> {
    ip::script(
        None,
        "link add real0 type bridge
         link set real0 up
         link property add dev real0 altname other0",
    )?;
    allow_ipv6(&["real0"])?;
    let config = with(&bridge(USUAL), json!({"bridge": "other0"}));
    let container = room.container("c1")?;
    let result = add(room, &container, &config)?;
    ensure!(result["interfaces"][0]["name"] == "real0", "{result}");
    let checked = with(&config, json!({"prevResult": result}));
    room.attach("bridge", "CHECK", &container).config(&checked).run()?.silent()?;
    room.attach("bridge", "DEL", &container).config(&checked).run()?.silent()
}
