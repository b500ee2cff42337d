//! bridge DEL deletes only links that provably belong to the attachment.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("bridge/del_keeps_another_networks_link", &["BR-L1"], refused_add),
    Case::new("bridge/late_del_keeps_the_new_containers_link", &["BR-L1"], late),
    Case::new("bridge/del_keeps_links_of_other_plugins", &["BR-L1"], other_makers),
    Case::new("bridge/del_removes_the_link_of_a_killed_reference_add", &["BR-L1"], half_made),
    Case::new("bridge/del_keeps_a_link_of_the_reference_on_another_bridge", &["BR-L1"], references)
        .needs(&[Need::Reference]),
    Case::new("bridge/del_removes_a_renamed_networks_link_by_prev_result", &["BR-L1"], renamed),
    Case::new("bridge/del_removes_a_link_that_the_container_renamed", &["BR-L1"], renamed_inside),
];

/// Another network for the same interface of a container.
fn second(bridge_name: &str) -> Value {
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}]]});
    with(&bridge(USUAL), json!({"name": "second", "bridge": bridge_name, "ipam": ipam}))
}

fn has_link(container: &str, name: &str) -> Result<bool> {
    Ok(ip::link(Some(container), name)?.is_some())
}

fn del(room: &Room, container: &Container, config: &Value) -> Result<()> {
    room.attach("bridge", "DEL", container).config(config).run()?.silent()
}

fn refused_add(room: &Room) -> Result<()> {
    let first = bridge(USUAL);
    let before = room.snapshot()?;
    for (n, name) in ["br0", "br1"].into_iter().enumerate() {
        let container = room.container(&format!("c{n}"))?;
        let result = room.attach("bridge", "ADD", &container).config(&first).run()?.result()?;
        let second = second(name);
        room.attach("bridge", "ADD", &container).config(&second).run()?.error_code(999)?;
        for _ in 0..2 {
            del(room, &container, &second)?;
            ensure!(has_link(&container.id, "eth0")?, "{name}: the first network's link is gone");
        }
        room.reach(&container.id, "10.1.2.1")?;
        let check = with(&first, json!({"prevResult": result}));
        room.attach("bridge", "CHECK", &container).config(&check).run()?.silent()?;
        del(room, &container, &first)?;
        room.ensure_nothing_left(&before, &[&container.id])?;
    }
    Ok(())
}

/// The runtime gave the dead container's path to a new one, and sends the DEL only then.
fn late(room: &Room) -> Result<()> {
    let config = bridge(USUAL);
    let dead = room.container("c1")?;
    let result = room.attach("bridge", "ADD", &dead).config(&config).run()?.result()?;
    room.remove(&dead)?;
    let alive = Container { id: "c2".into(), ..room.container("c1")? };
    room.attach("bridge", "ADD", &alive).config(&config).run()?.result()?;
    for config in [with(&config, json!({"prevResult": result})), config] {
        del(room, &dead, &config)?;
        ensure!(has_link("c1", "eth0")?, "the new container's link is gone");
        room.reach("c1", "10.1.2.1")?;
    }
    Ok(())
}

/// A pair that has no master yet, with a name as the reference generates them.
fn half_made(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    ip::run(&["link", "add", "veth12ab34cd", "type", "veth", "peer", "name", "eth0", "netns", "c1"])?;
    ip::run(&["link", "set", "veth12ab34cd", "up"])?;
    ip::run(&["address", "add", "10.9.9.1/32", "dev", "veth12ab34cd"])?;
    del(room, &container, &bridge(USUAL))?;
    ensure!(has_link("c1", "eth0")?, "a pair with an address is gone");
    ip::run(&["address", "del", "10.9.9.1/32", "dev", "veth12ab34cd"])?;
    del(room, &container, &bridge(USUAL))?;
    ensure!(!has_link("c1", "eth0")?, "the pair of the killed ADD is still there");
    Ok(())
}

fn other_makers(room: &Room) -> Result<()> {
    let config = bridge(USUAL);
    // The bridge exists, so that DEL could take a port of it for its own.
    let first = room.container("first")?;
    room.attach("bridge", "ADD", &first).config(&config).run()?.result()?;
    ip::run(&["link", "add", "br9", "type", "bridge"])?;
    for (n, (what, script)) in [
        ("a routed pair", "link add ptp0 type veth peer name eth0 netns ID"),
        ("a bridge", "-n ID link add eth0 type bridge"),
        ("a pair within the container", "-n ID link add eth0 type veth peer name eth1"),
        (
            "a port of another bridge",
            "link add other0 type veth peer name eth0 netns ID
             link set other0 master br9",
        ),
        (
            "a port with a foreign label",
            "link add named0 type veth peer name eth0 netns ID
             link set named0 master br0 alias customer-7",
        ),
        (
            "another container's",
            "link add label0 type veth peer name eth0 netns ID
             link set label0 master br0 alias moor/net/eth0/another",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let container = room.container(&format!("m{n}"))?;
        for line in script.lines() {
            let line = line.replace("ID", &container.id);
            ip::run(&line.split_whitespace().collect::<Vec<_>>())?;
        }
        del(room, &container, &config).context(what)?;
        ensure!(has_link(&container.id, "eth0")?, "{what} is gone");
    }
    Ok(())
}

fn references(room: &Room) -> Result<()> {
    let config = bridge(USUAL);
    let container = room.container("c1")?;
    let call = Call::new(room, room.reference.join("bridge"))
        .env("CNI_COMMAND", "ADD")
        .env("CNI_PATH", &room.reference)
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", &container.path);
    let result = call.config(&config).run()?.result()?;
    let second = second("br1");
    room.attach("bridge", "ADD", &container).config(&second).run()?.error_code(999)?;
    del(room, &container, &second)?;
    ensure!(has_link("c1", "eth0")?, "the DEL of a network with another bridge took it");
    let stranger = json!({"cniVersion": USUAL, "interfaces": [{"name": "vethdead"}]});
    del(room, &container, &with(&config, json!({"prevResult": stranger})))?;
    ensure!(has_link("c1", "eth0")?, "the DEL of an attachment with another host end took it");
    del(room, &container, &with(&config, json!({"prevResult": result})))?;
    ensure!(!has_link("c1", "eth0")?, "its own DEL left it");
    Ok(())
}

fn renamed(room: &Room) -> Result<()> {
    let config = bridge(USUAL);
    let container = room.container("c1")?;
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    let renamed = with(&config, json!({"name": "renamed"}));
    del(room, &container, &renamed)?;
    ensure!(has_link("c1", "eth0")?, "DEL cannot distinguish it from another network's link in use");
    del(room, &container, &with(&renamed, json!({"prevResult": result})))?;
    ensure!(!has_link("c1", "eth0")?, "the runtime remembers its host end, and it is still there");
    Ok(())
}

fn renamed_inside(room: &Room) -> Result<()> {
    let config = bridge(USUAL);
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    ip::script(
        Some("c1"),
        "link set eth0 down
         link set eth0 name lan0 alias moor/net/eth0/another
         link add eth0 type bridge",
    )?;
    del(room, &container, &config)?;
    ensure!(!has_link("c1", "lan0")?, "a renamed link is still there");
    ensure!(has_link("c1", "eth0")?, "the container's own link is gone");
    room.ensure_nothing_left(&before, &["c1"])
}
