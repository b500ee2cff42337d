//! A container with a link for `tuning`, and its configurations.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use crate::config::{USUAL, with};
use crate::ip;
use crate::namespace::Container;
use crate::room::Room;

/// The link's MAC address before.
pub const MAC: &str = "02:00:00:00:00:01";
/// Where backups are.
pub const DIR: &str = "/run/cni/tuning";

/// A container with `eth0`, and the result of the plugin that made it.
pub fn linked(room: &Room, id: &str) -> Result<(Container, Value)> {
    let container = room.container(id)?;
    let script = format!(
        "link add eth0 address {MAC} type veth peer name far0
         link set eth0 up"
    );
    ip::script(Some(id), &script)?;
    // The other end is in the same namespace: what the container sends is not for it.
    room.inside(id, || Ok(fs::write("/proc/sys/net/ipv6/conf/far0/accept_ra", "0")?))?;
    ip::run_in(id, &["link", "set", "far0", "up"])?;
    let eth0 = json!({"name": "eth0", "mac": MAC, "sandbox": container.path});
    let ips = json!([{"interface": 0, "address": "10.1.2.3/24"}]);
    Ok((container, json!({"cniVersion": USUAL, "interfaces": [eth0], "ips": ips})))
}

/// A configuration of the plugin.
pub fn tuning(previous: &Value, keys: Value) -> Value {
    let base = json!({"cniVersion": USUAL, "name": "net", "type": "tuning", "prevResult": previous});
    with(&base, keys)
}

/// Every setting of the link, changed.
pub fn everything() -> Value {
    json!({"mac": "02:00:00:00:00:AA", "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 50,
           "sysctl": {"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1"}})
}

/// The plugin's records and backups. A snapshot of the room omits files that name a namespace.
pub fn kept() -> Vec<String> {
    let of = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let paths = of("/run/moor/tuning").chain(of(DIR)).chain(of("/run/elsewhere"));
    let paths = paths.map(|path| path.display().to_string());
    paths.filter(|path| !path.ends_with("/.lock")).collect()
}
