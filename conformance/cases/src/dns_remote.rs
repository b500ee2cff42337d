//! dns: containers on other hosts, whose names somebody else writes beside the records. No other
//! host is needed.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::dns_client::{Question, kind, rcode};
use harness::room::Room;
use harness::stage::dns::{
    GATEWAYS, Named, OTHER_GATEWAY, ask, control, expect, kill_responder, other_bridge, state_dirs,
};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("dns/containers_of_other_hosts_answer_with_those_of_this_one", &["D-118", "D-119"], together),
    Case::new("dns/silent_hosts_are_left_out_while_another_address_is_left", &["D-120"], silent),
    Case::new("dns/names_of_other_hosts_survive_the_responder_and_the_last_container", &["D-121"], survive),
];

const HOSTS: [&str; 2] = ["00000000000000aa", "00000000000000bb"];

/// Writes what a host has, as the agent does: by rename, for the responder's group.
fn write(network: &str, host: &str, silent: bool, containers: &[(&[&str], &str)]) -> Result<()> {
    let attachments: Vec<Value> =
        containers.iter().map(|(names, ip)| json!({"names": names, "ips": [ip]})).collect();
    let record = json!({"v": 1, "host": "node-b", "silent": silent, "attachments": attachments});
    let dir = remote(network)?;
    if !dir.exists() {
        fs::create_dir(&dir)?;
    }
    let draft = dir.join(format!(".moor-{host}.json"));
    fs::write(&draft, record.to_string())?;
    fs::set_permissions(&draft, Permissions::from_mode(0o640))?;
    fs::rename(&draft, dir.join(format!("{host}.json")))?;
    sync(network)
}

fn remote(network: &str) -> Result<PathBuf> {
    let place = state_dirs().into_iter().next().context("no state directory")?;
    Ok(place.join("net").join(network).join("remote"))
}

fn sync(network: &str) -> Result<()> {
    let answer = control(&json!({"ask": "sync", "network": network}).to_string())?;
    let read: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    ensure!(read.get("error").is_none(), "{answer}");
    Ok(())
}

fn together(room: &Room) -> Result<()> {
    let named =
        Named::add(room, "c1", "web", json!({"internal": true, "runtimeConfig": {"aliases": ["www"]}}))?;
    let other = Named::behind(room, "c2", "db", &other_bridge(), json!({"internal": true}))?;
    write("net", HOSTS[0], false, &[(&["far", "www"], "10.1.2.100")])?;
    write("net", HOSTS[1], false, &[(&["farther", "www"], "10.1.2.200")])?;
    for name in ["far", "FAR", "far.net"] {
        expect(room, Some("c1"), GATEWAYS[0], name, &["10.1.2.100"])?;
    }
    let own = named.address(false);
    let mut all = ["10.1.2.100", "10.1.2.200", &own];
    all.sort_unstable();
    let mut first = BTreeSet::new();
    for _ in 0..8 {
        expect(room, Some("c1"), GATEWAYS[0], "www", &all)?;
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new("www", kind::A))?;
        first.extend(reply.texts().first().map(|text| (*text).to_owned()));
    }
    ensure!(first.len() == 3, "of 8 answers, {first:?} came first");
    let pointer = ask(room, Some("c1"), GATEWAYS[0], &Question::new("100.2.1.10.in-addr.arpa", kind::PTR))?;
    ensure!(pointer.texts() == ["far.net"], "{:?}", pointer.texts());
    // A container of another network sees none of it.
    for name in ["far", "far.net", "100.2.1.10.in-addr.arpa"] {
        let reply = ask(room, Some("c2"), OTHER_GATEWAY, &Question::new(name, kind::A))?;
        ensure!(reply.texts().is_empty(), "{name}: {:?}", reply.texts());
    }
    // What is no record is left out, and everything else answers.
    let dir = remote("net")?;
    for (file, text) in [("00000000000000cc.json", "{"), ("../x.json", "{}"), ("node.json", "{}")] {
        fs::write(dir.join(file), text)?;
    }
    let odd: &[(&[&str], &str)] =
        &[(&["ok", "a b", "localhost", "x\n10.9.9.9 y"], "10.1.2.201"), (&["loop"], "127.0.0.1")];
    write("net", "00000000000000dd", false, odd)?;
    expect(room, Some("c1"), GATEWAYS[0], "ok", &["10.1.2.201"])?;
    expect(room, Some("c1"), GATEWAYS[0], "far", &["10.1.2.100"])?;
    expect(room, Some("c1"), GATEWAYS[0], "loop", &[])?;
    fs::remove_file(dir.join("../x.json"))?;
    other.del(room)
}

fn silent(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let at = |host: &str, silent, ip| write("net", host, silent, &[(&["app", "web"], ip)]);
    let [one, two] = ["10.1.2.100", "10.1.2.200"];
    at(HOSTS[0], false, one)?;
    at(HOSTS[1], true, two)?;
    expect(room, Some("c1"), GATEWAYS[0], "app", &[one])?;
    // Ten times silent and back: never without an answer.
    for _ in 0..10 {
        at(HOSTS[0], true, one)?;
        expect(room, Some("c1"), GATEWAYS[0], "app", &[one, two])?;
        expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])?;
        at(HOSTS[0], false, one)?;
        expect(room, Some("c1"), GATEWAYS[0], "app", &[one])?;
    }
    let pointer = ask(room, Some("c1"), GATEWAYS[0], &Question::new("200.2.1.10.in-addr.arpa", kind::PTR))?;
    ensure!(pointer.texts() == ["app.net"], "{:?}", pointer.texts());
    Ok(())
}

fn survive(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({"domainName": "in.test"}))?;
    write("net", HOSTS[0], false, &[(&["far"], "10.1.2.100")])?;
    kill_responder()?;
    named.verb(room, "CHECK")?.silent()?;
    expect(room, Some("c1"), GATEWAYS[0], "far", &["10.1.2.100"])?;
    // DEL of the last container leaves them to their owner; the next ADD has them at once.
    named.del(room)?;
    ensure!(remote("net")?.join(format!("{}.json", HOSTS[0])).exists(), "DEL removed another's file");
    named.verb(room, "ADD")?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "far", &["10.1.2.100"])?;
    // The host goes: so do its names, with nobody to report it.
    fs::remove_dir_all(remote("net")?)?;
    let gone = || {
        let question = Question::new("far.in.test", kind::A);
        ask(room, Some("c1"), GATEWAYS[0], &question).is_ok_and(|reply| reply.rcode() == rcode::NXDOMAIN)
    };
    harness::stage::dns::until(std::time::Duration::from_secs(2), "the names are gone", gone)?;
    named.del(room)
}
