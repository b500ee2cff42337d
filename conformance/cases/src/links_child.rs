//! DEL of macvlan, ipvlan, vlan and dummy: the container cannot hide its link, and no other attachment's link is
//! deleted.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{add, lan};
use harness::{ip, store};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("macvlan/del_removes_a_link_that_the_container_disguised", &["MV-L1"], |room| {
        disguised(room, "macvlan")
    })
    .needs(&[Need::Macvlan]),
    Case::new("ipvlan/del_removes_a_link_that_the_container_disguised", &["IV-L1"], |room| {
        disguised(room, "ipvlan")
    })
    .needs(&[Need::Ipvlan]),
    Case::new("vlan/del_removes_a_link_that_the_container_disguised", &["VL-L1"], |room| {
        disguised(room, "vlan")
    })
    .needs(&[Need::VlanLinks]),
    Case::new("dummy/del_removes_a_link_that_the_container_disguised", &["DU-L1"], |room| {
        disguised(room, "dummy")
    })
    .needs(&[Need::Dummy]),
    Case::new("macvlan/del_removes_the_references_disguised_link_by_prev_result", &["MV-L1"], remembered)
        .needs(&[Need::Macvlan]),
    Case::new("macvlan/del_keeps_other_attachments_of_the_container", &["MV-L1"], others)
        .needs(&[Need::Macvlan]),
    Case::new("macvlan/del_removes_a_renamed_networks_link_by_prev_result", &["MV-L1"], renamed)
        .needs(&[Need::Macvlan]),
    Case::new("macvlan/late_del_keeps_the_new_containers_link", &["MV-L1"], late).needs(&[Need::Macvlan]),
];

fn config(plugin: &str) -> Value {
    lan(plugin, &json!({"enabledad": false}))
}

fn layer2(name: &str) -> Value {
    json!({"cniVersion": harness::config::USUAL, "name": name, "type": "macvlan", "master": "wan0"})
}

fn del(room: &Room, container: &Container, config: &Value) -> Result<()> {
    let plugin = config["type"].as_str().context("no type")?;
    room.attach(plugin, "DEL", container).config(config).run()?.silent()
}

/// The names of the container's links except loopback, sorted: the kernel has an order of its own.
fn links(id: &str) -> Result<Vec<String>> {
    let mut links = ip::links(Some(id))?;
    links.retain(|name| name != "lo");
    links.sort();
    Ok(links)
}

fn disguised(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    let config = config(plugin);
    for (n, script) in [
        "link set eth0 down
         link set eth0 name hidden",
        "link set eth0 alias moor/other/eth1/c9",
        "link set eth0 down
         link set eth0 name eth1 alias moor/other/eth1/ID",
        "link set eth0 down
         link set eth0 name hidden alias mine
         link add eth0 type bridge",
    ]
    .into_iter()
    .enumerate()
    {
        let (container, _) = add(room, plugin, &format!("c{n}"), &config)?;
        ip::script(Some(&container.id), &script.replace("ID", &container.id))?;
        del(room, &container, &config)?;
        let left = links(&container.id)?;
        ensure!(left.is_empty() || left == ["eth0"] && n == 3, "{script}: {left:?} is left");
        ensure!(store::leases("/var/lib/cni/networks/lan")?.is_empty(), "{script}: the lease is left");
        del(room, &container, &config)?;
    }
    Ok(())
}

/// Links without any mark but their name, as the reference creates them: prevResult is the proof of
/// ownership.
fn remembered(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = config("macvlan");
    for (n, (by, script)) in [
        ("its MAC address", "link set eth0 name hidden"),
        ("its MAC address", "link set eth0 alias moor/other/eth0/ID"),
        (
            "its IP address",
            "link set eth0 name hidden alias moor/other/eth1/ID
             link set hidden address 02:00:00:00:00:77
             addr add 198.51.100.44/24 dev hidden",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("c{n}");
        let container = room.container(&id)?;
        ip::run(&["link", "add", "link", "wan0", "name", "temp0", "type", "macvlan", "mode", "bridge"])?;
        ip::script(None, &format!("link set temp0 address 02:00:00:00:00:44 netns {id} name eth0"))?;
        ip::script(Some(&id), &script.replace("ID", &id))?;
        let previous = json!({
            "cniVersion": harness::config::USUAL,
            "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:44", "sandbox": container.path}],
            "ips": [{"address": "198.51.100.44/24", "interface": 0}],
        });
        del(room, &container, &with(&config, json!({"prevResult": previous})))?;
        let left = links(&id)?;
        ensure!(left.is_empty(), "identified by {by}: {left:?} is left");
    }
    Ok(())
}

fn others(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let (one, two) = (layer2("one"), layer2("two"));
    let (container, _) = add(room, "macvlan", "c1", &one)?;
    let second = room.attach("macvlan", "ADD", &container).env("CNI_IFNAME", "net1").config(&two).run()?;
    let result = second.result()?;
    // The DEL of a refused ADD, with the first interface's name.
    room.attach("macvlan", "ADD", &container).config(&two).run()?.error_code(999)?;
    del(room, &container, &two)?;
    ensure!(links("c1")? == ["eth0", "net1"], "{:?}", links("c1")?);
    // The container has given its second link the name and the alias of the first.
    ip::script(
        Some("c1"),
        "link set eth0 down
         link set net1 down
         link set eth0 name tmp
         link set net1 name eth0 alias moor/one/eth0/c1
         link set tmp name net1 alias moor/two/net1/c1",
    )?;
    let second_mac = ip::link(Some("c1"), "eth0")?.context("no link")?["address"].clone();
    ensure!(second_mac == result["interfaces"][0]["mac"], "{second_mac} is not that of {result}");
    del(room, &container, &one)?;
    let left = ip::link(Some("c1"), "eth0")?.context("the second network's link is gone")?;
    ensure!(left["address"] == second_mac && links("c1")? == ["eth0"], "{:?}", links("c1")?);
    Ok(())
}

fn renamed(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = config("macvlan");
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    let renamed = with(&config, json!({"name": "renamed"}));
    del(room, &container, &renamed)?;
    ensure!(links("c1")? == ["eth0"], "DEL cannot distinguish it from another network's link in use");
    del(room, &container, &with(&renamed, json!({"prevResult": result})))?;
    ensure!(links("c1")?.is_empty(), "the runtime remembers it, and it is still there");
    Ok(())
}

fn late(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = config("macvlan");
    let (dead, result) = add(room, "macvlan", "c1", &config)?;
    room.remove(&dead)?;
    let alive = Container { id: "c2".into(), ..room.container("c1")? };
    room.attach("macvlan", "ADD", &alive).config(&config).run()?.result()?;
    ip::run_in("c1", &["link", "set", "eth0", "alias", "moor/lan/eth0/c1"])?;
    for config in [with(&config, json!({"prevResult": result})), config] {
        del(room, &dead, &config)?;
        ensure!(links("c1")? == ["eth0"], "the new container's link is gone");
    }
    Ok(())
}
