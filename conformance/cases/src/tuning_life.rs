//! tuning: what is set back, by whom, and what stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::lan::{add as attach, refused};
use harness::stage::tuning::{DIR, MAC, everything, kept, linked, tuning};
use harness::strace::victim::Victim;
use serde_json::{Value, json};

use crate::host_device::network;
use crate::tuning::{add, check, del, eth0, has};

pub const CASES: &[Case] = &[
    Case::new("tuning/del_sets_everything_back", &["TU-3", "TU-R1", "TU-K7"], set_back),
    Case::new("tuning/a_second_add_keeps_the_first_backup", &["TU-B2"], twice),
    Case::new("tuning/a_failed_add_changes_nothing", &["C-047", "TU-B3"], failed),
    Case::new("tuning/del_matrix", &["C-042", "C-113", "C-114", "TU-3", "TU-B4"], del_matrix),
    Case::new("tuning/del_follows_a_renamed_link", &["TU-R1"], renamed),
    Case::new("tuning/a_parameter_of_two_attachments", &["TU-R2"], shared),
    Case::new("tuning/a_new_container_gets_nothing_of_a_dead_one", &["TU-R4"], reborn),
    Case::new("tuning/each_suite_sets_back_the_others_changes", &["TU-R6"], mutual).needs(&[Need::Reference]),
    Case::new("tuning/gc_sets_back_dead_attachments", &["C-045", "TU-R7"], gc),
    Case::new("tuning/del_of_another_network_keeps_the_settings", &["TU-R8"], other_network),
    Case::new("tuning/a_device_goes_back_as_it_was", &["TU-R9"], device),
    Case::new("tuning/add_killed_at_any_step_is_set_back", &["TU-R3"], |room| killed(room, "ADD"))
        .needs(&[Need::Strace]),
    Case::new("tuning/del_killed_at_any_step_is_set_back", &["TU-R3"], |room| killed(room, "DEL"))
        .needs(&[Need::Strace]),
];

const BACKUP: &str = "/run/cni/tuning/c1_eth0.json";

fn ensure_as_before(room: &Room, container: &Container, before: &[String]) -> Result<()> {
    let after = room.snapshot_in(container)?;
    ensure!(after == before, "changed: {:?}", harness::diff::lines(before, &after));
    let somaxconn = room.sysctl(&container.id, "net/core/somaxconn")?;
    ensure!(somaxconn == "4096", "net.core.somaxconn is {somaxconn}");
    ensure!(kept().is_empty(), "{:?}", kept());
    Ok(())
}

/// A container whose parameters are known.
fn staged(room: &Room, id: &str) -> Result<(Container, Value, Vec<String>)> {
    let (container, previous) = linked(room, id)?;
    room.inside(id, || Ok(fs::write("/proc/sys/net/core/somaxconn", "4096")?))?;
    let before = room.snapshot_in(&container)?;
    Ok((container, previous, before))
}

fn set_back(room: &Room) -> Result<()> {
    let (container, previous, before) = staged(room, "c1")?;
    let config = tuning(&previous, everything());
    let result = add(room, &container, &config)?;
    let backup: Value = serde_json::from_slice(&fs::read(BACKUP)?)?;
    let expected = json!({"mac": MAC, "promisc": false, "mtu": 1500, "allmulti": false, "txQLen": 1000});
    ensure!(backup == expected, "{backup}");
    let mode = |path: &str| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o077) };
    ensure!(mode(BACKUP)? == 0 && mode(DIR)? == 0, "open to others");
    del(room, &container, &with(&config, json!({"prevResult": result})))?;
    ensure_as_before(room, &container, &before)?;
    // In the reverse order: the second parameter changes the first.
    let keys = json!({"sysctl": {"net.ipv4.conf.far0.forwarding": "0", "net.ipv4.ip_forward": "1"}});
    let config = tuning(&previous, keys);
    room.inside("c1", || Ok(fs::write("/proc/sys/net/ipv4/conf/far0/forwarding", "1")?))?;
    let before = room.snapshot_in(&container)?;
    add(room, &container, &config)?;
    del(room, &container, &config)?;
    ensure_as_before(room, &container, &before)?;
    // Elsewhere, and nothing if only parameters are set.
    let config = tuning(&previous, json!({"mtu": 1400, "dataDir": "/run/elsewhere"}));
    add(room, &container, &config)?;
    ensure!(Path::new("/run/elsewhere/c1_eth0.json").exists() && !Path::new(BACKUP).exists());
    // Whatever the configuration says by then.
    del(room, &container, &tuning(&previous, json!({"mtu": 1300})))?;
    ensure_as_before(room, &container, &before)
}

fn twice(room: &Room) -> Result<()> {
    let (container, previous, before) = staged(room, "c1")?;
    add(room, &container, &tuning(&previous, everything()))?;
    let first = fs::read(BACKUP)?;
    let keys = json!({"mac": "02:00:00:00:00:BB", "mtu": 1300,
                      "sysctl": {"net.core.somaxconn": "600", "net.ipv4.tcp_ecn": "1"}});
    add(room, &container, &tuning(&previous, keys.clone()))?;
    ensure!(eth0("c1")?["mtu"] == 1300 && room.sysctl("c1", "net/core/somaxconn")? == "600");
    ensure!(fs::read(BACKUP)? == first, "the backup is {}", String::from_utf8_lossy(&fs::read(BACKUP)?));
    // A third one that fails goes back to the second, not further.
    let bad = with(
        &keys,
        json!({"mtu": 1200, "sysctl": {"net.core.somaxconn": "700", "net.ipv4.ip_forward": "x"}}),
    );
    refused(room, "tuning", &container, &tuning(&previous, bad), "net/ipv4/ip_forward=x")?;
    ensure!(eth0("c1")?["mtu"] == 1300 && room.sysctl("c1", "net/core/somaxconn")? == "600");
    del(room, &container, &tuning(&previous, keys))?;
    ensure!(room.sysctl("c1", "net/ipv4/tcp_ecn")? == "2");
    ensure_as_before(room, &container, &before)
}

fn failed(room: &Room) -> Result<()> {
    let (container, previous, before) = staged(room, "c1")?;
    let keys = json!({"mac": "02:00:00:00:00:AA", "mtu": 1400, "promisc": true,
                      "sysctl": {"net.core.somaxconn": "500", "net.ipv4.ip_forward": "x"}});
    refused(room, "tuning", &container, &tuning(&previous, keys), "net/ipv4/ip_forward=x")?;
    ensure_as_before(room, &container, &before)?;
    let keys = json!({"mtu": 1400, "sysctl": {"net.core.somaxconn": "500"}});
    let call =
        room.attach("tuning", "ADD", &container).env("CNI_IFNAME", "eth7").config(&tuning(&previous, keys));
    call.run()?.error()?;
    ensure_as_before(room, &container, &before)
}

fn del_matrix(room: &Room) -> Result<()> {
    for (nth, state) in ["fine", "unset", "gone", "plain file", "no link"].into_iter().enumerate() {
        let id = format!("c{nth}");
        let (container, previous) = linked(room, &id)?;
        let config = tuning(&previous, everything());
        let result = add(room, &container, &config)?;
        let file = room.write("plain", "no namespace")?;
        match state {
            "gone" => room.remove(&container)?,
            "no link" => ip::run_in(&id, &["link", "del", "eth0"])?,
            _ => {}
        }
        for config in [
            with(&config, json!({"prevResult": result})),
            json!({"cniVersion": USUAL, "name": "net", "type": "tuning", "mtu": "x", "sysctl": 5, "prevResult": 7}),
        ] {
            let call = room.attach("tuning", "DEL", &container).config(&config).env("CNI_ARGS", "X=1");
            let call = match state {
                "unset" => call.unset("CNI_NETNS"),
                "plain file" => call.env("CNI_NETNS", &file),
                _ => call,
            };
            call.run()?.silent().with_context(|| state.to_owned())?;
            ensure!(kept().is_empty(), "{state}: {:?}", kept());
        }
        if matches!(state, "fine" | "unset") {
            // The record knows where the namespace is.
            ensure!(eth0(&id)?["mtu"] == 1500 && eth0(&id)?["address"] == MAC, "{state}: {}", eth0(&id)?);
        }
    }
    Ok(())
}

fn renamed(room: &Room) -> Result<()> {
    let (container, previous, before) = staged(room, "c1")?;
    let config = tuning(&previous, everything());
    add(room, &container, &config)?;
    // Another link has its name by then.
    ip::script(
        Some("c1"),
        "link set eth0 down\n link set eth0 name moved\n link set moved up
         link add eth0 type veth peer name far1",
    )?;
    room.inside("c1", || Ok(fs::write("/proc/sys/net/ipv4/conf/eth0/arp_filter", "1")?))?;
    del(room, &container, &config)?;
    ensure!(room.sysctl("c1", "net/ipv4/conf/moved/arp_filter")? == "0");
    ensure!(room.sysctl("c1", "net/ipv4/conf/eth0/arp_filter")? == "1", "another link's parameter changed");
    ip::script(
        Some("c1"),
        "link del eth0\n link set moved down\n link set moved name eth0\n link set eth0 up",
    )?;
    ensure_as_before(room, &container, &before)
}

fn shared(room: &Room) -> Result<()> {
    for order in [["eth0", "eth1"], ["eth1", "eth0"]] {
        let (container, previous, before) = staged(room, "c1")?;
        ip::script(Some("c1"), "link add eth1 type veth peer name far1")?;
        let config = |ifname: &str, value: &str| {
            tuning(
                &previous,
                json!({"name": format!("of-{ifname}"), "sysctl": {"net.core.somaxconn": value}}),
            )
        };
        let call = |verb: &str, ifname: &str, value: &str| {
            room.attach("tuning", verb, &container)
                .env("CNI_IFNAME", ifname)
                .config(&config(ifname, value))
                .run()
        };
        call("ADD", "eth0", "500")?.result()?;
        call("ADD", "eth1", "600")?.result()?;
        let now = || room.sysctl("c1", "net/core/somaxconn");
        ensure!(now()? == "600", "the latest one's counts");
        call("CHECK", "eth0", "500")?.silent()?;
        call("CHECK", "eth1", "600")?.silent()?;
        let [first, second] = order;
        call("DEL", first, "0")?.silent()?;
        let left = if second == "eth0" { "500" } else { "600" };
        ensure!(now()? == left, "after DEL of {first}: {}", now()?);
        call("CHECK", second, left)?.silent()?;
        call("DEL", second, "0")?.silent()?;
        ip::script(Some("c1"), "link del eth1")?;
        ensure_as_before(room, &container, &before).with_context(|| format!("{order:?}"))?;
        room.remove(&container)?;
    }
    Ok(())
}

fn reborn(room: &Room) -> Result<()> {
    let (dead, previous, _) = staged(room, "c1")?;
    add(room, &dead, &tuning(&previous, everything()))?;
    room.remove(&dead)?;
    let (container, previous, _) = staged(room, "c1")?;
    ip::script(Some("c1"), "link set eth0 mtu 1480 address 02:00:00:00:00:02")?;
    room.inside("c1", || Ok(fs::write("/proc/sys/net/core/somaxconn", "128")?))?;
    // By DEL alone, which comes late, and by ADD and DEL.
    let config = tuning(&previous, json!({"mtu": 1300, "sysctl": {"net.core.somaxconn": "300"}}));
    for verbs in [&["DEL"][..], &["ADD", "DEL"]] {
        for verb in verbs {
            room.attach("tuning", verb, &container).config(&config).run()?;
        }
        let link = eth0("c1")?;
        ensure!(link["mtu"] == 1480 && link["address"] == "02:00:00:00:00:02", "{verbs:?}: {link}");
        ensure!(room.sysctl("c1", "net/core/somaxconn")? == "128" && kept().is_empty(), "{verbs:?}");
    }
    Ok(())
}

fn theirs(room: &Room, verb: &str, container: &Container, config: &Value) -> Result<()> {
    let call = Call::new(room, room.reference.join("tuning")).env("CNI_COMMAND", verb);
    let call =
        call.env("CNI_CONTAINERID", &container.id).env("CNI_IFNAME", "eth0").env("CNI_PATH", &room.reference);
    let answer = call.env("CNI_NETNS", &container.path).config(config).run()?;
    if verb == "ADD" { answer.result().map(drop) } else { answer.silent() }
}

fn mutual(room: &Room) -> Result<()> {
    let (container, previous, before) = staged(room, "c1")?;
    let keys = json!({"mac": "02:00:00:00:00:AA", "mtu": 1400, "promisc": true, "allmulti": true});
    let config = tuning(&previous, keys);
    theirs(room, "ADD", &container, &config)?;
    check(room, &container, &config, &previous)?.silent()?;
    del(room, &container, &config)?;
    ensure_as_before(room, &container, &before).context("ours after theirs")?;
    add(room, &container, &config)?;
    theirs(room, "DEL", &container, &config)?;
    // Its runtime does not call ours, but a GC or another ADD may come later.
    del(room, &container, &config)?;
    ensure_as_before(room, &container, &before).context("theirs after ours")?;
    // It leaves its backup when the container is gone; ours does not.
    theirs(room, "ADD", &container, &config)?;
    room.remove(&container)?;
    del(room, &container, &config)?;
    ensure!(kept().is_empty(), "{:?}", kept());
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    let network = |name: &str, previous: &Value| {
        with(
            &tuning(previous, everything()),
            json!({"name": name, "cniVersion": "1.1.0", "prevResult": with(previous, json!({"cniVersion": "1.1.0"}))}),
        )
    };
    let mut containers = Vec::new();
    for (id, name) in [("stale", "net"), ("dead", "net"), ("valid", "net"), ("other", "other")] {
        let (container, previous) = linked(room, id)?;
        add(room, &container, &network(name, &previous))?;
        containers.push(container);
    }
    room.remove(&containers[1])?;
    let config = |keys: Value| with(&json!({"cniVersion": "1.1.0", "name": "net", "type": "tuning"}), keys);
    let mtus = || -> Result<Vec<Value>> {
        ["stale", "valid", "other"].iter().map(|id| Ok(eth0(id)?["mtu"].clone())).collect()
    };
    // Without a list, nothing may go.
    room.call("tuning", "GC").config(&config(json!({}))).run()?.silent()?;
    ensure!(mtus()? == [1400, 1400, 1400] && kept().len() == 8, "{:?}", kept());
    let valid =
        json!([{"containerID": "valid", "ifname": "eth0"}, {"containerID": "other", "ifname": "eth0"}]);
    room.call("tuning", "GC").config(&config(json!({"cni.dev/valid-attachments": valid}))).run()?.silent()?;
    ensure!(mtus()? == [1500, 1400, 1400] && kept().len() == 4, "{:?}, {:?}", mtus()?, kept());
    ensure!(eth0("stale")?["address"] == MAC, "{}", eth0("stale")?);
    room.call("tuning", "GC").config(&config(json!({"cni.dev/valid-attachments": []}))).run()?.silent()?;
    ensure!(mtus()? == [1500, 1500, 1400] && kept().len() == 2, "{:?}, {:?}", mtus()?, kept());
    Ok(())
}

fn other_network(room: &Room) -> Result<()> {
    let (container, previous) = attach(room, "bridge", "c1", &bridge(USUAL))?;
    let config = tuning(&previous, everything());
    let result = add(room, &container, &config)?;
    // A second network for the same interface: its ADD fails before tuning, and its DEL comes.
    let second = with(&config, json!({"name": "second", "prevResult": null}));
    del(room, &container, &second)?;
    check(room, &container, &config, &result)?.silent()?;
    // The network under a new name, with what the runtime remembers.
    del(room, &container, &with(&config, json!({"name": "renamed", "prevResult": result})))?;
    ensure!(eth0("c1")?["mtu"] == 1500 && kept().is_empty(), "{:?}", kept());
    Ok(())
}

/// The link stays, on the host.
fn device(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::run(&["link", "set", "wan0", "txqueuelen", "777"])?;
    let before = ip::link(None, "wan0")?.context("no wan0")?;
    let (container, previous) = attach(room, "host-device", "c1", &network(&json!({})))?;
    let config = tuning(&previous, everything());
    let result = add(room, &container, &config)?;
    ensure!(result["interfaces"][0]["mac"] == "02:00:00:00:00:aa", "{result}");
    del(room, &container, &config)?;
    room.attach("host-device", "DEL", &container).config(&network(&json!({}))).run()?.silent()?;
    let after = ip::link(None, "wan0")?.context("no wan0")?;
    for key in ["address", "mtu", "txqlen"] {
        ensure!(before[key] == after[key], "{key}: {} before, {} after", before[key], after[key]);
    }
    ensure!(!has(&after, "PROMISC") && !has(&after, "ALLMULTI"), "{after}");
    Ok(())
}

fn killed(room: &Room, verb: &'static str) -> Result<()> {
    let (container, previous, before) = staged(room, "c1")?;
    let config = tuning(&previous, everything());
    let victim = Victim { room, plugin: "tuning", verb, container: &container, config: &config };
    let steps = victim.killed_at_each(|| ensure_as_before(room, &container, &before))?;
    ensure!(steps > 5, "only {steps} steps");
    Ok(())
}
