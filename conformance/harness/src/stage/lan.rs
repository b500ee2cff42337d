//! Shared code of macvlan's and ipvlan's cases: a wire with a host at its far end, and who reaches
//! whom on it.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::namespace::{Container, OUTSIDE};
use crate::room::Room;
use crate::room::call::{Answer, PluginError};
use crate::strace::victim::Victim;
use crate::{ip, socket};

/// Ample time for a handshake on a local wire, neighbour discovery included.
pub const AMPLE: Duration = Duration::from_millis(700);

/// A dual-stack network on the room's `wan0`, with the far end as gateway.
pub fn lan(plugin: &str, keys: &Value) -> Value {
    let config = json!({
        "cniVersion": crate::config::USUAL, "name": "lan", "type": plugin, "master": "wan0",
        "ipam": {
            "type": "host-local",
            "ranges": [
                [{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10", "gateway": OUTSIDE[0]}],
                [{"subnet": "2001:db8:ff::/64", "rangeStart": "2001:db8:ff::10", "gateway": OUTSIDE[1]}],
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    crate::config::with(&config, keys.clone())
}

/// The two addresses that the nth container of [`lan`] gets.
pub fn addresses(nth: usize) -> [String; 2] {
    [format!("198.51.100.{}", 10 + nth), format!("2001:db8:ff::{:x}", 16 + nth)]
}

/// The same on VLAN `vlan` of the keys, or 10, with [`vlan_outside`] as gateway.
pub fn vlan_lan(plugin: &str, keys: &Value) -> Value {
    let vlan = keys["vlan"].as_u64().unwrap_or(10);
    let [v4, v6] = vlan_gateway(vlan);
    let ipam = json!({
        "type": "host-local",
        "ranges": [
            [{"subnet": format!("10.10.{vlan}.0/24"), "rangeStart": format!("10.10.{vlan}.10"), "gateway": v4}],
            [{"subnet": format!("fd00:{vlan}::/64"), "rangeStart": format!("fd00:{vlan}::10"), "gateway": v6}],
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    crate::config::with(&lan(plugin, &json!({"ipam": ipam})), keys.clone())
}

/// The outside's addresses in a VLAN.
pub fn vlan_gateway(vlan: u64) -> [String; 2] {
    [format!("10.10.{vlan}.2"), format!("fd00:{vlan}::2")]
}

/// The outside with VLANs 10 and 20 on its end of the wire.
pub fn vlan_outside(room: &Room) -> Result<()> {
    room.outside(&[])?;
    for vlan in [10, 20] {
        let [v4, v6] = vlan_gateway(vlan);
        ip::script(
            Some("outside"),
            &format!(
                "link add link eth0 name eth0.{vlan} type vlan id {vlan}
                 addr add {v4}/24 dev eth0.{vlan}
                 -6 addr add {v6}/64 dev eth0.{vlan} nodad
                 link set eth0.{vlan} up"
            ),
        )?;
    }
    Ok(())
}

/// The addresses of a result, IPv4 first, without their prefix lengths.
pub fn addresses_of(result: &Value) -> Result<[String; 2]> {
    let address = |nth: usize| {
        let text = result["ips"][nth]["address"].as_str().and_then(|text| text.split_once('/'));
        text.map(|(address, _)| address.to_owned()).with_context(|| format!("no address {nth} in {result}"))
    };
    Ok([address(0)?, address(1)?])
}

/// Waits until a condition holds that the kernel establishes in its own time.
pub fn until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + socket::patience();
    while !holds()? {
        ensure!(Instant::now() < deadline, "after {:?} not yet: {what}", socket::patience());
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// Runs ADD, which must succeed, in a new container.
pub fn add(room: &Room, plugin: &str, id: &str, config: &Value) -> Result<(Container, Value)> {
    let container = room.container(id)?;
    let result = room.attach(plugin, "ADD", &container).config(config).run()?.result()?;
    Ok((container, result))
}

/// Calls a verb for all of these containers in parallel; the answers are in their order.
pub fn at_once(room: &Room, verb: &str, containers: &[Container], config: &Value) -> Result<Vec<Answer>> {
    let plugin = config["type"].as_str().context("the configuration has no type")?;
    let one = |container| room.attach(plugin, verb, container).config(config).run();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            containers.iter().map(|container| scope.spawn(move || one(container))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a call panicked"))).collect()
    })
}

/// Detaches one container while another is attached, delaying the plugin at each of its netlink
/// messages in turn: shared objects must stay for the remaining container, and be gone in the end.
pub fn one_goes_one_comes(room: &Room, config: &Value, nothing_left: impl Fn() -> Result<()>) -> Result<()> {
    let plugin = config["type"].as_str().context("the configuration has no type")?;
    let (hindered, other) = (room.container("hindered")?, room.container("other")?);
    let run = |verb: &str, container: &Container| room.attach(plugin, verb, container).config(config).run();
    let whole = |container: &Container, result: &Value| {
        check(room, plugin, container, config, result)?.silent()?;
        run("DEL", container)?.silent()?;
        nothing_left()
    };
    let victim = |verb| Victim { room, plugin, verb, container: &hindered, config };
    victim("DEL").held_up_at_each(
        || run("ADD", &hindered)?.result(),
        || run("ADD", &other)?.result(),
        |gone, came| {
            gone.silent()?;
            whole(&other, &came)
        },
    )?;
    victim("ADD").held_up_at_each(
        || run("ADD", &other)?.result(),
        || run("DEL", &other)?.silent(),
        |came, ()| whole(&hindered, &came.result()?),
    )
}

/// CHECK with ADD's result.
pub fn check(
    room: &Room,
    plugin: &str,
    container: &Container,
    config: &Value,
    result: &Value,
) -> Result<Answer> {
    let config = crate::config::with(config, json!({"prevResult": result}));
    room.attach(plugin, "CHECK", container).config(&config).run()
}

/// Whether packets pass between a namespace (`None` is the host) and both addresses; both families
/// must agree.
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

/// Has a link of the outside cache another MAC address for these addresses. An entry in state
/// REACHABLE would be used for half a minute.
pub fn outside_caches_another(room: &Room, device: &str, addresses: &[impl AsRef<str>]) -> Result<()> {
    for address in addresses {
        let entry = ["neigh", "add", address.as_ref(), "lladdr", "0a:00:00:00:00:99", "dev", device];
        ip::run_in("outside", &[&entry[..], &["nud", "reachable"]].concat())?;
    }
    // The kernel does not change entries this young (net.ipv4.neigh.*.locktime, one second by
    // default), and old ones do not have the parameter in a user namespace, as rooms are.
    room.inside("outside", || {
        match fs::write(format!("/proc/sys/net/ipv4/neigh/{device}/locktime"), "0") {
            Err(error) if error.kind() == ErrorKind::NotFound => std::thread::sleep(LOCKTIME),
            written => written?,
        }
        Ok(())
    })
}

/// A little longer than the kernel's default of locktime.
const LOCKTIME: Duration = Duration::from_millis(1100);

/// Requires that ADD is refused: the error contains this text, and neither host, leases nor
/// container have changed.
pub fn refused(room: &Room, plugin: &str, container: &Container, config: &Value, text: &str) -> Result<()> {
    refusal(room, plugin, container, config, text).map(drop)
}

/// As [`refused`]; returns the error and the time it took.
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
