//! Every conflist in testdata/net.d, loaded and run as a runtime would (C-120 to C-122, libcni_runtime 4).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runtime::{Attachment, Conflist, Runtime};

use crate::case::Case;
use crate::ip;
use crate::need::Need;
use crate::room::netns::OUTSIDE;
use crate::room::{Room, shown};

pub const CASES: &[Case] = &[
    Case::new("conflists/every_file_loads_and_runs", &["C-040", "C-042", "C-122"], |room| {
        every_file(room, |needs| needs.is_empty())
    }),
    Case::new("conflists/every_file_with_ipvlan_loads_and_runs", &["C-040", "C-042", "C-122"], |room| {
        every_file(room, |needs| needs == [Need::Ipvlan])
    })
    .needs(&[Need::Ipvlan]),
    Case::new(
        "conflists/every_file_with_a_parent_on_demand_loads_and_runs",
        &["C-040", "C-042", "C-122"],
        |room| every_file(room, |needs| needs == [Need::VlanLinks] || needs == [Need::Dummy]),
    )
    .needs(&[Need::VlanLinks, Need::Dummy]),
];

fn has(list: &Conflist, types: &[&str]) -> bool {
    list.plugins.iter().any(|plugin| types.contains(&plugin.plugin_type.as_str()))
}

/// What the list needs of the kernel that not every kernel has.
pub fn needs(list: &Conflist) -> Vec<Need> {
    let key = |name: &str| list.plugins.iter().any(|plugin| plugin.object.contains_key(name));
    let stacked = has(list, &["macvlan", "ipvlan"]);
    let needs = [
        (Need::Ipvlan, has(list, &["ipvlan"])),
        (Need::VlanLinks, stacked && key("vlan")),
        (Need::Dummy, stacked && key("internal")),
    ];
    needs.into_iter().filter_map(|(need, it_does)| it_does.then_some(need)).collect()
}

/// What a list expects of its host: macvlan and ipvlan are on the link of the default route unless they name another.
pub fn stage(room: &Room, list: &Conflist) -> Result<()> {
    if !has(list, &["macvlan", "ipvlan"]) || ip::link(None, "wan0")?.is_some() {
        return Ok(());
    }
    room.outside(&[])?;
    ip::run(&["route", "add", "default", "via", OUTSIDE[0]])
}

/// The conflists of a directory with their file names, in order.
pub fn load(net_d: &Path) -> Result<Vec<(String, Conflist)>> {
    let dir = std::fs::read_dir(net_d).with_context(|| format!("list {}", net_d.display()))?;
    let mut paths: Vec<_> = dir.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conflist"));
    paths.sort();
    let load = |path: PathBuf| {
        let list = Conflist::from_file(&path).with_context(|| format!("load {}", path.display()))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok((name.unwrap_or_default(), list))
    };
    paths.into_iter().map(load).collect()
}

/// The interface that a list is for: `lo` for loopback's, else `eth0`.
pub fn ifname(list: &Conflist) -> &'static str {
    if list.plugins.iter().any(|plugin| plugin.plugin_type == "loopback") { "lo" } else { "eth0" }
}

/// A runtime over the suite.
pub fn runtime(room: &Room) -> Runtime {
    let mut runtime = Runtime::new(vec![room.suite.clone()], "/var/lib/cni");
    runtime.timeout = Duration::from_secs(20);
    runtime.forward_stderr = false;
    runtime
}

fn every_file(room: &Room, wanted: fn(&[Need]) -> bool) -> Result<()> {
    let runtime = runtime(room);
    let lists = load(&room.net_d)?;
    let lists: Vec<_> = lists.into_iter().filter(|(_, list)| wanted(&needs(list))).collect();
    ensure!(!lists.is_empty(), "no such conflist in {}", room.net_d.display());
    for (file, mut list) in lists {
        stage(room, &list)?;
        list.version = room.newest_common(&list)?;
        let before = room.snapshot()?;
        let container = room.container(&format!("c-{}", list.name))?;
        let attachment = Attachment::new(&container.id, container.path.display().to_string(), ifname(&list));
        let told = |verb: &'static str| {
            let file = file.clone();
            move || format!("{file}: {verb}")
        };
        runtime.add(&list, &attachment).with_context(told("ADD"))?;
        if list.version.as_str() >= "0.4.0" {
            runtime.check(&list, &attachment).with_context(told("CHECK"))?;
        }
        runtime.status(&list).with_context(told("STATUS"))?;
        runtime.del(&list, &attachment).with_context(told("DEL"))?;
        runtime.del(&list, &attachment).with_context(told("DEL again"))?;
        let bridges: Vec<_> =
            list.plugins.iter().filter_map(|plugin| plugin.object.get("bridge")?.as_str()).collect();
        let left = room.left_since(&before, &bridges, &[&container.id])?;
        ensure!(left.is_empty(), "{file}: left behind: {}", shown(&left));
    }
    Ok(())
}
