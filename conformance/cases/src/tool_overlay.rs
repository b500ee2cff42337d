//! The tool and networks over many hosts, on one host: files as agent and plugins write them, and
//! an agent that is a socket of this case.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::room::Room;
use harness::stage::dns::{Named, state_dirs};
use serde_json::{Value, json};

use crate::tool::case;
use crate::tool_network::DIR;
use crate::tool_views::items;

pub const CASES: &[Case] = &[
    case("tool/create_makes_a_network_over_many_hosts", &["T-110"], create),
    case("tool/views_have_the_containers_of_other_hosts", &["T-111"], views),
    case("tool/doctor_finds_what_keeps_hosts_apart", &["T-112"], doctor),
];

const SETTINGS: &str = "/etc/moor/cluster.json";

/// An `/etc` of the room's own, with the configuration of a cluster that nobody serves.
fn join(settings: &Value) -> Result<()> {
    ip::output("mount", &["-t", "tmpfs", "tmpfs", "/etc"])?;
    fs::create_dir_all("/etc/moor")?;
    fs::create_dir_all(DIR)?;
    Ok(fs::write(SETTINGS, settings.to_string())?)
}

/// A path of plugins that has those of a network over many hosts.
fn path(room: &Room) -> Result<String> {
    let path = room.scratch("path");
    fs::create_dir_all(&path)?;
    for name in ["bridge", "cluster", "dns", "host-local", "overlay", "portmap"] {
        // What they do is not asked here.
        symlink(room.suite.join("portmap"), path.join(name))?;
    }
    Ok(path.display().to_string())
}

fn create(room: &Room) -> Result<()> {
    let path = path(room)?;
    let run = |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        room.tool(&[&["network"], words.as_slice()].concat()).env("CNI_PATH", &path).run()
    };
    let refused = |words: &str, why: &str| -> Result<()> {
        let answer = run(words)?;
        let text = answer.summary();
        ensure!(answer.status.code() == Some(1) && text.contains(why), "{words}: {text}");
        Ok(())
    };
    refused("create -d overlay front", SETTINGS)?;
    join(&json!({"endpoints": ["http://127.0.0.1:2379"]}))?;
    let without = room.tool(&["network", "create", "-d", "overlay", "front"]).env("CNI_PATH", "/nowhere");
    let text = without.run()?.summary();
    ensure!(text.contains("plugin overlay is not in"), "{text}");
    refused("create -d overlay --ipam-driver host-local front", "cluster")?;
    refused("create -d overlay -o parent=eth0 front", "overlay has none")?;

    let made = run("create -d overlay --subnet 10.9.0.0/16 -o encrypted --first front")?;
    ensure!(made.succeeded(), "{}", made.summary());
    ensure!(made.summary().contains("copy it"), "{}", made.summary());
    let text = fs::read(Path::new(DIR).join("moor-front.conflist"))?;
    let list: Value = serde_json::from_slice(&text)?;
    let types: Vec<_> = list["plugins"].as_array().into_iter().flatten().map(|one| &one["type"]).collect();
    ensure!(types == ["overlay", "portmap", "dns"], "{types:?}");
    let plugin = &list["plugins"][0];
    let ipam = json!({"type": "cluster", "subnets": ["10.9.0.0/16"], "gateway": ["10.9.0.1"]});
    ensure!(plugin["ipam"] == ipam && plugin["encrypted"] == true, "{plugin}");
    ensure!(plugin["capabilities"]["aliases"] == true, "{plugin}");

    let listed = items(room, &["network", "ls"], 0)?;
    ensure!(
        listed[0]["driver"] == "overlay" && listed[0]["subnets"][0]["subnet"] == "10.9.0.0/16",
        "{listed:?}"
    );
    refused("create --subnet 10.9.4.0/24 back", "overlaps network front")?;
    let removed = run("rm --first front")?;
    ensure!(removed.succeeded() && removed.summary().contains("overlay network rm"), "{}", removed.summary());
    Ok(())
}

/// Writes what a host has, as the agent does.
fn write(host: &str, name: &str, silent: bool, containers: &[(&[&str], &str)]) -> Result<()> {
    let place = state_dirs().into_iter().next().context("no state directory")?;
    let dir = place.join("net/net/remote");
    fs::create_dir_all(&dir)?;
    let attachments: Vec<Value> =
        containers.iter().map(|(names, ip)| json!({"names": names, "ips": [ip]})).collect();
    let record = json!({"v": 1, "host": name, "silent": silent, "attachments": attachments});
    Ok(fs::write(dir.join(format!("{host:0>16}.json")), record.to_string())?)
}

fn views(room: &Room) -> Result<()> {
    Named::add(room, "c1", "web", json!({}))?;
    write("b", "node-b", false, &[(&["far", "www"], "10.1.2.100")])?;
    write("c", "node-c", true, &[(&["farther"], "10.1.2.200")])?;
    let here = items(room, &["ps"], 0)?;
    ensure!(here.iter().all(|item| item.get("host").is_none()), "only those of this host: {here:?}");
    let all = items(room, &["ps", "--hosts"], 0)?;
    let of = |name: &str| all.iter().find(|item| item["name"] == name).with_context(|| format!("{all:?}"));
    let far = of("far")?;
    ensure!(
        far["host"] == "node-b" && far["state"] == "remote" && far["addresses"][0] == "10.1.2.100",
        "{far}"
    );
    ensure!(of("farther")?["state"] == "silent", "{all:?}");
    let text = room.tool(&["ps", "--hosts", "net"]).run()?.summary();
    ensure!(text.contains("on node-b"), "{text}");
    for (what, evidence) in [("10.1.2.100", "address"), ("www", "name")] {
        let owners = items(room, &["who", what], 0)?;
        let is_it = |one: &&Value| one["host"] == "node-b" && one["name"] == "far";
        let owner = owners.iter().find(is_it).with_context(|| format!("{what}: {owners:?}"))?;
        ensure!(owner["evidence"][0].as_str().is_some_and(|text| text.contains(evidence)), "{owner}");
    }
    let text = room.tool(&["who", "10.1.2.200"]).run()?.summary();
    ensure!(text.contains("on host node-c (silent)"), "{text}");
    Ok(())
}

/// What doctor says of the cluster, as text.
fn findings(room: &Room, words: &[&str]) -> Result<Vec<Value>> {
    let answer = room.tool(&[&["doctor", "--json"], words].concat()).run()?;
    let found = answer.document()?["items"].as_array().cloned().context("a document has items")?;
    Ok(found.into_iter().filter(|one| one["id"] == "overlay").collect())
}

fn doctor(room: &Room) -> Result<()> {
    let found = findings(room, &[])?;
    ensure!(found.len() == 1 && found[0]["status"] == "ok", "no cluster: {found:?}");
    join(&json!({
        "endpoints": ["https://127.0.0.1:1"], "cert": "/etc/moor/host.pem", "key": "/etc/moor/host.key",
    }))?;
    fs::write("/etc/moor/host.key", "")?;
    let has = |found: &[Value], status: &str, part: &str| {
        found.iter().any(|one| one["status"] == status && one.to_string().contains(part))
    };
    let found = findings(room, &[])?;
    ensure!(has(&found, "fail", "no member of etcd is reached"), "{found:?}");
    ensure!(has(&found, "fail", "host.pem"), "{found:?}");
    ensure!(!found.iter().any(|one| one.to_string().contains("agent")), "nobody is attached: {found:?}");
    let taken = std::net::UdpSocket::bind("0.0.0.0:4789")?;
    let found = findings(room, &[])?;
    ensure!(has(&found, "fail", "UDP port 4789"), "{found:?}");
    drop(taken);
    fs::write(SETTINGS, "{\"endpoints\": []}")?;
    let list = r#"{"cniVersion":"1.0.0","name":"wide","plugins":[{"type":"overlay",
        "ipam":{"type":"cluster","subnets":["10.9.0.0/16"]}}]}"#;
    fs::write(Path::new(DIR).join("10-wide.conflist"), list)?;
    let found = findings(room, &[])?;
    ensure!(found.len() == 1 && has(&found, "fail", "endpoints"), "{found:?}");
    let lint = room.tool(&["lint", "--json", SETTINGS]).run()?;
    let items = lint.document()?["items"].clone();
    ensure!(items[0]["code"] == "L070" && items[0]["file"] == SETTINGS, "{items}");
    Ok(())
}
