//! overlay and cluster on several hosts with a real etcd.

pub(super) mod access;
pub(super) mod addresses;
pub(super) mod clocks;
pub(super) mod departures;
pub(super) mod fates;
pub(super) mod members;
pub(super) mod names;
pub(super) mod packets;
pub(super) mod packets_guard;
pub(super) mod packets_networks;
pub(super) mod packets_scenarios;
pub(super) mod packets_underlay;
pub(super) mod records;
pub(super) mod verbs;

use std::time::Duration;

use anyhow::{Context, Result};
use harness::cluster::host::{Guest, Host};
use harness::config::{USUAL, with};
use harness::need::Need;
use serde_json::{Value, json};

const HOSTS: &[Need] = &[Need::Etcd, Need::Overlay];
const AMPLE: Duration = Duration::from_millis(700);
/// Time for one handshake. A lost packet is sent again only after a second.
const FIRST: Duration = Duration::from_millis(50);
const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn config(keys: &Value) -> Value {
    let config = json!({
        "cniVersion": USUAL, "name": "front", "type": "overlay",
        "ipam": {"type": "cluster", "subnets": ["10.9.0.0/16", "fd00:9::/64"]},
    });
    with(&config, keys.clone())
}

fn add(host: &Host, id: &str, config: &Value) -> Result<(Guest, Value)> {
    let guest = host.container(id)?;
    let result = host.attach("overlay", "ADD", &guest, config)?.result();
    let result = result.with_context(|| format!("ADD {id} on {}", host.name))?;
    Ok((guest, result))
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    let texts = ips.filter_map(|ip| Some(ip["address"].as_str()?.split('/').next()?.to_owned()));
    texts.collect()
}
