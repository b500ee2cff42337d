//! A container with two interfaces, and a gateway behind each that only this one leads to.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::config::{USUAL, with};
use crate::ip;
use crate::namespace::Container;
use crate::room::Room;
use crate::room::call::{Answer, Call};
use crate::socket;
use crate::stage::lan::AMPLE;

/// The container's interfaces. The main table prefers the first one's default routes.
pub const LINKS: [&str; 2] = ["eth0", "net1"];

/// The container's addresses on the nth interface, without prefix lengths.
pub fn addresses(nth: usize) -> [String; 2] {
    [format!("10.{}.0.5", nth + 1), format!("fd0{}::5", nth + 1)]
}

/// The gateways' addresses there.
pub fn gateways(nth: usize) -> [String; 2] {
    [format!("10.{}.0.1", nth + 1), format!("fd0{}::1", nth + 1)]
}

/// The container and its gateways `gw0` and `gw1`.
pub fn two_ways(room: &Room) -> Result<Container> {
    let container = room.container("c1")?;
    let mut links = String::from("link set lo up\n");
    for (nth, link) in LINKS.iter().enumerate() {
        let gateway = room.container(&format!("gw{nth}"))?.id;
        // Different indices at both ends: otherwise the carrier comes late.
        let index = (100 + nth).to_string();
        let pair =
            ["link", "add", link, "netns", "c1", "index", &index, "type", "veth", "peer", "name", "wan"];
        ip::run(&[&pair[..], &["netns", &gateway]].concat())?;
        let ([own4, own6], [far4, far6], metric) = (addresses(nth), gateways(nth), 100 * (nth + 1));
        let far = format!(
            "link set lo up
             link set wan up
             addr add {far4}/24 dev wan
             addr add {far6}/64 dev wan nodad
             addr add 203.0.113.{nth}/32 dev lo
             addr add 2001:db8:113::{nth}/128 dev lo nodad
             route add {own4}/32 dev wan src 203.0.113.{nth}
             route add {own6}/128 dev wan src 2001:db8:113::{nth}
            "
        );
        ip::batch(Some(&gateway), &far)?;
        links += &format!(
            "addr add {own4}/24 dev {link}
             addr add {own6}/64 dev {link} nodad
             link set {link} up
             route add default via {far4} dev {link} metric {metric}
             route add default via {far6} dev {link} metric {metric}
            "
        );
    }
    ip::batch(Some("c1"), &links)?;
    // The kernel does not answer on a link before it has settled.
    for address in [gateways(0), gateways(1)].iter().flatten() {
        room.reach("c1", address)?;
    }
    Ok(container)
}

/// Whether the nth gateway's questions to the container are answered, in each family. They come
/// from an address that no other gateway knows.
pub fn answered(room: &Room, nth: usize) -> Result<[bool; 2]> {
    let mut answered = [false; 2];
    for (is, address) in answered.iter_mut().zip(addresses(nth)) {
        let address = address.parse()?;
        *is = room.inside(&format!("gw{nth}"), || Ok(socket::reach(address, AMPLE).is_ok()))?;
    }
    Ok(answered)
}

/// The result of the plugin that made the nth interface.
pub fn previous(nth: usize) -> Value {
    let sandbox = "/run/netns/c1";
    let (own, far) = (addresses(nth), gateways(nth));
    json!({
        "cniVersion": USUAL, "interfaces": [{"name": LINKS.get(nth), "sandbox": sandbox}],
        "ips": [
            {"interface": 0, "address": format!("{}/24", own[0]), "gateway": far[0]},
            {"interface": 0, "address": format!("{}/64", own[1]), "gateway": far[1]},
        ],
    })
}

/// The configuration of a plugin that follows it.
pub fn chained(plugin: &str, nth: usize, keys: Value) -> Value {
    let config = json!({"cniVersion": USUAL, "name": "net", "type": plugin, "prevResult": previous(nth)});
    with(&config, keys)
}

/// A call of that plugin for the nth interface.
pub fn call<'r>(room: &'r Room, verb: &str, container: &Container, nth: usize, config: &Value) -> Call<'r> {
    let plugin = config["type"].as_str().unwrap_or_default();
    let call = room.attach(plugin, verb, container).config(config);
    call.env("CNI_IFNAME", LINKS.get(nth).copied().unwrap_or_default())
}

/// The same, run.
pub fn run(room: &Room, verb: &str, container: &Container, nth: usize, config: &Value) -> Result<Answer> {
    call(room, verb, container, nth, config).run().with_context(|| format!("{verb} of interface {nth}"))
}
