//! What the cases of macvlan and ipvlan share: a wire with somebody at its far end, and who reaches whom on it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::room::Room;
use crate::room::call::{Answer, PluginError};
use crate::room::netns::{Container, OUTSIDE};
use crate::{ip, socket};

/// Ample for a handshake on a wire of this machine's, also when the neighbour has to be asked for.
const AMPLE: Duration = Duration::from_millis(700);

/// A dual-stack network on the room's `wan0`, whose far end is the gateway.
pub fn lan(plugin: &str, keys: &Value) -> Value {
    let config = json!({
        "cniVersion": super::USUAL, "name": "lan", "type": plugin, "master": "wan0",
        "ipam": {
            "type": "host-local",
            "ranges": [
                [{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10", "gateway": OUTSIDE[0]}],
                [{"subnet": "2001:db8:ff::/64", "rangeStart": "2001:db8:ff::10", "gateway": OUTSIDE[1]}],
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    super::with(&config, keys.clone())
}

/// The two addresses that the nth container of [`lan`] gets.
pub fn addresses(nth: usize) -> [String; 2] {
    [format!("198.51.100.{}", 10 + nth), format!("2001:db8:ff::{:x}", 16 + nth)]
}

/// ADD that must succeed, in a new container.
pub fn add(room: &Room, plugin: &str, id: &str, config: &Value) -> Result<(Container, Value)> {
    let container = room.container(id)?;
    let result = room.attach(plugin, "ADD", &container).config(config).run()?.result()?;
    Ok((container, result))
}

/// CHECK with ADD's result.
pub fn check(
    room: &Room,
    plugin: &str,
    container: &Container,
    config: &Value,
    result: &Value,
) -> Result<Answer> {
    let config = super::with(config, json!({"prevResult": result}));
    room.attach(plugin, "CHECK", container).config(&config).run()
}

/// Whether packets come and go between a namespace (`None` is the host) and both addresses; both families must agree.
pub fn reaches(room: &Room, from: Option<&str>, to: &[String; 2]) -> Result<bool> {
    let mut reached = vec![];
    for address in to {
        let address = address.parse()?;
        let answer = match from {
            Some(ns) => room.inside(ns, || Ok(socket::reach(address, AMPLE).is_ok()))?,
            None => socket::reach(address, AMPLE).is_ok(),
        };
        reached.push(answer);
    }
    ensure!(reached[0] == reached[1], "from {from:?} to {to:?}: IPv4 {}, IPv6 {}", reached[0], reached[1]);
    Ok(reached[0])
}

/// The outside's addresses.
pub fn outside() -> [String; 2] {
    OUTSIDE.map(str::to_owned)
}

/// A refused ADD: the error has this text, and neither host, leases nor container have anything new.
pub fn refused(room: &Room, plugin: &str, container: &Container, config: &Value, text: &str) -> Result<()> {
    refusal(room, plugin, container, config, text).map(drop)
}

/// The same, for the error and how long it took.
pub fn refusal(
    room: &Room,
    plugin: &str,
    container: &Container,
    config: &Value,
    text: &str,
) -> Result<(PluginError, Duration)> {
    let before = room.snapshot()?;
    let links = ip::links(Some(&container.id))?;
    let answer = room.attach(plugin, "ADD", container).config(config).run()?;
    let error = answer.error()?;
    ensure!(error.msg.contains(text), "expected {text:?} in the message, got {error}");
    room.ensure_nothing_left(&before, &[&container.id])?;
    let now = ip::links(Some(&container.id))?;
    ensure!(now == links, "links of the container: {links:?} before, {now:?} after {text:?}");
    Ok((error, answer.took))
}
