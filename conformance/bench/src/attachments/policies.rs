//! Networks behind a firewall, each with a policy: bridges without containers, and calls of the
//! plugin alone. Call it in the host's namespace.

use anyhow::{Context, Result};
use harness::config::USUAL;
use harness::ip;
use serde_json::{Value, json};

use super::contender::Contender;
use super::scenario::MEASURED;
use super::shot::Shot;

/// The policy of the measured network: its port is reached, and nothing else.
pub fn policy() -> Value {
    json!({"ingress": [
        {"action": "allow", "proto": "tcp", "ports": [MEASURED.1]},
        {"action": "deny", "log": true},
    ]})
}

/// Makes that many networks with a policy each, which names the one before.
pub fn others(ours: &Contender, count: u16) -> Result<()> {
    let links: Vec<String> =
        (0..count).map(|number| format!("link add {} type bridge", bridge(number))).collect();
    ip::batch(None, &links.join("\n"))?;
    for number in 0..count {
        call(ours, "ADD", number, FIRST).fire().with_context(|| format!("add network {number}"))?;
    }
    Ok(())
}

/// The first container of a network.
pub const FIRST: &str = "first";

/// The bridge of the network of that number.
pub fn bridge(number: u16) -> String {
    format!("other{number}")
}

/// A call of the plugin for a container of the network of that number, whose bridge exists.
pub fn call(ours: &Contender, verb: &str, number: u16, container: &str) -> Shot {
    let [high, low] = number.to_be_bytes();
    let previous = json!({
        "cniVersion": USUAL, "ips": [{"address": format!("10.{}.{low}.2/24", 200 + high), "interface": 1}],
        "interfaces": [{"name": bridge(number)}, {"name": "eth0", "sandbox": "/run/netns/other"}],
    });
    let from = format!("other{}", number.saturating_sub(1));
    let ingress = match number {
        0 => json!([{"action": "deny"}]),
        _ => json!([{"action": "allow", "from": from, "proto": "tcp", "ports": [80]}, {"action": "deny"}]),
    };
    let config = json!({
        "cniVersion": USUAL, "name": bridge(number), "type": "firewall", "backend": "nftables",
        "ingressPolicy": "same-bridge", "policy": {"ingress": ingress}, "prevResult": previous,
    });
    let id = format!("{container}-{}", bridge(number));
    let env = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", &id),
        ("CNI_NETNS", "/run/netns/other"),
        ("CNI_IFNAME", "eth0"),
    ];
    Shot {
        program: ours.dir.join("firewall"),
        env: env
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .chain([("CNI_PATH".into(), ours.dir.clone().into())])
            .collect(),
        input: config.to_string(),
        tag: id.clone(),
    }
}
