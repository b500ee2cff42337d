//! host-device: how the device comes back, whatever happens to it.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::fake::Fake;
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::lan::{add, refused};
use harness::store;
use harness::strace::victim::Victim;
use serde_json::{Value, json};

use crate::host_device::network;

pub const CASES: &[Case] = &[
    Case::new("host_device/del_returns_everything", &["HD-4", "HD-K8"], everything),
    Case::new("host_device/restoring_addresses_can_be_declined", &["HD-K8"], without_addresses),
    Case::new("host_device/a_failed_add_returns_everything", &["HD-B1", "C-085"], failed_add),
    Case::new("host_device/del_succeeds_whatever_is_missing", &["HD-B2", "HD-B3", "C-042"], missing),
    Case::new("host_device/del_completes_what_the_kernel_returned", &["HD-B4"], |room| returned(room, "DEL")),
    Case::new("host_device/gc_completes_what_the_kernel_returned", &["HD-B4"], |room| returned(room, "GC")),
    Case::new("host_device/status_completes_what_the_kernel_returned", &["HD-B4"], |room| {
        returned(room, "STATUS")
    }),
    Case::new("host_device/add_completes_what_the_kernel_returned", &["HD-B4"], |room| returned(room, "ADD")),
    Case::new("host_device/del_finds_a_disguised_device", &["HD-R1"], disguised),
    Case::new("host_device/del_refuses_a_link_in_the_devices_place", &["HD-R9"], replaced),
    Case::new("host_device/a_taken_name_is_waited_for", &["HD-R2"], taken),
    Case::new("host_device/each_suite_returns_the_others_devices", &["HD-R3"], mutual)
        .needs(&[Need::Reference]),
    Case::new("host_device/del_of_another_network_keeps_the_device", &["HD-R5"], other_network),
    Case::new("host_device/gc_returns_the_devices_of_dead_attachments", &["HD-R8", "C-045"], gc),
    Case::new("host_device/an_unreadable_record_loses_nothing", &["HD-R10"], unreadable),
    Case::new("host_device/add_killed_at_any_step_loses_nothing", &["HD-R6"], |room| killed(room, "ADD")),
    Case::new("host_device/del_killed_at_any_step_loses_nothing", &["HD-R6"], |room| killed(room, "DEL")),
];

/// A device with everything that an administrator can have set on it.
fn staged(room: &Room) -> Result<Vec<String>> {
    room.outside(&[])?;
    ip::script(
        None,
        "link set wan0 mtu 1450 alias rack7
         link set wan0 alias rack7-port3
         addr add 198.51.100.7/32 dev wan0 scope link
         addr add 10.99.0.1 peer 10.99.0.2/32 dev wan0
         route add 203.0.113.0/24 via 198.51.100.2 metric 50 mtu 1300
         route add 192.0.2.0/24 dev wan0 src 198.51.100.1 table 77
         -6 route add 2001:db8:77::/64 via 2001:db8:ff::2",
    )?;
    state()
}

/// The device on the host: link, addresses, routes.
fn state() -> Result<Vec<String>> {
    let link = ip::link(None, "wan0")?.context("the host has no wan0")?;
    let mut state: Vec<String> =
        ["ifname", "ifindex", "address", "mtu", "ifalias"].map(|key| format!("{key} {}", link[key])).into();
    let up = link["flags"].as_array().is_some_and(|flags| flags.contains(&json!("UP")));
    state.push(format!("up {up}"));
    for row in ip::rows(None, &["addr", "show", "dev", "wan0"])? {
        for info in row["addr_info"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|info| info["scope"] != "link" || info["family"] == "inet")
        {
            let keys = ["local", "prefixlen", "address", "broadcast", "scope", "label"];
            state.push(keys.map(|key| info[key].to_string()).join(" "));
        }
    }
    for family in ["-4", "-6"] {
        for row in ip::rows(None, &[family, "route", "show", "table", "all", "dev", "wan0"])? {
            if row["protocol"] != "kernel" && row["table"] != "local" {
                let keys = ["dst", "gateway", "metric", "table", "prefsrc", "metrics"];
                state.push(keys.map(|key| row[key].to_string()).join(" "));
            }
        }
    }
    state.sort();
    Ok(state)
}

fn ensure_back(expected: &[String], when: &str) -> Result<()> {
    let now = state().with_context(|| when.to_owned())?;
    ensure!(now == expected, "{when}: {now:#?}, before {expected:#?}");
    Ok(())
}

fn del(room: &Room, container: &Container, config: &Value) -> Result<()> {
    room.attach("host-device", "DEL", container).config(config).run()?.silent()
}

fn everything(room: &Room) -> Result<()> {
    let before = staged(room)?;
    let (container, _) = add(room, "host-device", "c1", &network(&json!({})))?;
    // What a chained plugin or the container may have done.
    ip::script(
        Some("c1"),
        "link set eth0 mtu 1400 address 02:00:00:00:00:77
         addr add 10.5.5.5/24 dev eth0",
    )?;
    del(room, &container, &network(&json!({})))?;
    ensure_back(&before, "after DEL")?;
    ensure!(ip::links(Some("c1"))? == ["lo"]);
    // One that was down stays down.
    ip::script(None, "link set wan0 down\nlink set wan0 alias \"\"")?;
    let before = state()?;
    let (container, _) = add(room, "host-device", "c2", &network(&json!({})))?;
    del(room, &container, &network(&json!({})))?;
    ensure_back(&before, "after DEL of a device that was down")
}

fn without_addresses(room: &Room) -> Result<()> {
    staged(room)?;
    let config = network(&json!({"restoreAddresses": false}));
    let (container, _) = add(room, "host-device", "c1", &config)?;
    del(room, &container, &config)?;
    let link = ip::link(None, "wan0")?.context("no wan0")?;
    ensure!(link["ifalias"] == "rack7-port3" && link["mtu"] == 1450, "{link}");
    ensure!(ip::addresses(None, "wan0")?.iter().all(|address| address.starts_with("fe80")));
    Ok(())
}

fn failed_add(room: &Room) -> Result<()> {
    let before = staged(room)?;
    let container = room.container("c1")?;
    let failing = Fake::new(
        room,
        "failing",
        r#"[ $CNI_COMMAND != ADD ] || { echo '{"code": 11, "msg": "none left"}'; exit 1; }"#,
    )?;
    let config = network(&json!({"ipam": {"type": failing.name()}}));
    let call = room.attach("host-device", "ADD", &container).config(&config).path_first(&failing.dir);
    call.run()?.error_with(11, "none left")?;
    ensure_back(&before, "after the IPAM plugin's failure")?;
    // An address that the kernel refuses, after the device moved.
    let config = network(&json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.7.0.0/24"}]],
                                          "routes": [{"dst": "10.8.0.0/16", "gw": "192.0.2.77"}]}}));
    refused(room, "host-device", &container, &config, "failed to add route")?;
    ensure_back(&before, "after a route's failure")?;
    ensure!(ip::links(Some("c1"))? == ["lo"]);
    Ok(())
}

fn missing(room: &Room) -> Result<()> {
    let before = staged(room)?;
    let config = network(&json!({}));
    let bare =
        json!({"cniVersion": "1.0.0", "name": "lan", "type": "host-device", "ipam": {"type": "host-local"}});
    for other in [
        config.clone(),
        bare.clone(),
        with(&bare, json!({"pciBusID": "0000:ff:00.0"})),
        with(&bare, json!({"device": 5, "kernelpath": "x", "runtimeConfig": {"deviceID": "gone"}})),
    ] {
        let (container, _) = add(room, "host-device", "c1", &config)?;
        for time in ["once", "twice"] {
            del(room, &container, &other).with_context(|| format!("{time}: {other}"))?;
            ensure_back(&before, time)?;
        }
        room.remove(&container)?;
        del(room, &container, &other).context("without its namespace")?;
    }
    let (container, _) = add(room, "host-device", "c1", &config)?;
    let call = room.attach("host-device", "DEL", &container).config(&config).env("CNI_NETNS", "");
    call.run()?.silent()?;
    ensure!(store::addresses("/var/lib/cni/networks/lan")?.is_empty(), "the lease is still there");
    Ok(())
}

/// What the kernel does with hardware when its namespace dies: it moves it to the initial one,
/// under its name there if that is free.
fn dies(room: &Room, container: &Container, name: &str) -> Result<()> {
    let host = std::process::id().to_string();
    ip::run_in(&container.id, &["link", "set", "eth0", "netns", &host, "name", name])?;
    room.remove(container)
}

fn returned(room: &Room, verb: &str) -> Result<()> {
    // The kernel lets an index change with a move alone.
    let unnumbered = |mut state: Vec<String>| {
        state.retain(|line| !line.starts_with("ifindex"));
        state
    };
    let before = unnumbered(staged(room)?);
    let ensure_back = |when: &str| -> Result<()> {
        let now = unnumbered(state().with_context(|| when.to_owned())?);
        ensure!(now == before, "{when}: {now:#?}, before {before:#?}");
        Ok(())
    };
    let config = network(&json!({"cniVersion": "1.1.0"}));
    for (nth, name) in ["eth0", "dev7"].into_iter().enumerate() {
        let (container, _) = add(room, "host-device", &format!("c{nth}"), &config)?;
        dies(room, &container, name)?;
        ensure!(ip::link(None, "wan0")?.is_none() && ip::link(None, name)?.is_some());
        match verb {
            "DEL" => del(room, &container, &config)?,
            "GC" => room
                .call("host-device", "GC")
                .config(&with(&config, json!({"cni.dev/valid-attachments": []})))
                .run()?
                .silent()?,
            "STATUS" => room.call("host-device", "STATUS").config(&config).run()?.silent()?,
            _ => {
                let (next, _) = add(room, "host-device", "next", &config)?;
                del(room, &next, &config)?;
                room.remove(&next)?;
            }
        }
        ensure_back(&format!("after {verb} of {name}"))?;
        del(room, &container, &config)?;
        ensure_back("after a later DEL")?;
    }
    let records = fs::read_dir("/run/moor/device")?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != ".lock");
    ensure!(records.count() == 0, "a record is still there");
    Ok(())
}

fn disguised(room: &Room) -> Result<()> {
    let before = staged(room)?;
    let (container, _) = add(room, "host-device", "c1", &network(&json!({})))?;
    ip::script(
        Some("c1"),
        "link set eth0 down
         link set eth0 name mine0 address 02:00:00:00:00:99 alias lo
         link add eth0 type veth peer name eth1",
    )?;
    del(room, &container, &network(&json!({})))?;
    ensure_back(&before, "after DEL")?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_some(), "DEL took the container's own link");
    Ok(())
}

/// The container hides the device in a namespace of its own, and puts another link in its place.
fn replaced(room: &Room) -> Result<()> {
    staged(room)?;
    let config = network(&json!({}));
    let (container, _) = add(room, "host-device", "c1", &config)?;
    let index = ip::link(Some("c1"), "eth0")?.context("no eth0")?["ifindex"].to_string();
    room.container("hidden")?;
    ip::run_in("c1", &["link", "set", "eth0", "netns", "hidden"])?;
    ip::run_in("c1", &["link", "add", "eth0", "index", &index, "type", "bridge"])?;
    ip::run_in("c1", &["link", "set", "eth0", "alias", "wan0"])?;
    del(room, &container, &config)?;
    ensure!(
        ip::link(Some("c1"), "eth0")?.is_some() && ip::link(None, "wan0")?.is_none(),
        "DEL took a forged link"
    );
    Ok(())
}

fn taken(room: &Room) -> Result<()> {
    let before = staged(room)?;
    let config = network(&json!({"cniVersion": "1.1.0"}));
    let (container, _) = add(room, "host-device", "c1", &config)?;
    // The container's name is taken on the host too.
    ip::script(None, "link add wan0 type bridge\nlink add eth0 type bridge")?;
    let answer = room.attach("host-device", "DEL", &container).config(&config).run()?;
    answer.silent()?;
    ensure!(answer.stderr.contains(r#"another link has the name "wan0""#), "{}", answer.stderr);
    ensure!(ip::links(Some("c1"))? == ["lo"], "it is still in the container");
    room.remove(&container)?;
    ensure!(ip::links(None)?.iter().any(|name| name.starts_with("moordev")), "{:?}", ip::links(None)?);
    room.call("host-device", "STATUS").config(&config).run()?.silent()?;
    ip::script(None, "link del wan0\nlink del eth0")?;
    room.call("host-device", "STATUS").config(&config).run()?.silent()?;
    ensure_back(&before, "when the name is free")
}

/// A call of the reference.
fn theirs(room: &Room, verb: &str, container: &Container, config: &Value) -> Result<()> {
    let call = Call::new(room, room.reference.join("host-device")).env("CNI_COMMAND", verb);
    let call = call.env("CNI_PATH", &room.reference).env("CNI_CONTAINERID", &container.id);
    let answer = call.env("CNI_IFNAME", "eth0").env("CNI_NETNS", &container.path).config(config).run()?;
    ensure!(answer.succeeded(), "{}", answer.summary());
    Ok(())
}

fn mutual(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let config = network(&json!({}));
    let named = |name: &str| -> Result<()> {
        let link = ip::link(None, "wan0")?.with_context(|| format!("no wan0 after {name}"))?;
        ensure!(link["ifalias"].is_null() && link["ifindex"].as_u64() < Some(1 << 30), "{name}: {link}");
        ip::script(
            None,
            "link set wan0 down\naddr flush dev wan0\naddr add 198.51.100.1/24 dev wan0\n-6 addr add 2001:db8:ff::1/64 dev wan0 nodad\nlink set wan0 up",
        )
    };
    let container = room.container("c1")?;
    theirs(room, "ADD", &container, &config)?;
    del(room, &container, &config)?;
    named("ours")?;
    room.attach("host-device", "ADD", &container).config(&config).run()?.result()?;
    theirs(room, "DEL", &container, &config)?;
    // Its runtime would not call ours, but a GC may come later.
    del(room, &container, &config)?;
    let link = ip::link(None, "wan0")?.context("no wan0 after theirs")?;
    ensure!(link["ifalias"].is_null() || link["ifalias"] == "", "{link}");
    // And one that died before the change.
    ip::run(&["link", "set", "wan0", "up"])?;
    let container = room.container("c2")?;
    theirs(room, "ADD", &container, &config)?;
    dies(room, &container, "eth0")?;
    del(room, &container, &config)?;
    ensure!(ip::link(None, "wan0")?.is_some(), "{:?}", ip::links(None)?);
    let container = room.container("c3")?;
    theirs(room, "ADD", &container, &config)?;
    dies(room, &container, "dev3")?;
    let (container, _) = add(room, "host-device", "c4", &config)?;
    del(room, &container, &config)?;
    drop(before);
    ensure!(ip::link(None, "wan0")?.is_some(), "{:?}", ip::links(None)?);
    Ok(())
}

fn other_network(room: &Room) -> Result<()> {
    let before = staged(room)?;
    let config = network(&json!({}));
    let (container, result) = add(room, "host-device", "c1", &config)?;
    // The name exists, so the second network's ADD fails, and runtimes send DEL after that.
    let second = with(&config, json!({"name": "second"}));
    refused(room, "host-device", &container, &second, "file exists")?;
    del(room, &container, &second)?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_some(), "DEL of a failed ADD took another network's device");
    // But the network may have been renamed, if the runtime remembers the device.
    del(room, &container, &with(&second, json!({"prevResult": result})))?;
    ensure_back(&before, "after DEL by the new name")
}

fn gc(room: &Room) -> Result<()> {
    let before = staged(room)?;
    let config = network(&json!({"cniVersion": "1.1.0"}));
    add(room, "host-device", "c1", &config)?;
    let call = |name: &str, valid: Value| -> Result<()> {
        let keys = json!({"name": name, "cni.dev/valid-attachments": valid});
        room.call("host-device", "GC").config(&with(&config, keys)).run()?.silent()
    };
    call("lan", json!([{"containerID": "c1", "ifname": "eth0"}]))?;
    call("second", json!([]))?;
    room.call("host-device", "GC").config(&config).run()?.silent()?;
    ensure!(ip::link(Some("c1"), "eth0")?.is_some(), "GC took a living attachment's device");
    call("lan", json!([]))?;
    ensure_back(&before, "after GC")
}

fn unreadable(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = network(&json!({}));
    for text in ["", "v 9\n", "\0\0"] {
        let (container, _) = add(room, "host-device", "c1", &config)?;
        for entry in fs::read_dir("/run/moor/device")?.flatten().filter(|entry| entry.file_name() != ".lock")
        {
            fs::write(entry.path(), text)?;
        }
        del(room, &container, &config)?;
        let link = ip::link(None, "wan0")?.with_context(|| format!("lost by {text:?}"))?;
        ensure!(link["ifalias"].is_null() && link["ifindex"].as_u64() < Some(1 << 30), "{link}");
        room.remove(&container)?;
    }
    Ok(())
}

fn killed(room: &Room, verb: &'static str) -> Result<()> {
    let before = staged(room)?;
    let container = room.container("c1")?;
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.7.0.0/24"}]]});
    let config = network(&json!({"ipam": ipam}));
    let victim = Victim { room, plugin: "host-device", verb, container: &container, config: &config };
    let steps = victim.killed_at_each(|| {
        ensure_back(&before, "then")?;
        ensure!(
            ip::links(Some("c1"))? == ["lo"] && store::addresses("/var/lib/cni/networks/lan")?.is_empty()
        );
        Ok(())
    })?;
    ensure!(steps > 5, "only {steps} steps");
    Ok(())
}
