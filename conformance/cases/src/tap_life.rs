//! `tap`: whose device it is, DEL in any state, and what a failed or killed ADD leaves.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{add, check, refused};
use serde_json::{Value, json};

use crate::tap::{device, layer2_tap, tap};

const TAP: &[Need] = &[Need::Tap];
const TRACED: &[Need] = &[Need::Tap, Need::Strace];

pub const CASES: &[Case] = &[
    Case::new("tap/a_taken_name_is_an_error_and_the_interface_stays", &["C-047", "TA-B1"], taken).needs(TAP),
    Case::new("tap/a_failed_add_leaves_nothing", &["C-085", "TA-B3"], failed).needs(TAP),
    Case::new("tap/a_killed_add_leaves_no_incomplete_device", &["TA-R3"], killed).needs(TRACED),
    Case::new("tap/no_program_is_executed", &["TA-R1"], alone).needs(TRACED),
    Case::new("tap/del_matrix", &["C-042", "C-113", "C-114", "TA-3"], del_matrix).needs(TAP),
    Case::new("tap/del_succeeds_with_invalid_keys_and_arguments", &["TA-B4"], del_broken).needs(TAP),
    Case::new("tap/del_removes_the_device_under_any_name", &["TA-L1"], renamed).needs(TAP),
    Case::new("tap/del_keeps_devices_of_others", &["TA-L1"], others).needs(TAP),
    Case::new("tap/del_removes_the_references_device_by_prev_result", &["TA-L2"], remembered).needs(TAP),
    Case::new("tap/gc_releases_leases", &["C-045"], gc).needs(TAP),
];

const LEASES: &str = "/var/lib/cni/networks/vm";

fn del(room: &Room, container: &Container, config: &Value) -> Result<()> {
    room.attach("tap", "DEL", container).config(config).run()?.silent()
}

/// The container's links but `lo`.
fn links(id: &str) -> Result<Vec<String>> {
    Ok(ip::links(Some(id))?.into_iter().filter(|name| name != "lo").collect())
}

fn taken(room: &Room) -> Result<()> {
    let config = tap(&json!({}));
    for (id, other) in [
        ("c1", "link add eth0 type bridge"),
        ("c2", "tuntap add mode tap name eth0 user 4109"),
        ("c3", "tuntap add mode tun name eth0"),
    ] {
        let container = room.container(id)?;
        ip::script(Some(id), other)?;
        let before = room.snapshot_in(&container)?;
        refused(room, "tap", &container, &config, "file exists")?;
        del(room, &container, &config)?;
        let after = room.snapshot_in(&container)?;
        ensure!(before == after, "{other}: {before:?} before, {after:?} after");
    }
    // Two attachments of one name: the second fails, and its DEL keeps the first.
    let (container, result) = add(room, "tap", "c4", &config)?;
    let second = with(&config, json!({"name": "second"}));
    refused(room, "tap", &container, &second, "file exists")?;
    del(room, &container, &second)?;
    check(room, "tap", &container, &config, &result)?.silent()
}

fn failed(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let ranges = json!([[{"subnet": "10.83.0.0/24"}]]);
    let route = json!([{"dst": "0.0.0.0/0", "gw": "203.0.113.1"}]);
    let unroutable = json!({"type": "host-local", "ranges": ranges, "routes": route});
    refused(room, "tap", &container, &tap(&json!({"ipam": unroutable})), "failed to add route")?;
    refused(room, "tap", &container, &tap(&json!({"ipam": {"type": "none-such"}})), "none-such")?;
    refused(room, "tap", &container, &tap(&json!({"mtu": 1000})), "IPv6 needs at least 1280")?;
    ensure!(links("c1")?.is_empty(), "{:?}", links("c1")?);
    add(room, "tap", "c2", &tap(&json!({}))).map(drop)
}

/// At each of its ioctls: until the device is persistent, it goes with the process.
fn killed(room: &Room) -> Result<()> {
    let config = layer2_tap(&json!({"owner": 4107, "group": 4107, "mtu": 1400}));
    let container = room.container("c1")?;
    for nth in 1..40 {
        let inject = format!("inject=ioctl:signal=SIGKILL:when={nth}");
        let words = ["strace", "-f", "-qq", "-e", "trace=ioctl", "-e", &inject, "-o", "/dev/null"];
        let answer = room.attach("tap", "ADD", &container).config(&config).under(&words).run()?;
        if answer.succeeded() {
            ensure!(nth > 4, "ADD makes only {nth} ioctls");
            ensure!(device("c1")?["mtu"] == 1400, "{}", device("c1")?);
            return del(room, &container, &config);
        }
        ensure!(links("c1")?.is_empty(), "killed at ioctl {nth}: {:?}", links("c1")?);
    }
    anyhow::bail!("ADD does not end")
}

fn alone(room: &Room) -> Result<()> {
    let log = room.scratch("strace");
    let out = log.display().to_string();
    let container = room.container("c1")?;
    for keys in [json!({}), json!({"owner": 4107, "group": 4107}), json!({"owner": 4107, "mtu": 1400})] {
        let config = layer2_tap(&keys);
        let words = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", &out, "env", "PATH=/nowhere"];
        let call = room.attach("tap", "ADD", &container).config(&config).under(&words);
        call.run()?.result()?;
        let text = std::fs::read_to_string(&log)?;
        let programs = text.lines().filter(|line| line.contains("execve(") && line.ends_with("= 0"));
        ensure!(programs.count() == 2, "{keys}: env, the plugin, and more: {text}");
        del(room, &container, &config)?;
    }
    Ok(())
}

fn del_matrix(room: &Room) -> Result<()> {
    let config = tap(&json!({}));
    for (nth, state) in ["fine", "unset", "gone", "plain file"].into_iter().enumerate() {
        let id = format!("c{nth}");
        let (container, result) = add(room, "tap", &id, &config)?;
        let file = room.write("plain", "no namespace")?;
        for (time, previous) in [("once", true), ("twice", false)] {
            let config = if previous { with(&config, json!({"prevResult": result})) } else { config.clone() };
            let call = room.attach("tap", "DEL", &container).config(&config);
            let call = match state {
                "unset" => call.unset("CNI_NETNS"),
                "plain file" => call.env("CNI_NETNS", &file),
                _ => call,
            };
            if state == "gone" && time == "once" {
                room.remove(&container)?;
            }
            call.run()?.silent().with_context(|| format!("{state}, {time}"))?;
        }
        let left = harness::store::addresses(LEASES)?;
        ensure!(left.is_empty(), "{state}: leases {left:?}");
        ensure!(state != "fine" || links(&id)?.is_empty(), "{:?}", links(&id)?);
    }
    Ok(())
}

fn del_broken(room: &Room) -> Result<()> {
    let config = tap(&json!({}));
    let before = room.snapshot()?;
    let (container, _) = add(room, "tap", "c1", &config)?;
    let keys =
        json!({"mtu": -5, "mac": "zz", "owner": "me", "multiQueue": 7, "selinuxContext": 5, "bridge": []});
    let call = room.attach("tap", "DEL", &container).config(&with(&config, keys)).env("CNI_ARGS", "x=1");
    call.run()?.silent()?;
    ensure!(links("c1")?.is_empty(), "{:?}", links("c1")?);
    room.ensure_nothing_left(&before, &["c1"])
}

fn renamed(room: &Room) -> Result<()> {
    let config = tap(&json!({}));
    for (id, disguise) in [
        ("c1", "link set eth0 down\n link set eth0 name vnet0"),
        ("c2", "link set eth0 alias moor/other/eth0/c9"),
        ("c3", "link set eth0 address 02:00:00:00:00:77"),
    ] {
        let (container, _) = add(room, "tap", id, &config)?;
        ip::script(Some(id), disguise)?;
        del(room, &container, &config)?;
        ensure!(links(id)?.is_empty(), "{disguise}: {:?}", links(id)?);
    }
    Ok(())
}

fn others(room: &Room) -> Result<()> {
    let config = tap(&json!({}));
    // A device that the container made itself, before and after the attachment.
    let container = room.container("c1")?;
    ip::run_in("c1", &["tuntap", "add", "mode", "tap", "name", "own0"])?;
    room.attach("tap", "ADD", &container).config(&config).run()?.result()?;
    del(room, &container, &config)?;
    ensure!(links("c1")? == ["own0"], "{:?}", links("c1")?);
    ip::run_in("c1", &["link", "set", "own0", "name", "eth0"])?;
    del(room, &container, &config)?;
    ensure!(links("c1")? == ["eth0"], "a device without a label: {:?}", links("c1")?);
    // Another attachment of the container.
    let second = room.attach("tap", "ADD", &container).env("CNI_IFNAME", "net1").config(&config);
    let result = second.run()?.result()?;
    del(room, &container, &config)?;
    ensure!(links("c1")? == ["eth0", "net1"], "{:?}", links("c1")?);
    let call = room.attach("tap", "CHECK", &container).env("CNI_IFNAME", "net1");
    call.config(&with(&config, json!({"prevResult": result}))).run()?.silent()
}

fn remembered(room: &Room) -> Result<()> {
    let config = layer2_tap(&json!({}));
    let container = room.container("c1")?;
    ip::script(
        Some("c1"),
        "tuntap add mode tap name eth0
         link set eth0 address 02:00:00:00:00:44",
    )?;
    let previous = |mac: &str| {
        let interfaces = json!([{"name": "eth0", "mac": mac, "sandbox": container.path}]);
        with(&config, json!({"prevResult": {"cniVersion": config["cniVersion"], "interfaces": interfaces}}))
    };
    del(room, &container, &previous("02:00:00:00:00:45"))?;
    ensure!(links("c1")? == ["eth0"], "DEL took another device: {:?}", links("c1")?);
    del(room, &container, &previous("02:00:00:00:00:44"))?;
    ensure!(links("c1")?.is_empty(), "{:?}", links("c1")?);
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    let config = tap(&json!({"cniVersion": "1.1.0"}));
    add(room, "tap", "c1", &config)?;
    let (gone, _) = add(room, "tap", "c2", &config)?;
    room.remove(&gone)?;
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]});
    room.call("tap", "GC").config(&with(&config, valid)).run()?.silent()?;
    let left = harness::store::addresses(LEASES)?;
    ensure!(left == ["10.83.0.2", "2001:db8:83::2"], "leases after GC: {left:?}");
    Ok(())
}
