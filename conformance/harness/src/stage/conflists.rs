//! The conflists of a directory, and what they need to run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use runtime::{Conflist, PluginConf, Runtime};

use crate::ip;
use crate::namespace::OUTSIDE;
use crate::need::Need;
use crate::room::Room;

fn has(list: &Conflist, types: &[&str]) -> bool {
    list.plugins.iter().any(|plugin| types.contains(&plugin.plugin_type.as_str()))
}

/// Whether the list is for many hosts: it needs etcd and an agent, which the cases of `overlay` have.
pub fn is_of_many_hosts(list: &Conflist) -> bool {
    let of_cluster =
        |plugin: &PluginConf| plugin.object.get("ipam").is_some_and(|ipam| ipam["type"] == "cluster");
    has(list, &["overlay"]) || list.plugins.iter().any(of_cluster)
}

/// The kernel features that the list needs and some kernels lack.
pub fn needs(list: &Conflist) -> Vec<Need> {
    let key = |name: &str| list.plugins.iter().any(|plugin| plugin.object.contains_key(name));
    let stacked = has(list, &["macvlan", "ipvlan"]);
    let leased = |plugin: &PluginConf| plugin.object.get("ipam").is_some_and(|ipam| ipam["type"] == "dhcp");
    let by_iptables =
        |plugin: &PluginConf| plugin.object.get("backend").is_some_and(|name| name == "iptables");
    let needs = [
        (Need::DhcpServers, list.plugins.iter().any(leased)),
        (Need::Iptables, list.plugins.iter().any(by_iptables)),
        (Need::Ipvlan, has(list, &["ipvlan"])),
        (Need::Tap, has(list, &["tap"])),
        (Need::VlanLinks, stacked && key("vlan") || has(list, &["vlan"])),
        (Need::Dummy, stacked && key("internal") || has(list, &["dummy"])),
        (Need::Vrf, has(list, &["vrf"])),
    ];
    needs.into_iter().filter_map(|(need, it_does)| it_does.then_some(need)).collect()
}

/// Prepares the host for a list: macvlan and ipvlan use the link of the default route unless they
/// name another; host-device takes the one it names, vlan
/// names `eth0`.
pub fn stage(room: &Room, list: &Conflist) -> Result<()> {
    for plugin in list.plugins.iter().filter(|plugin| plugin.plugin_type == "host-device") {
        let device = plugin.object.get("device").and_then(|name| name.as_str()).context("no device")?;
        ip::run(&["link", "add", device, "type", "veth", "peer", "name", "far0"])?;
        ip::run(&["link", "set", "far0", "up"])?;
    }
    if has(list, &["vlan"]) && ip::link(None, "eth0")?.is_none() {
        return ip::script(
            None,
            "link add eth0 type veth peer name eth0-far\n link set eth0 up\n link set eth0-far up",
        );
    }
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

/// The interface of a list: `lo` for loopback's, otherwise `eth0`.
pub fn ifname(list: &Conflist) -> &'static str {
    if list.plugins.iter().any(|plugin| plugin.plugin_type == "loopback") { "lo" } else { "eth0" }
}

/// A runtime with the suite's plugins.
pub fn runtime(room: &Room) -> Runtime {
    let mut runtime = Runtime::new(vec![room.suite.clone()], "/var/lib/cni");
    runtime.timeout = Duration::from_secs(20);
    runtime.forward_stderr = false;
    runtime
}
