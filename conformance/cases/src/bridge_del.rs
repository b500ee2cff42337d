//! bridge DEL and GC leave nothing of an attachment, whatever is missing (C-042, C-114).

use std::fs::{self, File};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::room::Room;
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("bridge/del_matrix_namespace_fine", &["C-042", "C-122", "BR-9"], |room| {
        matrix(room, Netns::Fine)
    }),
    Case::new("bridge/del_matrix_namespace_empty", &["C-042", "C-114", "R-3", "BR-9"], |room| {
        matrix(room, Netns::Empty)
    }),
    Case::new("bridge/del_matrix_namespace_gone", &["C-042", "C-114", "R-3", "BR-9"], |room| {
        matrix(room, Netns::Gone)
    }),
    Case::new("bridge/del_matrix_namespace_is_a_plain_file", &["C-042", "C-113", "R-3", "BR-B8"], |room| {
        matrix(room, Netns::File)
    }),
    Case::new("bridge/del_without_namespace_path_finds_the_link", &["C-114", "R-3", "BR-9"], living_link),
    Case::new("bridge/del_of_an_unknown_attachment_creates_nothing", &["C-042", "BR-9"], unknown),
    Case::new("bridge/del_with_invalid_keys_still_cleans_up", &["R-4", "BR-R3", "HL-R1"], broken_rest),
    Case::new("bridge/del_does_not_touch_others", &["C-042", "C-047", "BR-10"], others),
    Case::new("bridge/gc_removes_invalid_attachments", &["C-045", "C-046", "BR-R2"], gc),
    Case::new(
        "bridge/gc_without_the_key_removes_nothing",
        &["C-046", "R-6", "BR-R2", "BR-10"],
        gc_without_key,
    ),
];

#[derive(Clone, Copy, PartialEq)]
enum Netns {
    Fine,
    Empty,
    Gone,
    File,
}

/// DEL with {prevResult, none} x {once, twice}, in one state of the namespace.
fn matrix(room: &Room, netns: Netns) -> Result<()> {
    // The network exists before, so that only the attachment's objects can be left over.
    let first = room.container("first")?;
    room.attach("bridge", "ADD", &first).config(&bridge(USUAL)).run()?.result()?;
    for prev in [true, false] {
        let before = room.snapshot()?;
        let container = room.container("c1")?;
        let result = room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
        if netns == Netns::Gone || netns == Netns::File {
            room.remove(&container)?;
        }
        if netns == Netns::File {
            File::create(&container.path)?;
        }
        let config = with(&bridge(USUAL), json!({"prevResult": if prev { result } else { json!(null) }}));
        for time in ["once", "twice"] {
            let call = room.attach("bridge", "DEL", &container).config(&config);
            let call = if netns == Netns::Empty { call.env("CNI_NETNS", "") } else { call };
            call.run()?.silent().with_context(|| format!("prevResult {prev}, {time}"))?;
            if netns == Netns::Fine || netns == Netns::Empty {
                let links = ip::links(Some("c1"))?;
                ensure!(links == ["lo"], "prevResult {prev}, {time}: the container has {links:?}");
            }
            room.ensure_nothing_left(&before, &["c1"])
                .with_context(|| format!("prevResult {prev}, {time}"))?;
        }
        match netns {
            Netns::Fine | Netns::Empty => room.remove(&container)?,
            Netns::File => fs::remove_file(&container.path)?,
            Netns::Gone => {}
        }
    }
    room.reach("first", "10.1.2.1")
}

fn living_link(room: &Room) -> Result<()> {
    // The namespace exists (a process holds it), but the runtime has lost its path.
    let container = room.container("c1")?;
    room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    let held = File::open(&container.path)?;
    room.remove(&container)?;
    let before: Vec<_> = ip::links(None)?.into_iter().filter(|name| name.starts_with("veth")).collect();
    ensure!(before.len() == 1, "{before:?}");
    room.attach("bridge", "DEL", &container).config(&bridge(USUAL)).run()?.silent()?;
    let after: Vec<_> = ip::links(None)?.into_iter().filter(|name| name.starts_with("veth")).collect();
    drop(held);
    ensure!(after.is_empty(), "the host end is still there: {after:?}");
    Ok(())
}

fn unknown(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    for _ in 0..2 {
        room.attach("bridge", "DEL", &container).config(&bridge(USUAL)).run()?.silent()?;
    }
    room.ensure_nothing_left(&before, &["c1"])?;
    ensure!(ip::link(None, "br0")?.is_none(), "DEL created a bridge");
    Ok(())
}

fn broken_rest(room: &Room) -> Result<()> {
    for (n, keys) in [
        json!({"vlan": 5000}),
        json!({"mtu": "large"}),
        json!({"hairpinMode": true, "promiscMode": true}),
        json!({"ipMasq": true}),
        json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.5/24"}]]}}),
        json!({"runtimeConfig": {"mac": "zz"}}),
    ]
    .into_iter()
    .enumerate()
    {
        let before = room.snapshot()?;
        let id = format!("c{n}");
        let container = room.container(&id)?;
        room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
        let call = room.attach("bridge", "DEL", &container).config(&with(&bridge(USUAL), keys.clone()));
        call.run()?.silent().with_context(|| keys.to_string())?;
        room.ensure_nothing_left(&before, &[&id]).with_context(|| keys.to_string())?;
    }
    Ok(())
}

fn others(room: &Room) -> Result<()> {
    let (one, two) = (room.container("c1")?, room.container("c2")?);
    for container in [&one, &two] {
        room.attach("bridge", "ADD", container).config(&bridge(USUAL)).run()?.result()?;
    }
    let other = with(&bridge(USUAL), json!({"name": "other"}));
    // The same container in another network: this network's lease and link are not affected.
    room.attach("bridge", "DEL", &one).env("CNI_NETNS", "").config(&other).run()?.silent()?;
    room.attach("bridge", "DEL", &one).env("CNI_IFNAME", "eth1").config(&bridge(USUAL)).run()?.silent()?;
    room.reach("c1", "10.1.2.3")?;
    room.attach("bridge", "DEL", &one).config(&bridge(USUAL)).run()?.silent()?;
    room.reach("c2", "10.1.2.1")
}

fn attach_three(room: &Room) -> Result<()> {
    for id in ["c1", "c2", "c3"] {
        room.attach("bridge", "ADD", &room.container(id)?).config(&bridge("1.1.0")).run()?.result()?;
    }
    Ok(())
}

fn leases(room: &Room) -> Vec<String> {
    let leases = room.files().into_iter().filter(|line| line.contains("/10.1.2."));
    leases.filter_map(|line| Some(line.split('"').nth(1)?.split("\\r").next()?.to_owned())).collect()
}

fn gc(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    attach_three(room)?;
    let foreign = room.container("foreign")?;
    let other = with(
        &bridge("1.1.0"),
        json!({"name": "other", "bridge": "br1", "ipam": {"type": "host-local", "subnet": "10.5.0.0/24"}}),
    );
    room.attach("bridge", "ADD", &foreign).config(&other).run()?.result()?;
    // c3's namespace is gone, as after a crash of the runtime; c1 is valid; eth9 of c2 never
    // existed.
    room.remove(&harness::namespace::Container { id: "c3".into(), path: "/run/netns/c3".into() })?;
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth9"}]);
    let config =
        with(&bridge("1.1.0"), json!({"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}));
    for _ in 0..2 {
        room.call("bridge", "GC").config(&config).run()?.silent()?;
        ensure!(leases(room) == ["c1"], "leases of {:?}", leases(room));
        ensure!(ip::link(Some("c2"), "eth0")?.is_none(), "c2 still has its interface");
        room.reach("c1", "10.1.2.1")?;
        room.reach("foreign", "10.5.0.1").or_else(|_| {
            ensure!(ip::link(Some("foreign"), "eth0")?.is_some(), "GC removed another network's interface");
            Ok(())
        })?;
    }
    // null means the empty set.
    let config = with(&bridge("1.1.0"), json!({"cni.dev/valid-attachments": null}));
    room.call("bridge", "GC").config(&config).run()?.silent()?;
    room.attach("bridge", "DEL", &foreign).config(&other).run()?.silent()?;
    let left = room.left_since(&before, &["br0", "br1"], &["c1", "c2", "c3", "foreign"])?;
    ensure!(left.is_empty(), "left behind: {}", harness::diff::shown(&left));
    Ok(())
}

fn gc_without_key(room: &Room) -> Result<()> {
    attach_three(room)?;
    let before = room.snapshot()?;
    room.call("bridge", "GC").config(&bridge("1.1.0")).run()?.silent()?;
    room.ensure_unchanged(&before, "GC without a list of valid attachments removed something")
}
