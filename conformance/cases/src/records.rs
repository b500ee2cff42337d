//! Records of a newer release, beside which this one was installed again: they are named, DEL
//! succeeds, and nothing of a living attachment is taken for garbage.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Answer;
use harness::snapshot;
use harness::stage::dhcp::Offer;
use harness::stage::dns::Named;
use harness::stage::lan::{add as attach, until};
use harness::stage::portmap::portmap;
use harness::stage::reapply::reapply;
use harness::stage::tuning::{MAC, linked, tuning};
use harness::store;
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::{dhcp, host_device, host_local};

pub const CASES: &[Case] = &[
    Case::new("records/newer_packet_rules", &["HO-41", "HO-42", "HO-43"], packet_rules),
    Case::new("records/a_newer_record_shows_that_a_container_is_alive", &["HO-43"], alive),
    Case::new("records/newer_settings", &["HO-41", "HO-42", "HO-43"], settings),
    Case::new("records/a_newer_device", &["HO-41", "HO-42"], device),
    Case::new("records/newer_names", &["HO-41", "HO-42", "HO-43"], names),
    Case::new("records/a_newer_lease_of_a_server", &["HO-41", "HO-42", "HO-43"], lease)
        .needs(&[Need::DhcpServers, Need::Macvlan]),
    Case::new("records/a_newer_boot_record", &["HO-41", "HO-43"], boot),
    Case::new("records/a_newer_layout_of_ports_goes_with_the_last", &["HO-42"], layout),
];

/// What a reader says of a record of version 2.
const NAMED: &str = "a newer release wrote it: it is of version 2, and this release reads 1";
const VALID: &str = "cni.dev/valid-attachments";

/// Makes all records below a directory those of a newer release, with something unknown in them.
/// Returns their paths.
fn renew(dir: &str) -> Result<Vec<PathBuf>> {
    let mut renewed = Vec::new();
    let mut dirs = vec![PathBuf::from(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let newer = text.replacen("v 1\n", "v 2\n", 1).replacen("{\"v\":1,", "{\"v\":2,\"quux\":[],", 1);
            if newer != text {
                let line = if newer.starts_with("v 2") { "quux 1\n" } else { "" };
                fs::write(&path, newer + line)?;
                renewed.push(path);
            }
        }
    }
    ensure!(!renewed.is_empty(), "{dir} has no record with a version");
    Ok(renewed)
}

fn ensure_there(paths: &[PathBuf], when: &str) -> Result<()> {
    let gone: Vec<_> = paths.iter().filter(|path| !path.exists()).collect();
    ensure!(gone.is_empty(), "{when} these records are gone: {gone:?}");
    Ok(())
}

fn ensure_gone(paths: &[PathBuf], when: &str) -> Result<()> {
    let left: Vec<_> = paths.iter().filter(|path| path.exists()).collect();
    ensure!(left.is_empty(), "{when} these records are left: {left:?}");
    Ok(())
}

/// Requires that an answer names one of these records and its version, wherever a person reads it.
fn ensure_named(answer: &Answer, paths: &[PathBuf]) -> Result<()> {
    let printed = format!("{}{}", answer.stderr, String::from_utf8_lossy(&answer.stdout));
    ensure_printed(&printed, paths)
}

fn ensure_printed(printed: &str, paths: &[PathBuf]) -> Result<()> {
    let is_named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        printed.contains(&*name)
    };
    ensure!(printed.contains(NAMED) && paths.iter().any(is_named), "no record is named: {printed}");
    Ok(())
}

/// As a runtime that knows these attachments.
fn gc(room: &Room, plugin: &str, config: &Value, valid: &[&str]) -> Result<Answer> {
    let valid: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
    let keys = json!({"cniVersion": "1.1.0", "prevResult": null, VALID: valid, "type": plugin});
    room.call(plugin, "GC").config(&with(config, keys)).run()
}

fn call(room: &Room, plugin: &str, verb: &str, container: &Container, config: &Value) -> Result<Answer> {
    room.attach(plugin, verb, container).config(config).run()
}

/// A masqueraded container with a port; the configurations of bridge and portmap.
fn published(room: &Room, id: &str, port: u16) -> Result<(Container, Value, Value)> {
    let container = room.container(id)?;
    let bridge = with(&harness::config::bridge(USUAL), json!({"ipMasq": true, "macspoofchk": true}));
    let result = call(room, "bridge", "ADD", &container, &bridge)?.result()?;
    let portmap = portmap(json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]), &result);
    call(room, "portmap", "ADD", &container, &portmap)?.result()?;
    Ok((container, with(&bridge, json!({"prevResult": result})), portmap))
}

fn packet_rules(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let (c1, bridge, portmap) = published(room, "c1", 8080)?;
    let records = renew("/run/moor/intent")?;
    ensure!(records.len() == 2, "{records:?}");
    let rules = snapshot::rules()?;
    ensure_printed(&reapply(room, "portmap")?, &records)?;
    for (plugin, config) in [("bridge", &bridge), ("portmap", &portmap)] {
        call(room, plugin, "CHECK", &c1, config)?.silent()?;
        let answer = gc(room, plugin, config, &["c1"])?;
        answer.silent()?;
        ensure_named(&answer, &records)?;
    }
    ensure_there(&records, "after GC")?;
    ensure!(snapshot::rules()? == rules, "GC changed rules of a living attachment");
    // The port is the container's.
    let c2 = room.container("c2")?;
    let result = call(room, "bridge", "ADD", &c2, &harness::config::bridge(USUAL))?.result()?;
    let taken = with(&portmap, json!({"prevResult": result}));
    call(room, "portmap", "ADD", &c2, &taken)?.error_with(999, "moor/net/eth0/c1")?;
    call(room, "bridge", "DEL", &c2, &bridge)?.silent()?;
    for (plugin, config) in [("portmap", &portmap), ("bridge", &bridge)] {
        let answer = call(room, plugin, "DEL", &c1, config)?;
        answer.silent()?;
        ensure_named(&answer, &records)?;
    }
    ensure_gone(&records, "after DEL")?;
    room.ensure_nothing_left(&before, &["c1", "c2"])?;
    // What the runtime has forgotten goes, rules and records.
    let (_, bridge, portmap) = published(room, "c3", 8080)?;
    let records = renew("/run/moor/intent")?;
    gc(room, "portmap", &portmap, &[])?.silent()?;
    gc(room, "bridge", &bridge, &[])?.silent()?;
    ensure_gone(&records, "after GC without the attachment")?;
    ensure!(snapshot::rules()?.len() < rules.len(), "{:?}", snapshot::rules()?);
    Ok(())
}

/// No link of the host shows that such a container is alive, so its record does.
fn alive(room: &Room) -> Result<()> {
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let (c1, previous) = linked(room, "c1")?;
    call(room, "portmap", "ADD", &c1, &portmap(ports.clone(), &previous))?.result()?;
    let (c2, previous) = linked(room, "c2")?;
    let second = portmap(ports, &previous);
    let records = renew("/run/moor/intent")?;
    call(room, "portmap", "ADD", &c2, &second)?.error_with(999, "moor/net/eth0/c1")?;
    ensure_there(&records, "after another's ADD")?;
    room.remove(&c1)?;
    call(room, "portmap", "ADD", &c2, &second)?.result().context("its container is gone")?;
    Ok(())
}

fn settings(room: &Room) -> Result<()> {
    let (c1, previous) = linked(room, "c1")?;
    let config = tuning(&previous, json!({"mtu": 1400, "mac": "02:00:00:00:00:aa"}));
    call(room, "tuning", "ADD", &c1, &config)?.result()?;
    let records = renew("/run/moor/tuning")?;
    // The wrong network's DEL, after its ADD was refused.
    let other = room.attach("tuning", "DEL", &c1).config(&with(&config, json!({"name": "other"}))).run()?;
    other.silent()?;
    ensure_named(&other, &records)?;
    let answer = gc(room, "tuning", &config, &["c1"])?;
    answer.silent()?;
    ensure_named(&answer, &records)?;
    ensure_there(&records, "after GC and another network's DEL")?;
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    ensure!(link["mtu"] == 1400, "{link}");
    let answer = call(room, "tuning", "DEL", &c1, &config)?;
    answer.silent()?;
    ensure_named(&answer, &records)?;
    ensure_gone(&records, "after DEL")?;
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    ensure!(link["mtu"] == 1500 && link["address"] == MAC, "it is not set back: {link}");
    Ok(())
}

fn device(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = host_device::network(&json!({}));
    let (c1, _) = attach(room, "host-device", "c1", &config)?;
    let records = renew("/run/moor/device")?;
    let status = room.call("host-device", "STATUS").config(&with(&config, json!({"cniVersion": "1.1.0"})));
    ensure_named(&status.run()?, &records)?;
    ensure_there(&records, "after STATUS")?;
    let answer = call(room, "host-device", "DEL", &c1, &config)?;
    answer.silent()?;
    ensure_named(&answer, &records)?;
    ensure_gone(&records, "after DEL")?;
    let link = ip::link(None, "wan0")?.context("the host has lost its device")?;
    ensure!(link["ifalias"].is_null(), "{link}");
    Ok(())
}

fn names(room: &Room) -> Result<()> {
    let web = Named::add(room, "c1", "web", json!({}))?;
    let records = renew("/run/moor/dns")?;
    let newer = with(&web.config, json!({"cniVersion": "1.1.0"}));
    let status = room.call("dns", "STATUS").config(&newer).run()?;
    status.error_with(51, NAMED)?;
    ensure_named(&status, &records)?;
    let check = web.verb(room, "CHECK")?;
    ensure!(check.error()?.msg.contains(NAMED), "{}", check.summary());
    gc(room, "dns", &newer, &["c1"])?.silent()?;
    ensure_there(&records, "after GC")?;
    let answer = web.verb(room, "DEL")?;
    answer.silent()?;
    ensure!(answer.stderr.contains(NAMED) && answer.stderr.contains("c1"), "{}", answer.summary());
    ensure_gone(&records, "after DEL")
}

fn lease(room: &Room) -> Result<()> {
    let server = dhcp::server(room, &Offer::default())?;
    let config = dhcp::config(&json!({}));
    let c1 = room.container("c1")?;
    call(room, "macvlan", "ADD", &c1, &config)?.result()?;
    let records = renew("/run/moor/dhcp")?;
    let previous = json!({"cniVersion": USUAL, "ips": []});
    let check = call(room, "dhcp", "CHECK", &c1, &with(&config, json!({"prevResult": previous})))?;
    check.error()?;
    ensure_named(&check, &records)?;
    let answer = gc(room, "dhcp", &config, &["c1"])?;
    answer.silent()?;
    ensure_named(&answer, &records)?;
    ensure_there(&records, "after GC")?;
    let answer = call(room, "macvlan", "DEL", &c1, &config)?;
    answer.silent()?;
    ensure_named(&answer, &records)?;
    ensure_gone(&records, "after DEL")?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "DEL left the link");
    // Only its end frees what nobody could release.
    until("the server has the lease still", || Ok(server.addresses()?.len() == 1))
}

/// Such a chain leads to a map that goes with the last published port.
fn layout(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let (c1, bridge, portmap) = published(room, "c1", 8080)?;
    for words in [
        "add chain inet moor published-quux { type filter hook input priority -301; policy accept; }",
        "add rule inet moor published-quux iifname @localnet ip daddr 127.0.0.0/8 drop",
    ] {
        ip::output("nft", &[words])?;
    }
    for (plugin, config) in [("portmap", &portmap), ("bridge", &bridge)] {
        call(room, plugin, "DEL", &c1, config)?.silent()?;
    }
    room.ensure_nothing_left(&before, &["c1"])
}

fn boot(room: &Room) -> Result<()> {
    const RECORD: &str = "/var/lib/cni/networks/.moor/net.boot";
    let config = host_local::ranges(json!([[{"subnet": "10.0.0.0/28"}]]));
    host_local::add(room, "c1", &config)?.result()?;
    let text = fs::read_to_string(RECORD)?;
    let newer = format!("v 2\n{text}quux\n");
    fs::write(RECORD, &newer)?;
    let id = room.write("boot_id", "00000000-0000-4000-9000-0000000000ff\n")?;
    let target = "/proc/sys/kernel/random/boot_id";
    mount(Some(&id), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("cover the boot id")?;
    fs::remove_dir_all("/run/moor").ok();
    let answer = host_local::add(room, "c2", &config)?;
    answer.result()?;
    ensure_named(&answer, &[PathBuf::from(RECORD)])?;
    let leases = store::addresses("/var/lib/cni/networks/net")?;
    ensure!(leases.len() == 2, "{leases:?}");
    for id in ["c2", "c1"] {
        host_local::attach(room, "DEL", id, &config)?.silent()?;
    }
    let left = store::addresses("/var/lib/cni/networks/net")?;
    ensure!(left.is_empty(), "DEL left {left:?}");
    // It may be of other machines, too.
    ensure!(fs::read_to_string(RECORD).is_ok_and(|text| text == newer), "it was changed or removed");
    Ok(())
}
